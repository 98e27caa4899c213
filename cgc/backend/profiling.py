"""
From measurements of a running graph to the profile that the compiler reads.

A call's time is the median over the executions that are remembered, whatever actor of the class ran it, so that neither
the first execution (imports, caches) nor a busy moment counts. A transport's figures come from messages whose reader
was waiting already: the writer's time is the overhead, and what passes until the reader has the message is overhead and
latency. Both are those of messages as large as this graph's. Bandwidths are not measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from cgc.ir import GraphOp
from cgc.passes.analysis.cost import CostModel, Link
from cgc.passes.graph_view import actors_of
from cgc.runtime.program import Call, Program, Read, Write

Sample = tuple[int, int, int]
"""(execution, start, end) of an operation in nanoseconds, one clock for all actors of a node."""

Samples = Mapping[str, Sequence[Sequence[Sample]]]
"""By actor and operation of its program."""


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
    written: dict[tuple[str, int], dict[int, tuple[int, int]]] = {}
    for actor, of_actor in samples.items():
        for message, found in _messages(programs[actor], Write, of_actor):
            written[message] = {execution: (start, end) for execution, start, end in found}
    for actor, of_actor in samples.items():
        kinds = {channel.name: channel.kind for channel in programs[actor].channels if not channel.communicator}
        for message, found in _messages(programs[actor], Read, of_actor):
            writes = written.get(message, {}) if message[0] in kinds else {}
            for execution, start, end in found:
                if execution in writes and start <= writes[execution][0]:
                    begun, ended = writes[execution]
                    yield kinds[message[0]], ((ended - begun) / 1e3, max(0.0, (end - ended) / 1e3))


def _messages(
    program: Program, kind: type[Read | Write], samples: Sequence[Sequence[Sample]]
) -> Iterator[tuple[tuple[str, int], Sequence[Sample]]]:
    """The samples of a program's reads or writes by channel and number: messages may take turns on a channel."""
    count: dict[str, int] = defaultdict(int)
    for operation, found in zip(program.operations, samples, strict=True):
        if isinstance(operation, kind):
            yield (operation.channel, count[operation.channel]), found
            count[operation.channel] += 1


def _link(old: Link, hops: Sequence[tuple[float, float]]) -> Link:
    writing, arriving = (median(column) for column in zip(*hops, strict=True))
    return Link(round(max(0.0, arriving - writing), 1), old.gb_per_s, round(writing, 1))
