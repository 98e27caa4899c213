"""What an order is made of: tasks and messages, and the events of which there is one line for all actors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class EventKind(Enum):
    """What happens at one place of the order; the value is the letter that dumps print."""

    TASK = "C"
    SEND = "S"
    RECV = "R"
    MEET = "M"


@dataclass(frozen=True, slots=True)
class Event:
    """
    One place of the global order.

    Attributes:
        kind: `TASK`, `SEND` and `RECV` of a buffered message, or `MEET`: send and recv at once.
        index: Position of the task or of the message in the order's input.
        actor: Who does it; the sender for `MEET`, the first participant for a collective `TASK`.
    """

    kind: EventKind
    index: int
    actor: int


@dataclass(slots=True)
class Task:
    """
    Something that an actor does on its own (a call), or several do together (a collective).

    Attributes:
        actors: Who takes part; one for a call.
        us: How long it takes, in microseconds.
        needs: Earlier tasks of which it uses a value that is no message, since an actor of both has it.
    """

    actors: tuple[int, ...]
    us: float
    needs: tuple[int, ...] = ()


@dataclass(slots=True)
class Message:
    """
    A value on its way from the actor of `source` to others.

    Attributes:
        source: The task that makes the value.
        sender: Actor that sends; one of the participants of `source`.
        receivers: For each receiving actor the first task that needs the value there, by position, in order.
        meets: True if sender and receivers have to be there at the same time; several receivers are a broadcast.
        nbytes: Expected size.
        send_us: How long the sender is busy; all ends if it `meets`.
        latency_us: From the end of the send until a receiver can take it.
        recv_us: How long a receiver is busy.
    """

    source: int
    sender: int
    receivers: tuple[tuple[int, int], ...]
    meets: bool
    nbytes: int = 0
    send_us: float = 0.0
    latency_us: float = 0.0
    recv_us: float = 0.0


@dataclass(slots=True)
class Overlapped:
    """
    A global order in which meetings run on streams, beside calls.

    Attributes:
        line: The order; `MEET` is where all ends issue the message on their streams.
        peak_bytes: Per actor, the most that was issued and not yet used at one time.
    """

    line: list[Event]
    peak_bytes: list[int]


class Clock:
    """
    What time it is for each actor in a line of events, if every actor does its part of it as soon as it can.

    Attributes:
        free: By actor, the microsecond at which it has done its events so far.
        visible: By message, the microsecond from which it can be received; 0 for what has not been sent.
    """

    def __init__(self, actors: int, tasks: Sequence[Task], messages: Sequence[Message]) -> None:
        self.tasks = tasks
        self.messages = messages
        self.free = [0.0] * actors
        self.visible = [0.0] * len(messages)

    @property
    def makespan(self) -> float:
        """When the last actor has done all of its own, in microseconds."""
        return max(self.free, default=0.0)

    def advance(self, event: Event) -> None:
        """Let the next event of the line happen."""
        if event.kind is EventKind.TASK:
            task = self.tasks[event.index]
            self._occupy(task.actors, task.us)
            return
        message = self.messages[event.index]
        if event.kind is EventKind.RECV:
            self.free[event.actor] = max(self.free[event.actor], self.visible[event.index])
            self._occupy((event.actor,), message.recv_us)
        elif event.kind is EventKind.MEET:
            self._occupy((message.sender, *(receiver for receiver, _ in message.receivers)), message.send_us)
        else:
            self._occupy((event.actor,), message.send_us)
            self.visible[event.index] = self.free[event.actor] + message.latency_us

    def _occupy(self, actors: Sequence[int], us: float) -> None:
        end = max(self.free[actor] for actor in actors) + us
        for actor in actors:
            self.free[actor] = end
