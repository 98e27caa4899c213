"""
From measurements of a running graph to the profile that the compiler reads.

A call's time is the median over the executions that are remembered, whatever actor of the class ran it, so that neither
the first execution (imports, caches) nor a busy moment counts. A transport's figures come from messages whose reader
was waiting already: the writer's time is the overhead, and what passes until the reader has the message is overhead and
latency. Both are those of messages as large as this graph's. Bandwidths are not measured.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from cgc.ir import GraphOp
from cgc.passes.analysis.cost import CostModel, Link
from cgc.passes.graph_view import actors_of
from cgc.runtime.program import Call, Program, Read, Write

Samples = Mapping[str, Sequence[Sequence[tuple[int, int, int]]]]
"""By actor and operation of its program: (execution, start, end) in nanoseconds, one clock for all actors of a node."""


def profile_of(graph: GraphOp, programs: Mapping[str, Program], samples: Samples, base: CostModel) -> CostModel:
    """`base` with the figures that were measured in place of its own."""
    class_names = {name: actor.class_name.data for name, actor in actors_of(graph).items() if actor.class_name}
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for actor, of_actor in samples.items():
        for operation, found in zip(programs[actor].operations, of_actor, strict=True):
            if isinstance(operation, Call):
                times[class_names[actor], operation.method] += [(end - start) / 1e3 for _, start, end in found]
    hops: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for kind, hop in _hops(programs, samples):
        hops[kind].append(hop)
    calls = {call: round(median(us), 1) for call, us in times.items() if us}
    links = {kind: _link(base.link(kind), found) for kind, found in hops.items()}
    return replace(base, calls={**base.calls, **calls}, links={**base.links, **links}, source="the measured profile")


def _hops(programs: Mapping[str, Program], samples: Samples) -> Iterator[tuple[str, tuple[float, float]]]:
    """
    (transport, (time of the writer, time from then until the reader has it)) of messages that were waited for.

    Only messages through memory: with a communicator, what both ends do overlaps.
    """
    # Several messages of an execution may take turns on a channel: the nth write is the nth read of each reader.
    written: dict[tuple[str, int], dict[int, tuple[int, int]]] = {}
    for actor, of_actor in samples.items():
        turns = Counter[str]()
        for operation, found in zip(programs[actor].operations, of_actor, strict=True):
            if isinstance(operation, Write):
                turn = (operation.channel, turns[operation.channel])
                written[turn] = {execution: (start, end) for execution, start, end in found}
                turns[operation.channel] += 1
    for actor, of_actor in samples.items():
        turns = Counter[str]()
        kinds = {channel.name: channel.kind for channel in programs[actor].channels if not channel.communicator}
        for operation, found in zip(programs[actor].operations, of_actor, strict=True):
            if not isinstance(operation, Read) or operation.channel not in kinds:
                continue
            writes = written.get((operation.channel, turns[operation.channel]), {})
            turns[operation.channel] += 1
            for execution, start, end in found:
                if execution in writes and start <= writes[execution][0]:
                    begun, ended = writes[execution]
                    yield kinds[operation.channel], ((ended - begun) / 1e3, max(0.0, (end - ended) / 1e3))


def _link(old: Link, hops: Sequence[tuple[float, float]]) -> Link:
    writing, arriving = (median(column) for column in zip(*hops, strict=True))
    return Link(round(max(0.0, arriving - writing), 1), old.gb_per_s, round(writing, 1))
