"""
The order in which Ray's scheduler puts the same calls and messages, as one more candidate for `order.py`.

Each call is three steps: it takes its messages, computes, sends its messages. A step can go when those before it have
gone: the computation of the call before on the same actor; of all that the call takes, also from its own actor, the
sends. Of the steps that can go, those of which the ends have to meet go first, then those of the call (at either end)
with the lowest number on its actor, then of the one that was bound first. Time matters only for which message of a call
is taken first, and a call takes its messages as soon as they exist, even if the actor has other calls to make before.
That is seldom the best order, but now and then it is, and since it is tried, no order that is chosen is predicted to be
longer than Ray's.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from cgc.passes.analysis.events import Clock, Event, EventKind, Message, Overlapped, Task

_TAKE, _COMPUTE, _SEND = range(3)


class _Step(NamedTuple):
    """One step of a call; the least of those that can go goes next."""

    alone: bool
    position: int
    first: int
    kind: int
    task: int


def bind_order(actors: int, tasks: list[Task], messages: list[Message]) -> tuple[list[Event], float]:
    """Order tasks and messages, with the predicted makespan, as `order.timed_order` does; see the top of this file."""
    lister = _Lister(actors, tasks, messages)
    lister.run()
    return lister.order, lister.clock.makespan


def overlapped_bind_order(actors: int, tasks: list[Task], messages: list[Message]) -> Overlapped:
    """
    The same order with meetings on streams: issued when their value exists, before the calls that then run.

    Each stream takes them as they stand in the order. Sorting by when calls end and meetings are issued makes one line
    of it again, since nothing that an event needs ends later than itself.
    """
    return _Streams(actors, tasks, messages).overlapped(bind_order(actors, tasks, messages)[0])


class _Lister:
    """Topological order of the steps, the least first."""

    def __init__(self, actors: int, tasks: list[Task], messages: list[Message]) -> None:
        self.tasks = tasks
        self.messages = messages
        self.order: list[Event] = []
        self.clock = Clock(actors, tasks, messages)
        self.heap: list[_Step] = []
        self.sent_by: list[list[int]] = [[] for _ in tasks]
        self.taken_by: list[list[tuple[int, int]]] = [[] for _ in tasks]
        for number, message in enumerate(messages):
            self.sent_by[message.source].append(number)
            for actor, consumer in message.receivers:
                self.taken_by[consumer].append((number, actor))
        self.users: list[list[int]] = [[] for _ in tasks]
        for index, task in enumerate(tasks):
            for source in task.needs:
                self.users[source].append(index)
        for message in messages:
            self.users[message.source] += dict.fromkeys(consumer for _, consumer in message.receivers)
        self.missing = [0] * len(tasks)
        for users in self.users:
            for user in users:
                self.missing[user] += 1
        self.position: list[int] = []
        self.followers: list[list[int]] = [[] for _ in tasks]
        self.blocked = [0] * len(tasks)
        last: list[int | None] = [None] * actors
        count = [0] * actors
        for index, task in enumerate(tasks):
            self.position.append(count[task.actors[0]])
            self.blocked[index] = 1  # by taking its messages
            for actor in task.actors:
                before = last[actor]
                if before is not None:
                    self.followers[before].append(index)
                    self.blocked[index] += 1
                last[actor] = index
                count[actor] += 1

    def run(self) -> None:
        for index, missing in enumerate(self.missing):
            if not missing:
                self._ready(index, _TAKE)
        while self.heap:
            step = heapq.heappop(self.heap)
            (self._take, self._compute, self._send)[step.kind](step.task)

    def _ready(self, index: int, kind: int) -> None:
        meeting = [number for number in self.sent_by[index] if kind == _SEND and self.messages[number].meets]
        alone = not meeting and (kind != _COMPUTE or len(self.tasks[index].actors) == 1)
        ends = [index, *(consumer for number in meeting for _, consumer in self.messages[number].receivers)]
        position, first = min((self.position[end], end) for end in ends)
        heapq.heappush(self.heap, _Step(alone, position, first, kind, index))

    def _take(self, index: int) -> None:
        self._receive(index)
        self._unblock(index)

    def _receive(self, index: int) -> None:
        for number, actor in sorted(self.taken_by[index], key=lambda taken: self.clock.visible[taken[0]]):
            if not self.messages[number].meets:
                self._append(Event(EventKind.RECV, number, actor))
        self.taken_by[index].clear()

    def _compute(self, index: int) -> None:
        self._append(Event(EventKind.TASK, index, self.tasks[index].actors[0]))
        self._ready(index, _SEND)
        for follower in self.followers[index]:
            self._unblock(follower)

    def _send(self, index: int) -> None:
        for number in self.sent_by[index]:
            message = self.messages[number]
            for _, consumer in message.receivers if message.meets else ():
                if self.missing[consumer] == 1:  # it takes all that it needs at once
                    self._receive(consumer)
            self._append(Event(EventKind.MEET if message.meets else EventKind.SEND, number, message.sender))
        for user in self.users[index]:
            self.missing[user] -= 1
            if not self.missing[user]:
                self._ready(user, _TAKE)

    def _unblock(self, index: int) -> None:
        self.blocked[index] -= 1
        if not self.blocked[index]:
            self._ready(index, _COMPUTE)

    def _append(self, event: Event) -> None:
        self.order.append(event)
        self.clock.advance(event)


class _Streams:
    """Plays an order with meetings on a send stream and a recv stream of each actor."""

    def __init__(self, actors: int, tasks: Sequence[Task], messages: Sequence[Message]) -> None:
        self.tasks = tasks
        self.messages = messages
        self.clock = Clock(actors, tasks, messages)
        self.issued = [[0.0] * actors for _ in range(2)]
        self.ended = [[0.0] * actors for _ in range(2)]
        self.source_end = [0.0] * len(tasks)
        self.arrived: list[dict[int, float]] = [{} for _ in tasks]
        self.inbound: list[list[tuple[float, int]]] = [[] for _ in range(actors)]
        self.arriving: list[list[tuple[int, int]]] = [[] for _ in tasks]

    def overlapped(self, order: Sequence[Event]) -> Overlapped:
        timed = [(self._play(event), event) for event in order]
        timed.sort(key=lambda item: item[0])
        peaks = []
        for changes in self.inbound:
            held = peak = 0
            for _, nbytes in sorted(changes):
                held += nbytes
                peak = max(peak, held)
            peaks.append(peak)
        return Overlapped([event for _, event in timed], peaks)

    def _play(self, event: Event) -> float:
        """Let an event happen; returns when it ends, or, of a meeting, when it is issued."""
        if event.kind is EventKind.MEET:
            return self._meet(event.index)
        if event.kind is EventKind.TASK:
            self._wait(event.index)
        self.clock.advance(event)
        end = self.clock.free[event.actor]
        if event.kind is EventKind.TASK:
            self.source_end[event.index] = end
        return end

    def _meet(self, number: int) -> float:
        message = self.messages[number]
        streams = [(0, message.sender), *((1, receiver) for receiver, _ in message.receivers)]
        issue = max(self.source_end[message.source], *(self.issued[kind][actor] for kind, actor in streams))
        end = max(issue, *(self.ended[kind][actor] for kind, actor in streams)) + message.send_us
        for kind, actor in streams:
            self.issued[kind][actor] = issue
            self.ended[kind][actor] = end
        for receiver, consumer in message.receivers:
            self.inbound[receiver].append((issue, message.nbytes))
            self.arriving[consumer].append((receiver, message.nbytes))
            self.arrived[consumer][receiver] = max(self.arrived[consumer].get(receiver, 0.0), end)
        return issue

    def _wait(self, index: int) -> None:
        """A call waits for what has been issued for it, and uses it."""
        free = self.clock.free
        for actor, arrived in self.arrived[index].items():
            free[actor] = max(free[actor], arrived)
        start = max(free[actor] for actor in self.tasks[index].actors)
        for receiver, nbytes in self.arriving[index]:
            self.inbound[receiver].append((start, -nbytes))
