"""
The counterexample of a deadlock: a shortest cycle of processes that wait for one another, and a grid to look at.

    deadlock: 2 actors wait for one another in execution 0
      @a  step 3: recv m4 from @b        (stages.py:31) waits for @b to send m4
      @b  step 2: recv m3 from @a        (stages.py:30) waits for @a to send m3

    step   @a          @b
       2   C fwd       R recv m3 <<
       3   R recv m4 <<
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from cgc.errors import DeadlockError
from cgc.passes.analysis.schedule import RENDEZVOUS, Kind, Step
from cgc.passes.analysis.simulate import Simulation

GRID_CONTEXT = 2
"""Steps that the grid shows before and after each blocked one."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Process `process` is blocked and `on` has to move first; `reason` says with what."""

    process: int
    on: int
    reason: str


def deadlock_error(simulation: Simulation) -> DeadlockError | None:
    """The error that explains why a simulation got stuck, or None if it did not."""
    stuck = simulation.stuck
    if not stuck:
        return None
    waits = {process: _waits(simulation, process) for process in stuck}
    cycle = _shortest_cycle(waits)
    if cycle is None:
        return _starved(simulation, waits)
    head = f"deadlock: {_count(len(cycle), 'actor')} wait for one another in execution {_execution(simulation, cycle)}"
    lines = [_line(simulation, wait) for wait in cycle]
    return DeadlockError("\n".join([head, *lines]), lines, grid(simulation, [wait.process for wait in cycle]))


def grid(simulation: Simulation, processes: list[int]) -> str:
    """Step-by-process table around the current step of each process; `<<` marks the steps that are blocked."""
    columns = [_column(simulation, process) for process in processes]
    rows = sorted({row for column in columns for row in column})
    names = [simulation.schedule.processes[process].name for process in processes]
    widths = [max([len(name), *map(len, column.values())]) for name, column in zip(names, columns, strict=True)]
    lines = ["step  " + "  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)).rstrip()]
    for previous, row in zip([None, *rows], rows, strict=False):
        if previous is not None and row != previous + 1:
            lines.append("   :")
        cells = "  ".join(column.get(row, "").ljust(width) for column, width in zip(columns, widths, strict=True))
        lines.append(f"{row:>4}  {cells}".rstrip())
    return "\n".join(lines)


def _execution(simulation: Simulation, cycle: list[Wait]) -> int:
    return min(simulation.position(wait.process)[0] for wait in cycle)


def _current(simulation: Simulation, process: int) -> tuple[int, Step]:
    _, position = simulation.position(process)
    return position, simulation.schedule.processes[process].steps[position]


def _line(simulation: Simulation, wait: Wait) -> str:
    position, step = _current(simulation, wait.process)
    name = simulation.schedule.processes[wait.process].name
    location = f" ({step.location})" if step.location else ""
    return f"  {name}  step {position}: {step.label}{location} waits for {wait.reason}"


def _waits(simulation: Simulation, process: int) -> list[Wait]:
    """All processes that have to move before this one can."""
    schedule = simulation.schedule
    execution, position = simulation.position(process)
    step = schedule.processes[process].steps[position]
    waits = []
    if position == 0:
        for other, offset in schedule.processes[process].gates:
            needed = min(execution + offset, simulation.executions - 1)
            if simulation.position(other)[0] <= needed:
                waits.append(Wait(process, other, f"{schedule.processes[other].name} to end execution {needed}"))
    for other, after in step.after:
        if simulation.position(other) <= (execution, after):
            label = schedule.processes[other].steps[after].label
            waits.append(Wait(process, other, f"{schedule.processes[other].name} to do {label}"))
    if not waits:
        waits += [wait for number in step.channels for wait in _channel_waits(simulation, process, step, number)]
    return waits


def _channel_waits(simulation: Simulation, process: int, step: Step, number: int) -> list[Wait]:
    schedule, channel = simulation.schedule, simulation.schedule.channels[number]
    if step.kind is Kind.READ:
        return [Wait(process, channel.writer, f"{schedule.processes[channel.writer].name} to write {channel.name}")]
    if step.kind is Kind.WRITE:
        oldest = len(simulation.written[number]) - channel.slots
        late = [r for r, taken in zip(channel.readers, simulation.taken[number], strict=True) if len(taken) <= oldest]
        slots = _count(channel.slots, "slot")
        return [
            Wait(process, r, f"{schedule.processes[r].name} to free one of {slots} of {channel.name}") for r in late
        ]
    assert channel.slots == RENDEZVOUS, "only communicators meet"
    nth = len(simulation.written[number])
    others = [p for p in (channel.writer, *channel.readers) if p != process]
    late = [p for p in others if _meetings(simulation, p, number) <= nth]
    return [Wait(process, p, f"{schedule.processes[p].name} to come to {channel.name}") for p in late]


def _meetings(simulation: Simulation, process: int, number: int) -> int:
    """How often a process has arrived at a channel, the arrival that it waits in included."""
    steps = simulation.schedule.processes[process].steps
    execution, position = simulation.position(process)
    per_execution = sum(number in step.channels for step in steps)
    return execution * per_execution + sum(number in step.channels for step in steps[: position + 1])


def _shortest_cycle(waits: dict[int, list[Wait]]) -> list[Wait] | None:
    """A shortest cycle of the wait-for graph: breadth first from every blocked process, in order."""
    best: list[Wait] | None = None
    for root in sorted(waits):
        cycle = _cycle_through(root, waits)
        if cycle is not None and (best is None or len(cycle) < len(best)):
            best = cycle
    return best


def _cycle_through(root: int, waits: dict[int, list[Wait]]) -> list[Wait] | None:
    reached: dict[int, Wait] = {}
    queue = deque([root])
    while queue:
        for wait in waits.get(queue.popleft(), ()):
            if wait.on == root:
                return _path(reached, wait)
            if wait.on not in reached:
                reached[wait.on] = wait
                queue.append(wait.on)
    return None


def _path(reached: dict[int, Wait], last: Wait) -> list[Wait]:
    path = [last]
    while path[-1].process in reached:
        path.append(reached[path[-1].process])
    return path[::-1]


def _starved(simulation: Simulation, waits: dict[int, list[Wait]]) -> DeadlockError:
    """Nobody waits in a circle: somebody waits for a process that has ended, a message that nobody sends."""
    ended = [wait for found in waits.values() for wait in found if wait.on not in waits]
    lines = [_line(simulation, wait) + ", which has ended" for wait in ended]
    head = f"deadlock: {_count(len(lines), 'operation')} can never complete"
    return DeadlockError("\n".join([head, *lines]), lines, grid(simulation, [wait.process for wait in ended]))


def _column(simulation: Simulation, process: int) -> dict[int, str]:
    steps = simulation.schedule.processes[process].steps
    _, here = simulation.position(process)
    shown = range(max(0, here - GRID_CONTEXT), min(len(steps), here + GRID_CONTEXT + 1))
    return {i: f"{steps[i].kind.value} {steps[i].label}" + (" <<" if i == here else "") for i in shown}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
