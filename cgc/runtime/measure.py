"""
The measuring mode of a worker: a loop that notes when each operation started and ended.

It is a loop of its own, chosen when the graph is compiled (`measure=True`), so that the ordinary one pays nothing. The
clock is the node's monotonic one: what different processes of a node note can be compared.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

KEPT = 1000
"""Executions that are remembered, the last ones."""

Sample = tuple[int, int, int]
"""(execution from 1 on, start, end) of one operation, in nanoseconds."""


class Recorder:
    """Runs an actor's steps and keeps a record of them; one thread runs, any other may ask."""

    def __init__(self, operations: int) -> None:
        self._samples: list[deque[Sample]] = [deque(maxlen=KEPT) for _ in range(operations)]

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
                note((execution, start, now()))

    def samples(self) -> list[list[Sample]]:
        """What is remembered of each operation, by its position in the program."""
        return [list(samples) for samples in self._samples]
