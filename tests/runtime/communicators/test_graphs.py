"""Compiled graphs whose tensors go through gloo: values, promises, errors, deaths, and the end."""

from __future__ import annotations

from typing import Any

import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import RayChannelTimeoutError
from ray.experimental.collective import allreduce

import cgc
from cgc.runtime.communicators.edges import SILENT_AFTER
from cgc.runtime.communicators.gloo import GlooCommunicator
from tests.runtime.communicators.told_actors import (
    DEADLINE,
    VALUES,
    Actor,
    Gate,
    compile_edge,
    eventually_left,
    failure,
    raise_value_error,
    told,
)


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    return [Actor.remote() for _ in range(2)]


@pytest.mark.parametrize("static", [False, True])
def test_values_arrive_as_they_were(actors: list[Any], static: bool) -> None:
    if static:
        with compile_edge(actors, _static_shape=True) as graph:
            for number in range(3):
                value = [torch.full((2, 3), number), f"text {number}"]
                assert ray.get(graph.execute(lambda value=value: value)) == told(value)
        return
    with compile_edge(actors) as graph:
        for make in VALUES:
            assert ray.get(graph.execute(make)) == told(make())


def test_executions_are_pipelined_with_shapes_that_change(actors: list[Any]) -> None:
    with compile_edge(actors) as graph:
        refs = [graph.execute(lambda n=n: torch.full((n,), n)) for n in range(8)]
        assert [ray.get(ref)[1] for ref in refs] == [(n,) for n in range(8)]


def test_a_channel_falls_silent_and_speaks_when_something_changes(actors: list[Any]) -> None:
    """Many equal tensors, then another shape, an error, another kind of value, no elements: one after the other."""
    kept = 2 * SILENT_AFTER
    interludes = [
        lambda: torch.full((5,), 7.0),
        lambda: torch.ones(3, requires_grad=True),
        lambda: [torch.ones(2), "and more"],
        lambda: torch.empty(0, 3),
        lambda: torch.ones(3, dtype=torch.int64),
    ]
    with compile_edge(actors) as graph:
        for interlude in interludes:
            refs = [graph.execute(lambda n=n: torch.full((3,), n)) for n in range(8)]
            assert [ray.get(ref)[2] for ref in refs] == [[n] * 3 for n in range(8)]
            for number in range(kept):
                assert ray.get(graph.execute(lambda n=number: torch.full((3,), n)))[2] == [number] * 3
            together = [graph.execute(make) for make in (interlude, raise_value_error, interlude)]
            assert ray.get(together[0]) == told(interlude())
            assert "spilt" in str(failure(together[1]))
            assert ray.get(together[2]) == told(interlude())
            for _ in range(kept):
                assert ray.get(graph.execute(lambda: torch.zeros(3)))[2] == [0.0] * 3
            for ref in [graph.execute(raise_value_error) for _ in range(3)]:
                assert "spilt" in str(failure(ref))


@pytest.mark.parametrize("shape", [(0, 2), ()])
def test_promised_tensors_may_be_empty_or_scalars(actors: list[Any], shape: tuple[int, ...]) -> None:
    with compile_edge(actors, _static_shape=True, _direct_return=True) as graph:
        for number in range(4):
            value = torch.full(shape, number)
            refs = [graph.execute(make) for make in (lambda v=value: v, raise_value_error, lambda v=value: v)]
            assert ray.get(refs[0]) == ray.get(refs[2]) == told(value)
            assert "spilt" in str(failure(refs[1]))


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("static", [False, True])
def test_an_error_travels_and_the_graph_goes_on(actors: list[Any], static: bool, direct: bool) -> None:
    with compile_edge(actors, _static_shape=static, _direct_return=direct) as graph:
        assert "spilt" in str(failure(graph.execute(raise_value_error)))
        for number in range(3):
            assert ray.get(graph.execute(lambda n=number: torch.full((2,), n)))[2] == [number] * 2
            error = failure(graph.execute(raise_value_error))
            assert isinstance(error, ValueError)
            assert "spilt" in str(error)
        refs = [graph.execute(raise_value_error if n % 2 else (lambda n=n: torch.full((2,), n))) for n in range(6)]
        for number, ref in enumerate(refs):
            if number % 2:
                assert "spilt" in str(failure(ref))
            else:
                assert ray.get(ref)[2] == [number] * 2


@pytest.mark.parametrize(
    ("hint", "first", "second", "text"),
    [
        (
            {"_static_shape": True, "_direct_return": True},
            lambda: torch.ones(2),
            lambda: torch.ones(3),
            "promised to keep its shape (_static_shape=True), but it was float32[2] and is float32[3]",
        ),
        (
            {"_static_shape": True},
            lambda: [torch.ones(2), torch.ones(1)],
            lambda: [torch.ones(2), torch.ones(1).int()],
            "tensor 1 was float32[1] and is int32[1]",
        ),
        (
            {"_static_shape": True},
            lambda: [torch.ones(2), torch.ones(1)],
            lambda: [torch.ones(2)],
            "it had 2 tensors and has 1 tensor",
        ),
        (
            {"_direct_return": True},
            lambda: torch.ones(2),
            lambda: [torch.ones(2)],
            "promised to be one tensor (_direct_return=True), and is a list",
        ),
        (
            {},
            lambda: torch.ones(2),
            lambda: torch.ones(2, device="meta"),
            "a tensor is on meta, but its communicator moves cpu",
        ),
        ({}, lambda: torch.ones(2), lambda: [torch.ones(2), __import__("threading").Lock()], "cannot be sent"),
    ],
)
def test_a_broken_promise_is_told_and_the_graph_goes_on(
    actors: list[Any], hint: dict[str, Any], first: Any, second: Any, text: str
) -> None:
    with compile_edge(actors, **hint) as graph:
        assert ray.get(graph.execute(first)) == told(first())
        message = str(failure(graph.execute(second)))
        assert text in message
        assert "call apply on @Actor_0 (told_actors.py:" in message
        assert ray.get(graph.execute(first)) == told(first())


def test_teardown_wakes_who_waits_in_the_communicator(actors: list[Any]) -> None:
    graph = compile_edge(actors, _static_shape=True, _direct_return=True)
    assert ray.get(graph.execute(lambda: torch.ones(1)))[2] == [1.0]
    graph.teardown()  # the second actor waits for the next tensor, without a header
    for actor in actors:
        eventually_left(actor)
    with compile_edge(actors) as again:
        assert ray.get(again.execute(lambda: torch.ones(1)))[2] == [1.0]


def test_a_late_actor_is_named(actors: list[Any]) -> None:
    with compile_edge(actors) as graph:
        entered, late = Gate.remote(), Gate.remote()
        ref = graph.execute(lambda: (ray.get([entered.open.remote(), late.wait.remote()]), torch.ones(1))[1])
        ray.get(entered.wait.remote())
        with pytest.raises(RayChannelTimeoutError, match=r"call apply\(r0\)"):
            ray.get(ref, timeout=0.1)
        ray.get(late.open.remote())
        assert ray.get(ref, timeout=DEADLINE)[2] == [1.0]


def test_an_actor_without_torch_is_told_what_to_install(actors: list[Any]) -> None:
    without = Actor.remote()
    ray.get(without.hide.remote("torch"))
    with pytest.raises(RuntimeError, match=r"@Actor_1 .* cannot take part in the graph: .*pip install 'cgc\[torch\]'"):
        compile_edge([actors[0], without])
    eventually_left(actors[0])


def test_a_communicator_of_other_actors_is_refused(actors: list[Any]) -> None:
    first, second = actors
    stranger = Actor.remote()
    with InputNode() as inp:
        value = first.apply.bind(inp).with_tensor_transport(transport=GlooCommunicator([first, stranger]))
        dag = second.look.bind(value)
    with pytest.raises(ValueError, match=r"GlooCommunicator has Actor\(Actor, \w+\), which is no actor of this graph"):
        cgc.compile(dag)
    with InputNode() as inp:
        value = first.apply.bind(inp).with_tensor_transport(transport=GlooCommunicator([first]))
        dag = second.look.bind(value)
    with pytest.raises(ValueError, match="the transport of a tensor of @Actor_1, which does not belong to it"):
        cgc.compile(dag)


def test_the_driver_is_in_no_communicator(actors: list[Any]) -> None:
    with InputNode() as inp:
        dag = actors[0].apply.bind(inp).with_tensor_transport(transport=GlooCommunicator(actors))
    with pytest.raises(ValueError, match="the driver is in no communicator"):
        cgc.compile(dag)


def of_inputs(actors: list[Any], transport: str) -> Any:
    with InputNode() as inp:
        parts = [part.with_tensor_transport(transport) for part in (inp[0], inp.x)]
        return MultiOutputNode([actor.look.bind(part) for actor, part in zip(actors, parts, strict=True)])


@pytest.mark.parametrize("transport", ["shm", "auto"])
def test_parts_of_the_input_have_hints_of_their_own(actors: list[Any], transport: str) -> None:
    with cgc.compile(of_inputs(actors, transport)) as graph:
        for number in range(3):
            item, attribute = torch.full((2,), number), torch.full((3, 1), number)
            assert ray.get(graph.execute(item, x=attribute)) == [told(item), told(attribute)]


@pytest.mark.parametrize("default", ["create", "gloo"])
@pytest.mark.parametrize("transport", ["nccl", "accelerator"])
def test_parts_of_the_input_cannot_go_through_a_communicator(actors: list[Any], transport: str, default: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"the input \(test_graphs.py:\d+\) cannot go from driver to Actor_0 via \w+: the driver is in no",
    ) as error:
        cgc.compile(of_inputs(actors, transport), default_communicator=default)
    assert "communicator (DAG inputs cannot be" in str(error.value)
    assert "use transport 'shm' for values that the driver sends" in str(error.value)


def test_streams_change_when_and_not_what(actors: list[Any]) -> None:
    first, second = actors
    communicator = GlooCommunicator(actors)
    with InputNode() as inp:
        back = []
        for number in range(3):
            there = first.apply.bind(inp[number]).with_tensor_transport(transport=communicator)
            back.append(second.make.bind(there).with_tensor_transport(transport=communicator))
        dag = MultiOutputNode([first.look.bind(value) for value in back])
    with cgc.compile(dag, overlap_gpu_communication=True) as graph:
        assert "on stream 2" in str(graph.programs["Actor_1"])
        pending = [
            graph.execute(*(lambda n=n, step=step: torch.full((n + 1,), step) for n in range(3))) for step in range(5)
        ]
        for step, refs in enumerate(pending):
            assert [ray.get(ref)[2] for ref in refs] == [[step] * (n + 1) for n in range(3)]
        good, bad, also_good = graph.execute(lambda: torch.ones(1), raise_value_error, lambda: torch.ones(2))
        assert "spilt" in str(failure(bad))
        assert [ray.get(ref)[2] for ref in (good, also_good)] == [[1.0], [1.0, 1.0]]
        pending = graph.execute(lambda: torch.ones(1), lambda: torch.ones(1), lambda: torch.ones(1))
    for actor in actors:
        eventually_left(actor)


def with_default(actors: list[Any], communicator: Any) -> Any:
    """A graph whose tensors ask for a communicator and name none."""
    with InputNode() as inp:
        values = [actor.apply.bind(inp) for actor in actors]
        sums = allreduce.bind(values)
        crossing = sums[0].with_tensor_transport(transport="accelerator")
        dag = MultiOutputNode([actors[1].look.bind(crossing), actors[1].look.bind(sums[1])])
    return cgc.compile(dag, default_communicator=communicator)


@pytest.mark.parametrize(("kind", "names"), [("gloo", ["gloo0"]), ("shm", []), ("instance", ["custom0"])])
def test_the_default_communicator_serves_who_names_none(actors: list[Any], kind: str, names: list[str]) -> None:
    with with_default(actors, GlooCommunicator(actors) if kind == "instance" else kind) as graph:
        assert [spec.name for spec in graph.programs["Actor_0"].communicators] == names
        for result in ray.get(graph.execute(lambda: torch.ones(2))):
            assert result[2] == [2.0, 2.0]


def test_without_a_default_the_node_is_named(actors: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"test_graphs.py:\d+.*has no custom communicator specified"):
        with_default(actors, None)
    with pytest.raises(ValueError, match=r"test_graphs.py:\d+.*have no GPU; use transport 'auto' or 'shm'"):
        with_default(actors, "create")
