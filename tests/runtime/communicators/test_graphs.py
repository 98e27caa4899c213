"""Compiled graphs whose tensors go through gloo: values, promises, errors, deaths, and the end."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import ActorDiedError, RayChannelTimeoutError
from ray.experimental.channel.cpu_communicator import CPUCommunicator
from ray.experimental.collective import allgather, allreduce, reducescatter
from ray.experimental.util.types import ReduceOp

import cgc
from cgc.runtime.communicators.edges import SILENT_AFTER
from cgc.runtime.communicators.gloo import GlooCommunicator

DEADLINE = 60.0


@dataclasses.dataclass
class Batch:
    inputs: Any
    extra: Any


@ray.remote(num_cpus=0)
class Actor:
    """Does what it is told."""

    def apply(self, function: Callable[[], Any]) -> Any:
        return function()

    def make(self, value: Any) -> Any:
        return value

    def look(self, value: Any) -> Any:
        """The value as the driver can compare it."""
        return _told(value)

    def hide(self, module: str) -> None:
        """Let it be as if a library were not installed."""
        import sys

        for name in [name for name in sys.modules if name == module or name.startswith("cgc.runtime.communicators.")]:
            del sys.modules[name]
        sys.modules[module] = None

    def keys(self) -> tuple[str, ...]:
        from cgc.runtime.communicators.registry import REGISTRY

        return REGISTRY.keys


@ray.remote(num_cpus=0, max_concurrency=2)
class Gate:
    """Lets one actor wait for what another one does."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        assert self._open.wait(DEADLINE)


def _told(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        data = value.detach()
        numbers = (data.float() if data.dtype is torch.bfloat16 else data).tolist()
        return str(value.dtype), tuple(value.shape), numbers, value.requires_grad
    if isinstance(value, dict):
        return {key: _told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    return _told(dataclasses.astuple(value)) if isinstance(value, Batch) else value


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    return [Actor.remote() for _ in range(2)]


def compile_edge(actors: list[Any], **hint: Any) -> Any:
    """Driver → apply on the first → look on the second → driver, the middle edge over gloo."""
    first, second = actors
    with InputNode() as inp:
        value = first.apply.bind(inp).with_tensor_transport(transport=GlooCommunicator(actors), **hint)
        return cgc.compile(second.look.bind(value))


def failure(ref: Any) -> Exception:
    with pytest.raises(Exception) as error:  # noqa: PT011  the caller looks at it
        ray.get(ref, timeout=DEADLINE)
    return error.value


VALUES = [
    lambda: torch.arange(6).reshape(2, 3),
    lambda: torch.arange(6.0).reshape(2, 3).t(),
    lambda: torch.tensor(2.5, dtype=torch.bfloat16, requires_grad=True),
    lambda: torch.empty(0, 4),
    lambda: torch.tensor([1 + 2j]).conj(),
    lambda: {"a": torch.ones(3, dtype=torch.bool), "b": [torch.zeros(1, dtype=torch.int8), "text", None]},
    lambda: Batch(torch.ones(2, 2), (torch.zeros(0), {"k": torch.tensor(7)})),
    lambda: [(shared := torch.ones(4)), shared, shared[:2]],
    lambda: "no tensor at all",
]


@pytest.mark.parametrize("static", [False, True])
def test_values_arrive_as_they_were(actors: list[Any], static: bool) -> None:
    if static:
        with compile_edge(actors, _static_shape=True) as graph:
            for number in range(3):
                value = [torch.full((2, 3), number), f"text {number}"]
                assert ray.get(graph.execute(lambda value=value: value)) == _told(value)
        return
    with compile_edge(actors) as graph:
        for make in VALUES:
            assert ray.get(graph.execute(make)) == _told(make())


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
            assert ray.get(together[0]) == _told(interlude())
            assert "spilt" in str(failure(together[1]))
            assert ray.get(together[2]) == _told(interlude())
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
            assert ray.get(refs[0]) == ray.get(refs[2]) == _told(value)
            assert "spilt" in str(failure(refs[1]))


def raise_value_error() -> Any:
    raise ValueError("spilt")


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
        assert ray.get(graph.execute(first)) == _told(first())
        message = str(failure(graph.execute(second)))
        assert text in message
        assert "call apply on @Actor_0 (test_graphs.py:" in message
        assert ray.get(graph.execute(first)) == _told(first())


def compile_collective(actors: list[Any], bind: Callable[..., Any], communicator: Any, **options: Any) -> Any:
    with InputNode() as inp:
        values = [actor.apply.bind(inp[rank]) for rank, actor in enumerate(actors)]
        results = bind(values, transport=communicator, **options)
        return cgc.compile(MultiOutputNode([a.look.bind(r) for a, r in zip(actors, results, strict=True)]))


@pytest.mark.parametrize("op", list(ReduceOp))
def test_reductions_equal_numpy(actors: list[Any], op: ReduceOp) -> None:
    left, right = torch.tensor([[1.0, 5.0], [2.0, 8.0]]), torch.tensor([[3.0, 2.0], [2.0, 4.0]])
    stacked = np.stack([left.numpy(), right.numpy()])
    names = {ReduceOp.SUM: "sum", ReduceOp.PRODUCT: "prod", ReduceOp.MAX: "max", ReduceOp.MIN: "min"}
    expected = getattr(stacked, names.get(op, "mean"))(0)
    communicator = GlooCommunicator(actors)
    with compile_collective(actors, allreduce.bind, communicator, op=op) as graph:
        for result in ray.get(graph.execute(lambda: left, lambda: right)):
            assert result[2] == expected.tolist()
    with compile_collective(actors, reducescatter.bind, communicator, op=op) as graph:
        results = ray.get(graph.execute(lambda: left, lambda: right))
        assert [result[2] for result in results] == [[expected[0].tolist()], [expected[1].tolist()]]


def test_allgather_joins_in_the_order_of_the_participants(actors: list[Any]) -> None:
    with compile_collective(actors, allgather.bind, GlooCommunicator(actors)) as graph:
        for length in (1, 3):
            refs = graph.execute(lambda n=length: torch.zeros(n), lambda n=length: torch.ones(n))
            assert [result[2] for result in ray.get(refs)] == [[0.0] * length + [1.0] * length] * 2


def test_several_tensors_in_one_allreduce(actors: list[Any]) -> None:
    with InputNode() as inp:
        ones = [actor.apply.bind(inp[0]) for actor in actors]
        twos = [actor.apply.bind(inp[1]) for actor in actors]
        reduced = allreduce.bind([ones, twos], transport=GlooCommunicator(actors))
        looked = [a.look.bind(t) for a, tensors in zip(actors, reduced, strict=True) for t in tensors]
        dag = MultiOutputNode(looked)
    with cgc.compile(dag) as graph:
        results = ray.get(graph.execute(lambda: torch.ones(2, 2), lambda: torch.full((3,), 2.0)))
        assert [result[2] for result in results] == [[[2.0, 2.0], [2.0, 2.0]], [4.0, 4.0, 4.0]] * 2


@pytest.mark.parametrize(
    ("bind", "left", "right", "text"),
    [
        (allreduce.bind, lambda: torch.ones(2), raise_value_error, "spilt"),
        (
            allreduce.bind,
            lambda: torch.ones(2),
            lambda: torch.ones(3),
            "tensors differ: @Actor_0 gives float32[2], @Actor_1 gives float32[3]",
        ),
        (allgather.bind, lambda: torch.ones(2), lambda: torch.ones(2).int(), "@Actor_1 gives int32[2]"),
        (allreduce.bind, lambda: "text", lambda: torch.ones(3), "takes tensors, and @Actor_0 gives a str"),
        (reducescatter.bind, lambda: torch.ones(3), lambda: torch.ones(3), "divisible by 2; @Actor_0 gives float32[3]"),
        (allgather.bind, lambda: torch.tensor(1), lambda: torch.tensor(1), "gives a scalar"),
    ],
)
def test_a_bad_part_of_a_collective_is_an_error_for_all(
    actors: list[Any], bind: Any, left: Any, right: Any, text: str
) -> None:
    with compile_collective(actors, bind, GlooCommunicator(actors)) as graph:
        for ref in graph.execute(left, right):
            assert text in str(failure(ref))
        good = graph.execute(lambda: torch.ones(2), lambda: torch.ones(2))
        assert [result[2][0] for result in ray.get(good)] in ([2.0, 2.0], [1.0, 1.0])


def test_a_reduction_that_makes_no_sense_is_told(actors: list[Any]) -> None:
    with compile_collective(actors, allreduce.bind, GlooCommunicator(actors), op=ReduceOp.MAX) as graph:
        ref, _ = graph.execute(lambda: torch.tensor([1j]), lambda: torch.tensor([1j]))
        assert "MAX needs an order" in str(failure(ref))


def test_rays_own_communicator_works(actors: list[Any]) -> None:
    with compile_collective(actors, allreduce.bind, CPUCommunicator(2, actors)) as graph:
        refs = graph.execute(lambda: torch.ones(2), lambda: torch.full((2,), 2.0))
        assert [result[2] for result in ray.get(refs, timeout=DEADLINE)] == [[3.0, 3.0]] * 2


def test_a_death_inside_a_collective_frees_the_others(actors: list[Any]) -> None:
    survivor, victim = actors[0], Actor.remote()
    with compile_collective([survivor, victim], allreduce.bind, GlooCommunicator([survivor, victim])) as graph:
        assert ray.get(graph.execute(lambda: torch.ones(1), lambda: torch.ones(1)))[0][2] == [2.0]
        refs = graph.execute(lambda: torch.ones(1), lambda: __import__("os")._exit(1))
        assert isinstance(failure(refs[0]), ActorDiedError)
    eventually_left(survivor)
    partner = actors[1]
    with compile_edge([survivor, partner]) as graph:
        assert ray.get(graph.execute(lambda: torch.ones(1)))[2] == [1.0]


def test_teardown_wakes_who_waits_in_the_communicator(actors: list[Any]) -> None:
    graph = compile_edge(actors, _static_shape=True, _direct_return=True)
    assert ray.get(graph.execute(lambda: torch.ones(1)))[2] == [1.0]
    graph.teardown()  # the second actor waits for the next tensor, without a header
    for actor in actors:
        eventually_left(actor)
    with compile_edge(actors) as again:
        assert ray.get(again.execute(lambda: torch.ones(1)))[2] == [1.0]


def eventually_left(actor: Any) -> None:
    """Wait until the actor is in no communicator any more; it answers normal calls meanwhile."""
    deadline = time.monotonic() + DEADLINE
    while ray.get(actor.keys.remote()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_late_actor_is_named(actors: list[Any]) -> None:
    with compile_edge(actors) as graph:
        entered, late = Gate.remote(), Gate.remote()
        ref = graph.execute(lambda: (ray.get([entered.open.remote(), late.wait.remote()]), torch.ones(1))[1])
        ray.get(entered.wait.remote())
        with pytest.raises(RayChannelTimeoutError, match=r"call apply\(r0\)"):
            ray.get(ref, timeout=0.1)
        ray.get(late.open.remote())
        assert ray.get(ref, timeout=DEADLINE)[2] == [1.0]


def test_one_communicator_serves_two_graphs_at_once(actors: list[Any]) -> None:
    communicator = GlooCommunicator(actors)
    outer = compile_collective(actors, allreduce.bind, communicator)
    with compile_collective(actors, allreduce.bind, communicator) as inner:
        pending = [graph.execute(lambda: torch.ones(1), lambda: torch.ones(1)) for graph in (outer, inner) * 3]
        assert [ray.get(refs)[0][2] for refs in pending] == [[2.0]] * 6
    assert ray.get(outer.execute(lambda: torch.ones(1), lambda: torch.ones(1)))[0][2] == [2.0]
    outer.teardown()


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


def test_an_actor_computes_while_its_collective_waits_for_others(actors: list[Any]) -> None:
    """The second actor brings its part only when the first has gone on: by what happens, not by time."""
    first, second = actors
    with InputNode() as inp:
        parts = [first.apply.bind(inp[0]), second.apply.bind(inp[1])]
        sums = allreduce.bind(parts, transport=GlooCommunicator(actors))
        beside = first.apply.bind(inp[2])
        joined = [first.look.bind([sums[0], sums[0]]), second.look.bind(sums[1])]
        dag = MultiOutputNode([*joined, beside])
    with cgc.compile(dag, overlap_gpu_communication=True) as graph:
        assert "on stream 3" in str(graph.programs["Actor_0"])
        for number in range(3):
            gate = Gate.remote()
            refs = graph.execute(
                lambda: torch.ones(2),
                lambda gate=gate: (ray.get(gate.wait.remote()), torch.ones(2))[1],
                lambda gate=gate, number=number: (ray.get(gate.open.remote()), number)[1],
            )
            results = ray.get(refs, timeout=DEADLINE)
            assert [results[0][0][2], results[1][2], results[2]] == [[2.0, 2.0], [2.0, 2.0], number]
        refs = graph.execute(raise_value_error, lambda: torch.ones(2), lambda: 5)
        assert "spilt" in str(failure(refs[0]))
        assert "spilt" in str(failure(refs[1]))
        assert ray.get(refs[2], timeout=DEADLINE) == 5


def test_several_collectives_on_a_stream_keep_their_order(actors: list[Any]) -> None:
    communicator = GlooCommunicator(actors)
    with InputNode() as inp:
        sums = []
        for number in range(3):
            parts = [actor.apply.bind(inp[number]) for actor in actors]
            sums.append(allreduce.bind(parts, transport=communicator))
        last = allgather.bind(
            [actor.make.bind(value) for actor, value in zip(actors, sums[0], strict=True)], transport=communicator
        )
        dag = MultiOutputNode(
            [actor.look.bind(s) for each in (*sums, last) for actor, s in zip(actors, each, strict=True)]
        )
    with cgc.compile(dag, overlap_gpu_communication=True) as graph:
        pending = [
            graph.execute(*(lambda n=n, step=step: torch.full((n + 1,), step) for n in range(3))) for step in range(5)
        ]
        for step, refs in enumerate(pending):
            results = [result[2] for result in ray.get(refs, timeout=DEADLINE)]
            wanted = [[2 * step] * (n + 1) for n in range(3)] + [[2 * step] * 2]
            assert results == [each for each in wanted for _ in actors]


def test_a_death_inside_a_collective_on_a_stream_is_told(actors: list[Any]) -> None:
    survivor, victim = actors[0], Actor.remote()
    with InputNode() as inp:
        parts = [survivor.apply.bind(inp[0]), victim.apply.bind(inp[1])]
        sums = allreduce.bind(parts, transport=GlooCommunicator([survivor, victim]))
        beside = survivor.apply.bind(inp[0])
        dag = MultiOutputNode([survivor.look.bind(sums[0]), victim.look.bind(sums[1]), beside])
    with cgc.compile(dag, overlap_gpu_communication=True) as graph:
        assert "on stream 3" in str(graph.programs["Actor_0"])
        assert ray.get(graph.execute(lambda: torch.ones(1), lambda: torch.ones(1)), timeout=DEADLINE)[0][2] == [2.0]
        refs = graph.execute(lambda: torch.ones(1), lambda: __import__("os")._exit(1))
        assert isinstance(failure(refs[0]), ActorDiedError)
    eventually_left(survivor)


def with_default(actors: list[Any], communicator: Any) -> Any:
    """A graph whose tensors ask for a communicator and name none."""
    with InputNode() as inp:
        values = [actor.apply.bind(inp) for actor in actors]
        sums = allreduce.bind(values)
        crossing = sums[0].with_tensor_transport(transport="accelerator")
        dag = MultiOutputNode([actors[1].look.bind(crossing), actors[1].look.bind(sums[1])])
    return cgc.compile(dag, default_communicator=communicator)


@pytest.mark.parametrize("kind", ["gloo", "instance"])
def test_the_default_communicator_serves_who_names_none(actors: list[Any], kind: str) -> None:
    with with_default(actors, "gloo" if kind == "gloo" else GlooCommunicator(actors)) as graph:
        assert [spec.name for spec in graph.programs["Actor_0"].communicators] == [
            "gloo0" if kind == "gloo" else "custom0"
        ]
        for result in ray.get(graph.execute(lambda: torch.ones(2))):
            assert result[2] == [2.0, 2.0]


def test_without_a_default_the_node_is_named(actors: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"test_graphs.py:\d+.*has no custom communicator specified"):
        with_default(actors, None)
    with pytest.raises(ValueError, match=r"ha(s|ve) no GPU; create the actors with num_gpus=1, or pass a communicator"):
        with_default(actors, "create")
