"""
A global order in which meetings run beside calls: list scheduling over calls, send streams and recv streams.

A message whose ends have to meet is issued on streams of all its actors as soon as its value exists and the streams
are free; among several, the one on the longest remaining path goes first. At each end the issue stands before the call
that runs at that moment, whose own place in the order is where it ends, so that nobody waits with its calls. What each
receiver has issued but not yet used is bounded: beyond `budget` bytes a message is held back until it is needed or
there is room. Everything else is as in `order.py`.

The order is valid for the same reason as there: an operation is appended when it is done, or issued, and thus behind
all that it needs.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

from cgc.passes.analysis.events import Event, EventKind, Message, Overlapped, Task
from cgc.passes.analysis.order import tails


def overlapped_order(actors: int, tasks: list[Task], messages: list[Message], budget: float = math.inf) -> Overlapped:
    """Order tasks and messages with meetings on streams; `tasks` as for `global_order`."""
    return _Overlap(actors, tasks, messages, budget).run()


@dataclass(slots=True)
class _Actor:
    """One actor: its calls, and what it has to do around them."""

    tasks: list[int] = field(default_factory=list)
    done: int = 0
    busy: bool = False
    sends: list[tuple[float, int, int]] = field(default_factory=list)
    inbox: list[int] = field(default_factory=list)
    outbound: dict[int, None] = field(default_factory=dict)
    inbound: dict[int, None] = field(default_factory=dict)
    sending: bool = False
    receiving: bool = False
    issued_bytes: int = 0
    peak_bytes: int = 0


class _Overlap:
    """The event loop: `heap` has what ends when, `line` what has ended or been issued."""

    def __init__(self, actors: int, tasks: list[Task], messages: list[Message], budget: float) -> None:
        self.tasks = tasks
        self.messages = messages
        self.budget = budget
        self.task_tail, self.message_tail = tails(actors, tasks, messages)
        self.actors = [_Actor() for _ in range(actors)]
        self.by_source: list[list[int]] = [[] for _ in tasks]
        self.consumer = [dict(message.receivers) for message in messages]
        self.needs: dict[tuple[int, int], list[int]] = {}
        self.missing = [0] * len(tasks)
        self.visible: set[tuple[int, int]] = set()
        self.line: list[Event] = []
        self.heap: list[tuple[float, int, EventKind, int, int]] = []
        self.now = 0.0
        self.sequence = 0
        for index, task in enumerate(tasks):
            for actor in task.actors:
                self.actors[actor].tasks.append(index)
        for number, message in enumerate(messages):
            self.by_source[message.source].append(number)
            for actor, consumer in message.receivers:
                self.missing[consumer] += 1
                self.needs.setdefault((actor, consumer), []).append(number)

    def run(self) -> Overlapped:
        for actor in range(len(self.actors)):
            self._start(actor)
        while self.heap:
            self.now, _, kind, index, actor = heapq.heappop(self.heap)
            if kind is EventKind.TASK:
                self._end_task(index)
            elif kind is EventKind.SEND:
                self._end_send(index, actor)
            elif kind is EventKind.RECV:
                self._end_recv(index, actor)
            else:
                self._arrive(index, actor)
        assert all(state.done == len(state.tasks) for state in self.actors), "tasks are not in topological order"
        return Overlapped(self.line, [state.peak_bytes for state in self.actors])

    def _after(self, us: float, kind: EventKind, index: int, actor: int) -> None:
        self.sequence += 1
        heapq.heappush(self.heap, (self.now + us, self.sequence, kind, index, actor))

    def _key(self, number: int) -> tuple[float, int, int]:
        return (-self.message_tail[number], -self.messages[number].nbytes, number)

    def _next_task(self, actor: int) -> int | None:
        state = self.actors[actor]
        return state.tasks[state.done] if state.done < len(state.tasks) else None

    def _start(self, actor: int) -> None:
        """Let an idle actor begin what it can: buffered sends first, then buffered recvs, then its next task."""
        state = self.actors[actor]
        if state.busy:
            return
        if state.sends:
            number = heapq.heappop(state.sends)[-1]
            state.busy = True
            self._after(self.messages[number].send_us, EventKind.SEND, number, actor)
            return
        if state.inbox:
            number = state.inbox.pop(0)
            state.busy = True
            self._after(self.messages[number].recv_us, EventKind.RECV, number, actor)
            return
        index = self._next_task(actor)
        if index is not None and self.missing[index] == 0 and self._all_there(index):
            for participant in self.tasks[index].actors:
                self.actors[participant].busy = True
                self._take(participant, index)
            self._after(self.tasks[index].us, EventKind.TASK, index, self.tasks[index].actors[0])

    def _all_there(self, index: int) -> bool:
        """True if all participants of a task are idle and at it, with nothing to send before."""
        for actor in self.tasks[index].actors:
            state = self.actors[actor]
            if state.busy or state.sends or state.inbox or self._next_task(actor) != index:
                return False
        return True

    def _take(self, actor: int, index: int) -> None:
        """The task uses its messages now: there is room for others."""
        state = self.actors[actor]
        for number in self.needs.get((actor, index), ()):
            if self.messages[number].meets:
                state.issued_bytes -= self.messages[number].nbytes
        self._issue_some(state.inbound)

    def _end_task(self, index: int) -> None:
        task = self.tasks[index]
        self.line.append(Event(EventKind.TASK, index, task.actors[0]))
        for actor in task.actors:
            self.actors[actor].busy = False
            self.actors[actor].done += 1
            self._need(actor)
        for number in self.by_source[index]:
            message = self.messages[number]
            sender = self.actors[message.sender]
            if message.meets:
                sender.outbound[number] = None
                for receiver, _ in message.receivers:
                    self.actors[receiver].inbound[number] = None
            else:
                heapq.heappush(sender.sends, self._key(number))
        for actor in task.actors:
            self._issue_some(self.actors[actor].outbound)
            self._issue_some(self.actors[actor].inbound)
            self._start(actor)

    def _need(self, actor: int) -> None:
        """Take the buffered messages of the next task that are there already."""
        index = self._next_task(actor)
        for number in self.needs.get((actor, index), ()) if index is not None else ():
            if (number, actor) in self.visible:
                self.actors[actor].inbox.append(number)

    def _issue_some(self, waiting: dict[int, None]) -> None:
        """Issue what can be of the meetings that wait, the most urgent first."""
        while True:
            number = min((number for number in waiting if self._may_issue(number)), key=self._key, default=None)
            if number is None:
                return
            self._issue(number)

    def _may_issue(self, number: int) -> bool:
        """True if all streams are free, and the message fits into each receiver's budget or is needed next by one."""
        message = self.messages[number]
        if self.actors[message.sender].sending:
            return False
        targets = [self.actors[receiver] for receiver, _ in message.receivers]
        if any(target.receiving for target in targets):
            return False
        # The others of a broadcast have to go beyond their budget then: what they hold may wait for this very receiver.
        needed = any(self._next_task(receiver) == consumer for receiver, consumer in message.receivers)
        return needed or all(target.issued_bytes + message.nbytes <= self.budget for target in targets)

    def _issue(self, number: int) -> None:
        """Put a meeting on the streams of all its ends."""
        message = self.messages[number]
        source = self.actors[message.sender]
        del source.outbound[number]
        source.sending = True
        for receiver, _ in message.receivers:
            target = self.actors[receiver]
            del target.inbound[number]
            target.receiving = True
            target.issued_bytes += message.nbytes
            target.peak_bytes = max(target.peak_bytes, target.issued_bytes)
            self._after(message.send_us, EventKind.MEET, number, receiver)
        self.line.append(Event(EventKind.MEET, number, message.sender))

    def _end_send(self, number: int, actor: int) -> None:
        message = self.messages[number]
        self.line.append(Event(EventKind.SEND, number, actor))
        self.actors[actor].busy = False
        for receiver, _ in message.receivers:
            self._after(message.latency_us, EventKind.MEET, number, receiver)
        self._start(actor)

    def _arrive(self, number: int, actor: int) -> None:
        """A message is there: one that meets is in its place, a buffered one can be taken when its task is next."""
        if self.messages[number].meets:
            message = self.messages[number]
            source, target = self.actors[message.sender], self.actors[actor]
            target.receiving = False
            if actor == message.receivers[-1][0]:
                source.sending = False
            self._received(number, actor)
            self._issue_some(source.outbound)
            self._issue_some(target.inbound)
            return
        self.visible.add((number, actor))
        if self._next_task(actor) == self.consumer[number][actor]:
            self.actors[actor].inbox.append(number)
            self._start(actor)

    def _end_recv(self, number: int, actor: int) -> None:
        self.line.append(Event(EventKind.RECV, number, actor))
        self.actors[actor].busy = False
        self._received(number, actor)

    def _received(self, number: int, actor: int) -> None:
        self.missing[self.consumer[number][actor]] -= 1
        self._start(actor)
