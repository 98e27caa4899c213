"""
Event simulator: runs a schedule with blocking semantics and says when every step ends, or why it never does.

Semantics, the same as at run time:

* a process runs its steps strictly in order, and its executions one after the other;
* a `WRITE` waits until every reader has taken the message `slots` places before it; the message becomes visible
  `latency_us` after the write;
* a `READ` waits for the next message of its channel;
* a `MEET` ends for all parties at once, when the last has arrived: a send that could complete alone would hide
  deadlocks of real communicators.

Each process is sequential and each wait has one possible outcome, so that the result does not depend on the order in
which this file visits the processes; a process that is stuck here is stuck in every real run. Linear in the steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from cgc.passes.analysis.schedule import RENDEZVOUS, Kind, Process, Schedule, Step


@dataclass(slots=True)
class Simulation:
    """
    What happened.

    Attributes:
        schedule: What was run.
        executions: How often.
        ends: Per process, the end in microseconds of every step that ended, over all executions.
        starts: The same for starts: when the step began to work, its waiting done.
        written: Per channel, when each message became visible (or was exchanged).
        taken: Per channel and reader, when each message was taken.
    """

    schedule: Schedule
    executions: int
    ends: list[list[float]]
    starts: list[list[float]]
    written: list[list[float]]
    taken: list[list[list[float]]]

    @property
    def makespan(self) -> float:
        """Microseconds until the last step has ended."""
        return max((ends[-1] for ends in self.ends if ends), default=0.0)

    @property
    def stuck(self) -> list[int]:
        """Processes that never end; empty without a deadlock."""
        processes = self.schedule.processes
        return [p for p, ends in enumerate(self.ends) if len(ends) < self.executions * len(processes[p].steps)]

    def position(self, process: int) -> tuple[int, int]:
        """(execution, step) that the process is at, or the end of the last execution."""
        steps = len(self.schedule.processes[process].steps)
        return divmod(len(self.ends[process]), steps) if steps else (self.executions, 0)

    def busy(self, process: int) -> float:
        """Microseconds that the process worked, waiting excluded."""
        return sum(end - start for start, end in zip(self.starts[process], self.ends[process], strict=True))


def simulate(schedule: Schedule, executions: int = 1) -> Simulation:
    """Run the schedule `executions` times, pipelined, until nothing moves any more."""
    return _Machine(schedule, executions).run()


class _Machine:
    """The state of one simulation: how far each process and channel is, and who waits for whom."""

    def __init__(self, schedule: Schedule, executions: int) -> None:
        count = len(schedule.processes)
        self.schedule = schedule
        self.executions = executions
        self.result = Simulation(
            schedule=schedule,
            executions=executions,
            ends=[[] for _ in range(count)],
            starts=[[] for _ in range(count)],
            written=[[] for _ in schedule.channels],
            taken=[[[] for _ in channel.readers] for channel in schedule.channels],
        )
        self.rank = [{reader: rank for rank, reader in enumerate(c.readers)} for c in schedule.channels]
        self.arrivals: list[dict[int, list[float]]] = [
            {party: [] for party in (c.writer, *c.readers)} if c.slots == RENDEZVOUS else {} for c in schedule.channels
        ]
        self.meeting = [False] * count
        self.waiters: list[set[int]] = [set() for _ in range(count)]
        self.runnable = deque(range(count))
        self.queued = [True] * count

    def run(self) -> Simulation:
        while self.runnable:
            process = self.runnable.popleft()
            self.queued[process] = False
            self._advance(process)
        return self.result

    def _advance(self, index: int) -> None:
        """Run one process until it has to wait; whoever lets it go on puts it back into the queue."""
        process = self.schedule.processes[index]
        ends = self.result.ends[index]
        before, total = len(ends), len(process.steps) * self.executions
        while len(ends) < total:
            execution, position = divmod(len(ends), len(process.steps))
            ready = self._ready(index, process, execution, position)
            if ready is None or not self._perform(index, process.steps[position], ready):
                break
        if len(ends) > before:
            waiters, self.waiters[index] = self.waiters[index], set()
            self._wake(waiters)

    def _wake(self, processes: Iterable[int]) -> None:
        for process in processes:
            if not self.queued[process]:
                self.queued[process] = True
                self.runnable.append(process)

    def _ready(self, index: int, process: Process, execution: int, position: int) -> float | None:
        """When order, gates and `after` allow the step; None while they do not."""
        ends = self.result.ends[index]
        clock = ends[-1] if ends else 0.0
        needs = [
            (other, execution * len(self.schedule.processes[other].steps) + step + 1)
            for other, step in process.steps[position].after
        ]
        if position == 0:
            needs += [
                (other, (min(execution + offset, self.executions - 1) + 1) * len(self.schedule.processes[other].steps))
                for other, offset in process.gates
            ]
        for other, count in needs:
            if len(self.result.ends[other]) < count:
                self.waiters[other].add(index)
                return None
            if count > 0:
                clock = max(clock, self.result.ends[other][count - 1])
        return clock

    def _perform(self, index: int, step: Step, clock: float) -> bool:
        """Do the step; False if it has to wait for another process."""
        if step.kind is Kind.COMPUTE:
            return self._end(index, clock, clock + step.us)
        if step.kind is Kind.WRITE:
            return self._write(index, step.channels[0], clock)
        if step.kind is Kind.READ:
            return self._read(index, step.channels[0], clock)
        return self._meet(index, step, clock)

    def _end(self, index: int, start: float, end: float) -> bool:
        self.result.starts[index].append(start)
        self.result.ends[index].append(end)
        return True

    def _write(self, index: int, number: int, clock: float) -> bool:
        channel, written = self.schedule.channels[number], self.result.written[number]
        oldest = len(written) - channel.slots
        if oldest >= 0:
            for taken, reader in zip(self.result.taken[number], channel.readers, strict=True):
                if len(taken) <= oldest:
                    self.waiters[reader].add(index)
                    return False
                clock = max(clock, taken[oldest])
        write_us, latency_us, _ = channel.times(len(written))
        written.append(clock + write_us + latency_us)
        self._wake(channel.readers)
        return self._end(index, clock, clock + write_us)

    def _read(self, index: int, number: int, clock: float) -> bool:
        written, taken = self.result.written[number], self.result.taken[number][self.rank[number][index]]
        if len(taken) == len(written):
            return False
        start = max(clock, written[len(taken)])
        end = start + self.schedule.channels[number].times(len(taken))[2]
        taken.append(end)
        return self._end(index, start, end)

    def _meet(self, index: int, step: Step, clock: float) -> bool:
        if not self.meeting[index]:
            self.meeting[index] = True
            for number in step.channels:
                self.arrivals[number][index].append(clock)
                self._exchange(number)
        met = [(number, len(self.arrivals[number][index]) - 1) for number in step.channels]
        if any(len(self.result.written[number]) <= nth for number, nth in met):
            return False
        self.meeting[index] = False
        ends = [self.result.written[number][nth] for number, nth in met]
        start = max(end - self.schedule.channels[number].write_us for end, (number, _) in zip(ends, met, strict=True))
        return self._end(index, start, max(ends))

    def _exchange(self, number: int) -> None:
        """Complete the next exchange of a rendezvous channel if all parties have arrived, and wake them."""
        channel, written, arrivals = self.schedule.channels[number], self.result.written[number], self.arrivals[number]
        nth = len(written)
        if all(len(times) > nth for times in arrivals.values()):
            written.append(max(times[nth] for times in arrivals.values()) + channel.write_us)
            self._wake(arrivals)
