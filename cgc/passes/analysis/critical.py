"""The longest path of a simulation: the steps that had to end when they did for the last one to end when it did."""

from __future__ import annotations

from collections.abc import Iterator

from cgc.passes.analysis.schedule import Kind, Process
from cgc.passes.analysis.simulate import Simulation

TOLERANCE_US = 1e-6

Place = tuple[int, int]
"""(process, step)."""


def critical_path(simulation: Simulation) -> list[Place]:
    """
    (process, step) from the first to the last step of a longest path, for a simulation of one execution that ended.

    Each step waits for the one before it in its process, for the writer of what it reads, for the other parties of
    what it meets in, or for what it is `after`: the path goes back to the one that ended last. Where another party of a
    meeting was late, its end of the meeting is on the path, too.
    """
    ends = simulation.ends
    last = max(range(len(ends)), key=lambda p: (ends[p][-1] if ends[p] else -1.0, -p), default=None)
    if last is None or not ends[last]:
        return []
    sources = _sources(simulation)
    path = [(last, len(ends[last]) - 1)]
    while True:
        process, step = path[-1]
        before: list[tuple[Place, Place | None]] = [((process, step - 1), None)] if step else []
        before += sources.get((process, step), [])
        limit = simulation.starts[process][step] + TOLERANCE_US
        possible = [(place, via) for place, via in before if ends[place[0]][place[1]] <= limit]
        if not possible:
            return path[::-1]
        latest, via = max(possible, key=lambda found: (ends[found[0][0]][found[0][1]], found[0][0] != process))
        path += [latest] if via is None else [via, latest]


def _sources(simulation: Simulation) -> dict[Place, list[tuple[Place, Place | None]]]:
    """
    What each step waits for outside its process, and the other end of the meeting by which it does.

    That is writers, `after`, and what the other parties of a meeting have to do or to wait for before they come to it.
    """
    processes = simulation.schedule.processes
    writes: dict[int, list[Place]] = {}
    meetings: dict[int, list[Place]] = {}
    for index, process in enumerate(processes):
        for number, step in enumerate(process.steps):
            for channel in step.channels:
                kind = writes if step.kind is Kind.WRITE else meetings if step.kind is Kind.MEET else {}
                kind.setdefault(channel, []).append((index, number))
    sources: dict[Place, list[tuple[Place, Place | None]]] = {}
    for index, process in enumerate(processes):
        taken: dict[int, int] = {}
        for number, step in enumerate(process.steps):
            found: list[tuple[Place, Place | None]] = [(place, None) for place in step.after]
            for channel in step.channels:
                nth = taken[channel] = taken.get(channel, -1) + 1
                if step.kind is Kind.READ:
                    found.append((writes[channel][nth], None))
                for party in meetings.get(channel, ()):
                    if party[0] != index:
                        found += [(place, party) for place in _before(processes[party[0]], party)]
            if found:
                sources[index, number] = found
    return sources


def _before(process: Process, place: Place) -> Iterator[Place]:
    """What a step waits for by itself: the one before it in its process, and `after`."""
    index, number = place
    if number:
        yield index, number - 1
    yield from process.steps[number].after
