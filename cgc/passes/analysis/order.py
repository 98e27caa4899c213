"""
One global order of everything that a graph does: calls, sends, receives.

Every actor's program is the projection of this order onto the actor. `pair-comm` states why that cannot deadlock; this
file chooses a good one among the valid orders, by list scheduling against the cost model:

* calls of one actor keep the order in which they were bound, since users rely on the state of their actors;
* a message is sent as soon as it exists, and taken just before the first call that needs it, unless both ends have to
  meet: then at the earliest moment at which neither is busy;
* among messages that could go at the same moment, the one on the longest remaining path goes first, then the larger
  one, then the one bound first;
* where ends have to meet, several policies are tried and what is predicted to be shortest is taken (`Policy`);
* the order of Ray's scheduler is tried as well (`bind_order.py`), and taken if it is shorter.

Only lists and integers decide, never a hash, so that every run gives the same order. O(n log n) in the events.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import Enum

from cgc.passes.analysis.bind_order import bind_order
from cgc.passes.analysis.events import Event, EventKind, Message, Task


class Policy(Enum):
    """
    What an actor does that has a message to meet for, while the other end is busy.

    `GO_ON` begins the next call. `WAIT` begins no call. `BY_POSITION` does not look at time at all: messages first,
    then calls by their number on their actor, so that all actors advance alike.
    """

    GO_ON = "go on"
    WAIT = "wait"
    BY_POSITION = "by position"


def global_order(actors: int, tasks: list[Task], messages: list[Message]) -> list[Event]:
    """
    Order tasks and messages of `actors` actors; see the top of this file.

    `tasks` must be in a topological order that is also the order of binding. Every message appears as one `SEND`
    and one `RECV` per receiver, or as one `MEET`.
    """
    return timed_order(actors, tasks, messages)[0]


def timed_order(actors: int, tasks: list[Task], messages: list[Message]) -> tuple[list[Event], float]:
    """As `global_order`, with the predicted makespan in microseconds."""
    policies = Policy if any(message.meets for message in messages) else [Policy.GO_ON]
    found = [_Scheduler(actors, tasks, messages, policy) for policy in policies]
    for scheduler in found:
        scheduler.run()
    best = min(found, key=lambda scheduler: scheduler.makespan)
    listed, makespan = bind_order(actors, tasks, messages)
    return (listed, makespan) if makespan < best.makespan else (best.order, best.makespan)


def tails(actors: int, tasks: list[Task], messages: list[Message]) -> tuple[list[float], list[float]]:
    """
    The longest remaining path in microseconds from the start of each task, and from the start of each message.

    Paths follow messages and the order of tasks on each actor.
    """
    task_tail = [0.0] * len(tasks)
    message_tail = [0.0] * len(messages)
    by_source: list[list[int]] = [[] for _ in tasks]
    for number, message in enumerate(messages):
        by_source[message.source].append(number)
    next_tail = [0.0] * actors
    for index in reversed(range(len(tasks))):
        task = tasks[index]
        longest = max(next_tail[actor] for actor in task.actors)
        for number in by_source[index]:
            message = messages[number]
            cost = message.send_us + message.latency_us + (0.0 if message.meets else message.recv_us)
            message_tail[number] = cost + max(task_tail[consumer] for _, consumer in message.receivers)
            longest = max(longest, message_tail[number])
        task_tail[index] = task.us + longest
        for actor in task.actors:
            next_tail[actor] = task_tail[index]
    return task_tail, message_tail


Candidate = tuple[float, int, float, int, int, int]
"""(earliest start, 0 for messages and 1 for tasks, minus tail, minus bytes, index, actor): the least goes first."""


@dataclass(slots=True)
class _ActorState:
    """How far one actor is in the order that is being made."""

    tasks: list[int] = field(default_factory=list)
    done: int = 0
    free: float = 0.0
    sends: list[tuple[float, int, int]] = field(default_factory=list)
    meets: list[int] = field(default_factory=list)
    inbox: list[tuple[float, int]] = field(default_factory=list)
    version: int = 0


class _Scheduler:
    """List scheduling: repeatedly the actor whose next event can start first does it."""

    def __init__(self, actors: int, tasks: list[Task], messages: list[Message], policy: Policy) -> None:
        self.waits = policy is Policy.WAIT
        self.timed = policy is not Policy.BY_POSITION
        self.tasks = tasks
        self.messages = messages
        self.task_tail, self.message_tail = tails(actors, tasks, messages)
        self.actors = [_ActorState() for _ in range(actors)]
        self.by_source: list[list[int]] = [[] for _ in tasks]
        self.missing = [0] * len(tasks)
        self.consumed_at: list[dict[int, list[int]]] = [{} for _ in range(actors)]
        self.consumer = [dict(message.receivers) for message in messages]
        self.visible: list[float | None] = [None] * len(messages)
        self.order: list[Event] = []
        self.heap: list[tuple[Candidate, int]] = []
        for index, task in enumerate(tasks):
            for actor in task.actors:
                self.actors[actor].tasks.append(index)
        for number, message in enumerate(messages):
            self.by_source[message.source].append(number)
            for actor, consumer in message.receivers:
                self.missing[consumer] += 1
                self.consumed_at[actor].setdefault(consumer, []).append(number)

    @property
    def makespan(self) -> float:
        """When the last actor has done all of its own."""
        return max((state.free for state in self.actors), default=0.0)

    def run(self) -> list[Event]:
        for actor in range(len(self.actors)):
            self._propose(actor)
        while self.heap:
            candidate, version = heapq.heappop(self.heap)
            actor = candidate[-1]
            if version != self.actors[actor].version:
                continue
            if self._best(actor) != candidate:  # somebody whom this event has to meet became busy
                self._propose(actor)
                continue
            self._perform(candidate)
        assert all(state.done == len(state.tasks) for state in self.actors), "tasks are not in topological order"
        return self.order

    def _propose(self, actor: int) -> None:
        state = self.actors[actor]
        state.version += 1
        best = self._best(actor)
        if best is not None:
            heapq.heappush(self.heap, (best, state.version))

    def _best(self, actor: int) -> Candidate | None:
        """The event that this actor can start first; None while it has to wait for others to act."""
        state = self.actors[actor]
        if state.sends:
            tail, nbytes, number = state.sends[0]
            return (self._time(state.free), 0, tail, nbytes, number, actor)
        found: list[Candidate] = []
        for number in state.meets:
            start = max(state.free, *(self.actors[receiver].free for receiver, _ in self.messages[number].receivers))
            found.append((self._time(start), 0, *self._key(number), actor))
        if state.inbox:
            visible, number = state.inbox[0]
            found.append((self._time(max(state.free, visible)), 0, *self._key(number), actor))
        if state.done < len(state.tasks):
            index = state.tasks[state.done]
            if self.missing[index] == 0 and self._leads(actor, index):
                start = max(self.actors[other].free for other in self.tasks[index].actors)
                urgency = -self.task_tail[index] if self.timed else state.done
                found.append((self._time(start), 1, urgency, 0, index, actor))
        return min(found, default=None)

    def _time(self, start: float) -> float:
        return start if self.timed else 0.0

    def _key(self, number: int) -> tuple[float, int, int]:
        return (-self.message_tail[number], -self.messages[number].nbytes, number)

    def _leads(self, actor: int, index: int) -> bool:
        """True for the first participant of a task that all its participants can do next."""
        participants = self.tasks[index].actors
        if participants[0] != actor:
            return False
        if self.waits and any(self.actors[other].meets for other in participants):
            return False
        return all(self._next_task(other) == index for other in participants[1:])

    def _next_task(self, actor: int) -> int | None:
        state = self.actors[actor]
        return state.tasks[state.done] if state.done < len(state.tasks) else None

    def _perform(self, candidate: Candidate) -> None:
        _, is_task, _, _, index, actor = candidate
        if is_task:
            self._do_task(index)
        elif self.messages[index].meets:
            self._do_meet(index)
        elif self.messages[index].sender == actor and self.visible[index] is None:
            self._do_send(index)
        else:
            self._do_recv(index, actor)

    def _do_task(self, index: int) -> None:
        task = self.tasks[index]
        start = max(self.actors[actor].free for actor in task.actors)
        self.order.append(Event(EventKind.TASK, index, task.actors[0]))
        for actor in task.actors:
            state = self.actors[actor]
            state.free = start + task.us
            state.done += 1
            self._open_inbox(actor)
        for number in self.by_source[index]:
            message = self.messages[number]
            sender = self.actors[message.sender]
            if message.meets:
                sender.meets.append(number)
            else:
                heapq.heappush(sender.sends, self._key(number))
        for actor in task.actors:
            self._propose(actor)
            self._propose_leader(actor)

    def _propose_leader(self, actor: int) -> None:
        """Let the first participant of the actor's next task know that one more is ready."""
        index = self._next_task(actor)
        if index is not None and self.tasks[index].actors[0] != actor:
            self._propose(self.tasks[index].actors[0])

    def _open_inbox(self, actor: int) -> None:
        """Offer the messages of the actor's next task that are visible already."""
        index = self._next_task(actor)
        if index is None:
            return
        for number in self.consumed_at[actor].get(index, ()):
            visible = self.visible[number]
            if visible is not None and not self.messages[number].meets:
                heapq.heappush(self.actors[actor].inbox, (visible, number))

    def _do_send(self, number: int) -> None:
        message = self.messages[number]
        sender = self.actors[message.sender]
        heapq.heappop(sender.sends)
        sender.free += message.send_us
        visible = self.visible[number] = sender.free + message.latency_us
        self.order.append(Event(EventKind.SEND, number, message.sender))
        for actor, consumer in message.receivers:
            if self._next_task(actor) == consumer:
                heapq.heappush(self.actors[actor].inbox, (visible, number))
                self._propose(actor)
        self._propose(message.sender)

    def _do_recv(self, number: int, actor: int) -> None:
        state = self.actors[actor]
        visible, _ = heapq.heappop(state.inbox)
        state.free = max(state.free, visible) + self.messages[number].recv_us
        self.order.append(Event(EventKind.RECV, number, actor))
        self._received(number, actor)

    def _do_meet(self, number: int) -> None:
        message = self.messages[number]
        sender = self.actors[message.sender]
        ends = [sender, *(self.actors[receiver] for receiver, _ in message.receivers)]
        sender.meets.remove(number)
        self._propose_leader(message.sender)
        end = max(state.free for state in ends) + message.send_us
        for state in ends:
            state.free = end
        self.order.append(Event(EventKind.MEET, number, message.sender))
        for receiver, _ in message.receivers:
            self._received(number, receiver)
        self._propose(message.sender)

    def _received(self, number: int, actor: int) -> None:
        consumer = self.consumer[number][actor]
        self.missing[consumer] -= 1
        self._propose(actor)
        if self.missing[consumer] == 0:
            self._propose(self.tasks[consumer].actors[0])
