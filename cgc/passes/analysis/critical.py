"""The longest path of a simulation: the steps that had to end when they did for the last one to end when it did."""

from __future__ import annotations

from cgc.passes.analysis.schedule import Kind
from cgc.passes.analysis.simulate import Simulation

TOLERANCE_US = 1e-6


def critical_path(simulation: Simulation) -> list[tuple[int, int]]:
    """
    (process, step) from the first to the last step of a longest path, for a simulation of one execution that ended.

    Each step waits for the one before it in its process, for the writer of what it reads, for the other parties of
    what it meets in, or for what it is `after`: the path goes back to the one that ended last.
    """
    ends = simulation.ends
    last = max(range(len(ends)), key=lambda p: (ends[p][-1] if ends[p] else -1.0, -p), default=None)
    if last is None or not ends[last]:
        return []
    sources = _sources(simulation)
    path = [(last, len(ends[last]) - 1)]
    while True:
        process, step = path[-1]
        before = [(process, step - 1)] if step else []
        before += sources.get((process, step), [])
        limit = simulation.starts[process][step] + TOLERANCE_US
        possible = [place for place in before if ends[place[0]][place[1]] <= limit]
        if not possible:
            return path[::-1]
        path.append(max(possible, key=lambda place: (ends[place[0]][place[1]], place[0] != process)))


def _sources(simulation: Simulation) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """What each step waits for outside its process: writers, the steps before other parties of a meeting, `after`."""
    schedule = simulation.schedule
    writes: dict[int, list[tuple[int, int]]] = {}
    meetings: dict[int, list[tuple[int, int]]] = {}
    for index, process in enumerate(schedule.processes):
        for number, step in enumerate(process.steps):
            for channel in step.channels:
                kind = writes if step.kind is Kind.WRITE else meetings if step.kind is Kind.MEET else {}
                kind.setdefault(channel, []).append((index, number))
    sources: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for index, process in enumerate(schedule.processes):
        taken: dict[int, int] = {}
        for number, step in enumerate(process.steps):
            found = list(step.after)
            for channel in step.channels:
                nth = taken[channel] = taken.get(channel, -1) + 1
                if step.kind is Kind.READ:
                    found.append(writes[channel][nth])
                found += [(p, n - 1) for p, n in meetings.get(channel, ()) if p != index and n > 0]
            if found:
                sources[index, number] = found
    return sources
