"""
The measuring mode of a worker: a loop that notes when each operation started and ended.

It is a loop of its own, chosen when the graph is compiled (`measure=True`), so that the ordinary one pays nothing. The
clock is the node's monotonic one: what different processes of a node note can be compared. Sizes of messages are
counted when the clock has been read, so that counting is not in the times.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cgc.runtime import serialization
    from cgc.runtime.link import WriteMessage

KEPT = 1000
"""Executions that are remembered, the last ones."""

Sample = tuple[int, int, int, int]
"""(execution from 1 on, start, end, bytes) of one operation, times in nanoseconds; bytes that it wrote to memory."""


class Recorder:
    """Runs an actor's steps and keeps a record of them; one thread runs, any other may ask."""

    def __init__(self, operations: int) -> None:
        self._samples: list[deque[Sample]] = [deque(maxlen=KEPT) for _ in range(operations)]
        self._sent: tuple[serialization.Buffer, Sequence[serialization.Buffer]] | None = None

    def noting(self, write: WriteMessage) -> WriteMessage:
        """`write`, which also tells the recorder what it has sent."""

        def write_and_tell(kind: int, blob: serialization.Buffer, buffers: Sequence[serialization.Buffer]) -> None:
            self._sent = (blob, buffers)
            write(kind, blob, buffers)

        return write_and_tell

    def run(self, steps: Sequence[Callable[[], None]], progress: memoryview) -> None:
        """The loop, as `worker` has it, until a step raises."""
        now = time.monotonic_ns
        numbered = [(number, step, self._samples[number].append) for number, step in enumerate(steps)]
        execution = 0
        while True:
            execution += 1
            progress[0] = execution
            for number, step, note in numbered:
                progress[1] = number
                progress[2] = start = now()
                step()
                note((execution, start, now(), 0 if self._sent is None else self._count_sent()))

    def _count_sent(self) -> int:
        """The bytes of the message that the last step has sent, which is let go of: it may be a view of a segment."""
        sent, self._sent = self._sent, None
        if sent is None:
            return 0
        blob, buffers = sent
        return len(blob) + sum(memoryview(buffer).nbytes for buffer in buffers)

    def samples(self) -> list[list[Sample]]:
        """What is remembered of each operation, by its position in the program."""
        return [list(samples) for samples in self._samples]
