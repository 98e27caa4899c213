"""
The streams of adversarial devices, and the lots by which they advance. See `adversary`.

A world with the same seed that is used in the same way by one thread does exactly the same. With `hosts` (threads that
wait for each other through it) or `autonomous=True` (streams run on a thread of their own instead of only when the host
waits) the lots depend on the machine's timing, too.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

DEADLINE = 20.0
"""Seconds that a host waits for others."""

Task = Callable[[], None]


class AdversarialEvent:
    """A point of a stream that has been reached when the stream's marker task has run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.reached = False

    def now(self) -> AdversarialEvent:
        """What a stream waits for that is told to wait now."""
        return self

    def query(self) -> bool:
        with self._world.lock:
            return self.reached

    def synchronize(self) -> None:
        self._world.run_until(lambda: self.reached)


class AdversarialStream:
    """A queue of tasks. An event in the queue is a marker if it is this stream's own, and else a wait."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.queue: deque[Task | tuple[str, AdversarialEvent] | Meeting | Together] = deque()
        world.streams.append(self)

    def record_event(self) -> AdversarialEvent:
        event = AdversarialEvent(self.world)
        self.push(("reach", event))
        return event

    def wait_event(self, event: Any) -> None:
        self.push(("wait", event.now()))

    def push(self, task: Task | tuple[str, AdversarialEvent] | Meeting | Together) -> None:
        with self.world.lock:
            self.queue.append(task)


class Conditional:
    """A task that can run only once `ready()` holds."""

    def __init__(self, ready: Callable[[], bool], task: Task) -> None:
        self.ready = ready
        self.task = task

    def __call__(self) -> None:
        self.task()


class Meeting:
    """A send and a receive that complete together; each of two streams has it in its queue."""

    def __init__(self) -> None:
        self.source: Block | None = None
        self.target: Block | None = None
        self.over = False

    @property
    def meetings(self) -> tuple[Meeting, ...]:
        return (self,)

    def take_place(self) -> None:
        """Both streams are here, or one has gone on."""
        if not self.over:
            assert self.source is not None
            assert self.target is not None
            self.target.octets[:] = self.source.octets
            self.over = True


class Together:
    """Meetings that a stream is at all at once, and leaves when all are over."""

    def __init__(self, meetings: Sequence[Meeting]) -> None:
        self.meetings = tuple(meetings)

    def take_place(self) -> None:
        for meeting in self.meetings:
            meeting.take_place()


class World:
    """Devices that share one lottery."""

    def __init__(self, seed: int, *, autonomous: bool = False, hosts: int = 1) -> None:
        self.hosts = hosts
        self.lock = threading.RLock()
        self.streams: list[AdversarialStream] = []
        self.meetings: dict[tuple[int, int], tuple[deque[Meeting], deque[Meeting]]] = {}
        self.stopped = False
        self.frozen = False
        self.violations: list[str] = []
        self._random = random.Random(seed)
        self._starved: set[int] = set()
        self._thread = threading.Thread(target=self._run, daemon=True) if autonomous else None
        if self._thread is not None:
            self._thread.start()

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Run tasks by lot until `condition` holds. Raises `AssertionError` if it never will."""
        deadline = time.monotonic() + DEADLINE
        while True:
            with self.lock:
                if condition() or self.stopped:
                    return
                ran = self.step()
            if not ran:
                alone = self.hosts == 1 and self._thread is None
                assert not alone, "the host waits for something that no stream will ever do"
                assert time.monotonic() < deadline, "no host has queued what this one waits for"
                time.sleep(0.0001)  # another host has to queue its part

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Note what is violated where no caller would see it."""
        try:
            yield
        except AssertionError as error:
            self.violations.append(str(error))

    def drain(self) -> None:
        """Run everything that can run."""
        with self.lock:
            while self.step():
                pass

    def step(self) -> bool:
        """Run one task of one stream; False if there is none that can run."""
        if self.frozen:
            return False
        if self._random.random() < 0.1:
            self._starved = {n for n in range(len(self.streams)) if self._random.random() < 0.5}
        ready = [n for n, stream in enumerate(self.streams) if self._is_ready(stream)]
        if not ready:
            return False
        number = self._random.choice([n for n in ready if n not in self._starved] or ready)
        task = self.streams[number].queue.popleft()
        if isinstance(task, Meeting | Together):
            task.take_place()
        elif isinstance(task, tuple):
            if task[0] == "reach":
                task[1].reached = True
        else:
            task()
        return True

    def stop(self) -> None:
        self.stopped = True
        if self._thread is not None:
            self._thread.join(10)

    def _is_ready(self, stream: AdversarialStream) -> bool:
        if not stream.queue:
            return False
        first = stream.queue[0]
        if isinstance(first, Meeting | Together):
            return all(self._is_met(meeting, stream) for meeting in first.meetings)
        if isinstance(first, Conditional):
            return first.ready()
        return not (isinstance(first, tuple) and first[0] == "wait" and not first[1].reached)

    def _is_met(self, meeting: Meeting, stream: AdversarialStream) -> bool:
        """True if both streams are at the meeting, or the other one has passed it."""
        return meeting.over or any(
            other is not stream and other.queue and meeting in getattr(other.queue[0], "meetings", ())
            for other in self.streams
        )

    def _run(self) -> None:
        pause = random.Random(self._random.random())
        while not self.stopped:
            with self.lock:
                ran = self.step()
            time.sleep(0.0 if ran and pause.random() < 0.95 else 0.001)


class Block:
    """Memory of a device. Tasks hold blocks and not arrays: they do not keep memory from being freed."""

    def __init__(self, octets: np.ndarray[Any, Any], is_own: bool = True) -> None:
        self.octets = octets
        self.is_own = is_own
