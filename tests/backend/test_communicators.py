"""Which communicators a graph has, and what its channels say of them."""

from __future__ import annotations

from typing import Any

import pytest
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.ir.abstract import abstract_actor
from cgc.runtime.program import Collective, CommunicatorSpec, Program

pytest.importorskip("torch")

from ray.experimental.collective import allgather, allreduce


def lower(dag: Any, **options: Any) -> dict[str, Program]:
    return cgc.lower(dag, default_communicator="gloo", **options).products["programs"]


def communicators(programs: dict[str, Program]) -> dict[str, tuple[str, ...]]:
    """Actors by communicator; every program that names one says the same of it."""
    found: dict[str, CommunicatorSpec] = {}
    for program in programs.values():
        for spec in program.communicators:
            assert found.setdefault(spec.name, spec) == spec
    return {name: spec.actors for name, spec in found.items()}


@pytest.fixture
def actors() -> list[Any]:
    return [abstract_actor("Stage", name=name) for name in "abc"]


def over_gloo(node: Any, **hint: Any) -> Any:
    return node.with_tensor_transport(transport="accelerator", **hint)


def test_transfers_share_one_communicator(actors: list[Any]) -> None:
    a, b, c = actors
    with InputNode() as inp:
        dag = c.end.bind(over_gloo(b.middle.bind(over_gloo(a.begin.bind(inp)))))
    programs = lower(dag)
    assert communicators(programs) == {"gloo0": ("a", "b", "c")}
    assert [program.communicators != () for program in programs.values()] == [False, True, True, True]


def test_transfers_take_a_collectives_communicator_that_has_all_their_actors(actors: list[Any]) -> None:
    with InputNode() as inp:
        sums = allreduce.bind([actor.begin.bind(inp) for actor in actors])
        crossing = actors[2].end.bind(over_gloo(sums[0]))
        dag = MultiOutputNode([crossing, actors[1].end.bind(sums[1]), actors[2].end.bind(sums[2])])
    assert communicators(lower(dag)) == {"gloo0": ("a", "b", "c")}


def test_collectives_have_communicators_of_their_participants_in_their_order(actors: list[Any]) -> None:
    a, b, c = actors
    with InputNode() as inp:
        first = allreduce.bind([a.begin.bind(inp), b.begin.bind(inp)])
        again = allreduce.bind([a.next.bind(first[0]), b.next.bind(first[1])])
        turned = allgather.bind([b.next.bind(again[1]), a.next.bind(again[0])])
        crossing = over_gloo(a.next.bind(turned[1]))
        dag = MultiOutputNode([turned[0], c.end.bind(crossing)])
    programs = lower(dag)
    assert communicators(programs) == {"gloo0": ("a", "b"), "gloo1": ("b", "a"), "gloo2": ("a", "c")}
    collectives = [o for o in programs["a"].operations if isinstance(o, Collective)]
    assert [(o.kind, o.reduce, o.communicator, o.channels) for o in collectives] == [
        ("allreduce", "sum", "gloo0", ("gloo0.a", "gloo0.b")),
        ("allreduce", "sum", "gloo0", ("gloo0.a", "gloo0.b")),
        ("allgather", None, "gloo1", ("gloo1.b", "gloo1.a")),
    ]
    assert str(collectives[0]).endswith("= allreduce sum gloo0 r1    drop r1")


def test_participants_have_a_channel_to_tell_the_others_what_they_bring(actors: list[Any]) -> None:
    with InputNode() as inp:
        dag = MultiOutputNode(allreduce.bind([actor.begin.bind(inp) for actor in actors]))
    programs = lower(dag)
    told = [channel for channel in programs["b"].channels if channel.name.startswith("gloo0.")]
    assert [(channel.writer, channel.readers) for channel in told] == [
        ("a", ("b", "c")),
        ("b", ("a", "c")),
        ("c", ("a", "b")),
    ]
    indices = {channel.index for program in programs.values() for channel in program.channels}
    assert indices == set(range(len(indices)))


def test_a_lonely_participant_tells_nobody(actors: list[Any]) -> None:
    with InputNode() as inp:
        dag = MultiOutputNode(allreduce.bind([actors[0].begin.bind(inp)]))
    programs = lower(dag)
    assert [o.channels for o in programs["a"].operations if isinstance(o, Collective)] == [()]
    assert communicators(programs) == {"gloo0": ("a",)}


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("direct", [False, True])
def test_channels_know_the_promises(actors: list[Any], static: bool, direct: bool) -> None:
    a, b, _ = actors
    with InputNode() as inp:
        dag = b.end.bind(over_gloo(a.begin.bind(inp), _static_shape=static, _direct_return=direct))
    programs = lower(dag)
    (channel,) = (channel for channel in programs["b"].channels if channel.communicator)
    assert (channel.kind, channel.communicator) == ("gloo", "gloo0")
    assert (channel.static, channel.direct) == (static, direct)
    assert channel in programs["a"].channels
    assert all(not other.communicator for other in programs["driver"].channels)


def test_streams_show_in_programs(actors: list[Any]) -> None:
    a, b, _ = actors
    with InputNode() as inp:
        ends = [b.end.bind(over_gloo(a.begin.bind(inp))) for _ in range(3)]
    lines = str(lower(MultiOutputNode(ends), overlap_gpu_communication=True)["b"])
    assert "= read_start c1 on stream 2" in lines
    assert "= wait r0" in lines
