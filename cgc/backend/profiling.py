"""
From measurements of a running graph to the profile that the compiler reads.

A call's time is the median over the executions that are remembered, whatever actor of the class ran it, so that neither
the first execution (imports, caches) nor a busy moment counts. A transport's figures come from messages whose reader
was waiting already: the writer's time is the overhead and the copy, and what passes until the reader has the message is
overhead and latency.

Messages of different sizes tell the overhead from the bandwidth: a line through the median times of the sizes. Messages
of about one size cannot; then the bandwidth stays what it was, and the overhead is what it leaves of the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, median

from cgc.ir import GraphOp
from cgc.passes.analysis.cost import CostModel, Link
from cgc.passes.graph_view import actors_of
from cgc.runtime.program import Call, Program, Read, Write

Sample = tuple[int, int, int, int]
"""(execution, start, end, bytes written) of an operation in nanoseconds, one clock for all actors of a node."""

Samples = Mapping[str, Sequence[Sequence[Sample]]]
"""By actor and operation of its program."""

LEAST_SPREAD = 64 * 1024
"""Bytes between the smallest and the largest messages from which on the copy shows in their times: some 6 µs."""

RESOLUTION_US = 0.1
"""Of a profile: messages that are sent without a copy take no longer for being larger."""

LEAST_SAMPLES = 3
"""Messages of a size that are needed: the first ones make and map the memory in which they lie."""


@dataclass(frozen=True, slots=True)
class Hop:
    """
    A message that was waited for.

    Attributes:
        nbytes: Its size, of all its values.
        writing_us: Microseconds that the writer took.
        arriving_us: Microseconds from then until the reader had it.
    """

    nbytes: int
    writing_us: float
    arriving_us: float


def profile_of(graph: GraphOp, programs: Mapping[str, Program], samples: Samples, base: CostModel) -> CostModel:
    """`base` with the figures that were measured in place of its own."""
    class_names = {name: actor.class_name.data for name, actor in actors_of(graph).items() if actor.class_name}
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for actor, of_actor in samples.items():
        for operation, found in zip(programs[actor].operations, of_actor, strict=True):
            if isinstance(operation, Call):
                times[class_names[actor], operation.method] += [(end - start) / 1e3 for _, start, end, _ in found]
    hops: dict[str, list[Hop]] = defaultdict(list)
    for kind, hop in _hops(programs, samples):
        hops[kind].append(hop)
    calls = {call: round(median(us), 1) for call, us in times.items() if us}
    links = {kind: _link(base.link(kind), found) for kind, found in hops.items()}
    # The mean, because times are linear in sizes: so all messages together take what they took.
    sizes = list(_sizes_of_values(programs, samples))
    return replace(
        base,
        calls={**base.calls, **calls},
        links={**base.links, **links},
        object_bytes=round(fmean(sizes)) if sizes else base.object_bytes,
        source="the measured profile",
    )


def _hops(programs: Mapping[str, Program], samples: Samples) -> Iterator[tuple[str, Hop]]:
    """
    The messages that were waited for, with their transports.

    Only messages through memory: with a communicator, what both ends do overlaps.
    """
    written: dict[tuple[str, int], dict[int, Sample]] = {}
    for actor, of_actor in samples.items():
        for message, found in _messages(programs[actor], Write, of_actor):
            written[message] = {sample[0]: sample for sample in found}
    for actor, of_actor in samples.items():
        kinds = {channel.name: channel.kind for channel in programs[actor].channels if not channel.communicator}
        for message, found in _messages(programs[actor], Read, of_actor):
            writes = written.get(message, {}) if message[0] in kinds else {}
            for execution, start, end, _ in found:
                if execution in writes and start <= writes[execution][1]:
                    _, begun, ended, nbytes = writes[execution]
                    yield kinds[message[0]], Hop(nbytes, (ended - begun) / 1e3, max(0.0, (end - ended) / 1e3))


def _sizes_of_values(programs: Mapping[str, Program], samples: Samples) -> Iterator[float]:
    """Bytes of a value, for each message through memory that an actor has written."""
    for actor, of_actor in samples.items():
        for operation, found in zip(programs[actor].operations, of_actor, strict=True):
            if isinstance(operation, Write):
                yield from (nbytes / len(operation.values) for _, _, _, nbytes in found if nbytes)


def _messages(
    program: Program, kind: type[Read | Write], samples: Sequence[Sequence[Sample]]
) -> Iterator[tuple[tuple[str, int], Sequence[Sample]]]:
    """The samples of a program's reads or writes by channel and number: messages may take turns on a channel."""
    count: dict[str, int] = defaultdict(int)
    for operation, found in zip(program.operations, samples, strict=True):
        if isinstance(operation, kind):
            yield (operation.channel, count[operation.channel]), found
            count[operation.channel] += 1


def _link(old: Link, hops: Sequence[Hop]) -> Link:
    arriving = median(hop.arriving_us for hop in hops)
    gb_per_s, overhead = _line(old, _points(hops))
    return Link(round(max(0.0, arriving - overhead), 1), gb_per_s, round(overhead, 1))


def _points(hops: Sequence[Hop]) -> list[tuple[float, float]]:
    """(bytes, microseconds of the writer): medians of the messages of each power of two, smallest first."""
    alike: dict[int, list[Hop]] = defaultdict(list)
    for hop in hops:
        alike[hop.nbytes.bit_length()].append(hop)
    enough = [found for _, found in sorted(alike.items()) if len(found) >= LEAST_SAMPLES] or [list(hops)]
    return [(median(hop.nbytes for hop in found), median(hop.writing_us for hop in found)) for found in enough]


def _line(old: Link, points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """
    (bandwidth, overhead) of the writer.

    The slope is the median of those of all pairs, each weighted by how far its sizes are apart, so that neither small
    sizes, whose times differ by chance alone, nor one busy moment decide; the line goes through the smallest size. With
    one size alone, the bandwidth is that of the old link, or the least that its time allows.
    """
    (least, us), (most, _) = points[0], points[-1]
    if most - least >= LEAST_SPREAD:
        pairs = [((v - u) / (b - a), b - a) for (a, u), (b, v) in combinations(points, 2) if b > a]
        slope = max(_weighted_median(sorted(pairs)), RESOLUTION_US / most)
    elif us * old.gb_per_s * 1e3 >= least:
        return old.gb_per_s, us - least / (old.gb_per_s * 1e3)
    else:
        slope = max(us, RESOLUTION_US) / least
    return float(f"{1e-3 / slope:.4g}"), max(0.0, us - slope * least)


def _weighted_median(sorted_values: Sequence[tuple[float, float]]) -> float:
    """The value at which half of the weight is reached."""
    half = sum(weight for _, weight in sorted_values) / 2
    reached = 0.0
    for value, weight in sorted_values:
        reached += weight
        if reached >= half:
            break
    return value
