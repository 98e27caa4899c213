"""
A schedule as plain data: what the simulator runs and the order analysis produces.

A *process* is one in-order queue of steps: an actor's main program, or one of its communication streams, or one half
of the driver. A *channel* carries messages from one process to others, in order. Its `slots` say what a writer
waits for: with `slots > 0` for a free slot (a buffered channel), with `RENDEZVOUS` for all readers (a communicator).
Nothing here knows of the IR; `cgc.passes.analysis.extract` builds these objects from a module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

RENDEZVOUS = 0


class Kind(Enum):
    """What a step does; the value is the letter that grids print."""

    COMPUTE = "C"
    WRITE = "W"
    READ = "R"
    MEET = "M"


@dataclass(frozen=True, slots=True)
class Step:
    """
    One step of a process.

    Attributes:
        kind: `COMPUTE` takes `us`; `WRITE` and `READ` use a buffered channel; `MEET` waits until all parties of all
            its channels are at theirs (a send and its recv, a collective, or a group of them).
        label: Short text for grids and traces, such as `fwd` or `send m3`.
        channels: Positions in `Schedule.channels`; several only for `MEET`.
        us: Microseconds of a `COMPUTE`.
        after: (process, step) pairs of other processes that must have ended in the same execution.
        location: Where the step was bound, `file:line`.
        message: Id of the message that a communication step moves, -1 if none; equal at all of its ends.
    """

    kind: Kind
    label: str
    channels: tuple[int, ...] = ()
    us: float = 0.0
    after: tuple[tuple[int, int], ...] = ()
    location: str = ""
    message: int = -1


@dataclass(frozen=True, slots=True)
class Channel:
    """
    A channel between processes; times in microseconds for one message.

    Attributes:
        name: For messages to people.
        writer: Process that writes; the first of the parties where `slots` is `RENDEZVOUS`.
        readers: Processes that read, or the other parties.
        slots: Messages that fit before the writer waits; `RENDEZVOUS` for none.
        write_us: How long the writer is busy; all parties where `slots` is `RENDEZVOUS`.
        latency_us: From the end of the write until a reader can start.
        read_us: How long a reader is busy.
        turns: (write_us, latency_us, read_us) of each message of an execution where several take turns on the channel;
            empty where every message takes what the fields above say.
    """

    name: str
    writer: int
    readers: tuple[int, ...]
    slots: int
    write_us: float = 0.0
    latency_us: float = 0.0
    read_us: float = 0.0
    turns: tuple[tuple[float, float, float], ...] = ()

    def times(self, nth: int) -> tuple[float, float, float]:
        """(write_us, latency_us, read_us) of message number `nth`, counted over all executions."""
        return self.turns[nth % len(self.turns)] if self.turns else (self.write_us, self.latency_us, self.read_us)


@dataclass(slots=True)
class Process:
    """
    An in-order queue of steps.

    Attributes:
        name: Such as `@a`, or `@a/recv` for a stream.
        steps: What one execution does.
        gates: (process, offset) pairs: execution i starts when that process has ended execution i + offset (the last
            one, if there are fewer; none, if it is negative). The driver's two halves take turns by such gates: it
            executes until the in-flight limit is reached before it gets the first result.
        actor: The participant whose steps these are; one may have several processes.
    """

    name: str
    steps: list[Step] = field(default_factory=list)
    gates: tuple[tuple[int, int], ...] = ()
    actor: str = ""


@dataclass(slots=True)
class Schedule:
    """All processes and channels of a graph."""

    processes: list[Process]
    channels: list[Channel]
