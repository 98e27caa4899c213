"""A user's subclass of Ray's `Communicator`, with Ray's interface and no more: everything that a graph does with it."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import ActorDiedError, RayChannelError
from ray.experimental.channel.communicator import Communicator
from ray.experimental.collective import allgather, allreduce, reducescatter
from ray.experimental.util.types import ReduceOp

import cgc
from cgc.runtime.communicators.edges import SILENT_AFTER
from tests.runtime.communicators.socket_communicator import REDUCTIONS, SocketCommunicator
from tests.runtime.communicators.told_actors import (
    DEADLINE,
    VALUES,
    Actor,
    eventually_left,
    failure,
    raise_value_error,
    told,
)


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    return [Actor.remote() for _ in range(2)]


def edge(actors: list[Any], communicator: Any = None, *, overlap: bool = False, **hint: Any) -> Any:
    """
    Driver → apply on the first → look on the second → driver, the middle edge over the communicator.

    With `overlap` there are calls to run beside the transfer, without which no stream would be used.
    """
    first, second = actors
    transport = SocketCommunicator(actors) if communicator is None else communicator
    with InputNode() as inp:
        value = first.apply.bind(inp).with_tensor_transport(transport=transport, **hint)
        beside = [actor.idle.bind(inp) for actor in actors for _ in range(2 * overlap)]
        graph = cgc.compile(second.look.bind(value, *beside), overlap_gpu_communication=overlap)
    assert streams_of(graph) == overlap
    return graph


def collective(actors: list[Any], bind: Any, communicator: Any = None, *, overlap: bool = False, **options: Any) -> Any:
    transport = SocketCommunicator(actors) if communicator is None else communicator
    with InputNode() as inp:
        parts = [actor.apply.bind(inp[rank]) for rank, actor in enumerate(actors)]
        results = bind(parts, transport=transport, **options)
        beside = [[actor.idle.bind(inp[0]) for _ in range(2 * overlap)] for actor in actors]
        looks = [actor.look.bind(part, *idle) for actor, part, idle in zip(actors, results, beside, strict=True)]
        graph = cgc.compile(MultiOutputNode(looks), overlap_gpu_communication=overlap)
    assert streams_of(graph) == overlap
    return graph


def streams_of(graph: Any) -> bool:
    return any("on stream" in str(program) for program in graph.programs.values())


def destroyed(actor: Any) -> list[int]:
    def look() -> list[int]:
        from tests.runtime.communicators import socket_communicator

        return list(socket_communicator.destroyed)

    ranks: list[int] = ray.get(actor.apply.remote(look))
    return ranks


@pytest.mark.parametrize("overlap", [False, True])
def test_values_arrive_as_they_were(actors: list[Any], overlap: bool) -> None:
    with edge(actors, overlap=overlap) as graph:
        for make in VALUES:
            assert ray.get(graph.execute(make), timeout=DEADLINE) == told(make())
        refs = [graph.execute(lambda n=n: torch.full((n,), n)) for n in range(8)]
        assert [ray.get(ref, timeout=DEADLINE)[1] for ref in refs] == [(n,) for n in range(8)]


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("static", [False, True])
def test_promised_tensors_and_errors_between_them(actors: list[Any], static: bool, direct: bool, overlap: bool) -> None:
    with edge(actors, overlap=overlap, _static_shape=static, _direct_return=direct) as graph:
        for _ in range(2):
            refs = [graph.execute(lambda n=n: torch.full((3,), n)) for n in range(SILENT_AFTER)]
            assert [ray.get(ref, timeout=DEADLINE)[2] for ref in refs] == [[n] * 3 for n in range(SILENT_AFTER)]
            error = failure(graph.execute(raise_value_error))
            assert isinstance(error, ValueError)
            assert "spilt" in str(error)


def test_one_value_to_two_receivers(actors: list[Any]) -> None:
    """Ray's interface has no broadcast: one gets it after the other."""
    members = [*actors, Actor.remote()]
    with InputNode() as inp:
        value = members[0].apply.bind(inp).with_tensor_transport(transport=SocketCommunicator(members))
        dag = MultiOutputNode([member.look.bind(value) for member in members[1:]])
    with cgc.compile(dag) as graph:
        for make in VALUES:
            assert ray.get(graph.execute(make), timeout=DEADLINE) == [told(make())] * 2


@pytest.mark.parametrize("overlap", [False, True])
def test_tensors_cross_in_both_directions(actors: list[Any], overlap: bool) -> None:
    """Larger than what sockets buffer: if both sent first, neither would end."""
    communicator, count = SocketCommunicator(actors), 1 << 20
    with InputNode() as inp:
        made = [actor.apply.bind(inp).with_tensor_transport(transport=communicator) for actor in actors]
        dag = MultiOutputNode([actor.sample.bind(value) for actor, value in zip(reversed(actors), made, strict=True)])
    with cgc.compile(dag, overlap_gpu_communication=overlap) as graph:
        for number in range(3):
            refs = graph.execute(lambda n=number: torch.full((count,), n))
            assert ray.get(refs, timeout=DEADLINE) == [(number, count)] * 2


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("op", list(ReduceOp))
def test_reductions(actors: list[Any], op: ReduceOp, overlap: bool) -> None:
    parts = torch.tensor([[[1.0, 5.0], [2.0, 8.0]], [[3.0, 2.0], [2.0, 4.0]]])
    expected = REDUCTIONS[op](parts).tolist()
    with collective(actors, allreduce.bind, op=op, overlap=overlap) as graph:
        results = ray.get(graph.execute(lambda: parts[0], lambda: parts[1]), timeout=DEADLINE)
        assert [result[2] for result in results] == [expected] * 2
    with collective(actors, reducescatter.bind, op=op, overlap=overlap) as graph:
        results = ray.get(graph.execute(lambda: parts[0], lambda: parts[1]), timeout=DEADLINE)
        assert [result[2] for result in results] == [[expected[0]], [expected[1]]]


@pytest.mark.parametrize("overlap", [False, True])
def test_allgather_and_several_tensors_in_one_allreduce(actors: list[Any], overlap: bool) -> None:
    communicator = SocketCommunicator(actors)
    with collective(actors, allgather.bind, communicator, overlap=overlap) as graph:
        for length in (1, 3):
            refs = graph.execute(lambda n=length: torch.zeros(n), lambda n=length: torch.ones(n))
            results = ray.get(refs, timeout=DEADLINE)
            assert [result[2] for result in results] == [[0.0] * length + [1.0] * length] * 2
    with InputNode() as inp:
        pairs = [[actor.apply.bind(inp[number]) for actor in actors] for number in range(2)]
        reduced = allreduce.bind(pairs, transport=communicator)
        dag = MultiOutputNode([a.look.bind(t) for a, sums in zip(actors, reduced, strict=True) for t in sums])
    with cgc.compile(dag, overlap_gpu_communication=overlap) as graph:
        refs = graph.execute(lambda: torch.ones(2, 2), lambda: torch.full((3,), 2.0))
        results = ray.get(refs, timeout=DEADLINE)
        assert [result[2] for result in results] == [[[2.0, 2.0], [2.0, 2.0]], [4.0, 4.0, 4.0]] * 2


@pytest.mark.parametrize("overlap", [False, True])
def test_one_thread_at_a_time_uses_it(actors: list[Any], overlap: bool) -> None:
    """Collectives between transfers: the communicator itself asserts that nobody else is inside."""
    first, second = actors
    communicator = SocketCommunicator(actors)
    with InputNode() as inp:
        sums = [allreduce.bind([a.apply.bind(inp[n]) for a in actors], transport=communicator) for n in range(3)]
        there = [first.make.bind(each[0]).with_tensor_transport(transport=communicator) for each in sums]
        back = [second.make.bind(each).with_tensor_transport(transport=communicator) for each in there]
        dag = MultiOutputNode([first.look.bind(each) for each in back] + [second.look.bind(each[1]) for each in sums])
    with cgc.compile(dag, overlap_gpu_communication=overlap) as graph:
        assert streams_of(graph) == overlap
        pending = [
            graph.execute(*(lambda n=n, step=step: torch.full((n + 1,), step) for n in range(3))) for step in range(5)
        ]
        for step, refs in enumerate(pending):
            results = ray.get(refs, timeout=DEADLINE)
            assert [result[2] for result in results] == [[2 * step] * (n + 1) for n in range(3)] * 2


@pytest.mark.parametrize("overlap", [False, True])
def test_a_users_error_in_a_collective_is_an_error_for_all(actors: list[Any], overlap: bool) -> None:
    with collective(actors, allreduce.bind, overlap=overlap) as graph:
        for _ in range(2):
            for ref in graph.execute(lambda: torch.ones(2), raise_value_error):
                assert "spilt" in str(failure(ref))
            results = ray.get(graph.execute(lambda: torch.ones(2), lambda: torch.ones(2)), timeout=DEADLINE)
            assert [result[2] for result in results] == [[2.0, 2.0]] * 2


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("shape", ["edge", "promised edge", "collective"])
def test_a_death_is_told_and_frees_the_others(actors: list[Any], shape: str, overlap: bool) -> None:
    survivor, victim = actors[0], Actor.remote()
    members = [victim, survivor]
    if shape == "collective":
        graph = collective(members, allreduce.bind, overlap=overlap)
        good = lambda: (lambda: torch.ones(1), lambda: torch.ones(1))  # noqa: E731
        bad = (lambda: os._exit(1), lambda: torch.ones(1))
    else:
        promised = shape == "promised edge"
        graph = edge(members, overlap=overlap, _static_shape=promised, _direct_return=promised)
        good = lambda: (lambda: torch.ones(1),)  # noqa: E731
        bad = (lambda: os._exit(1),)
    with graph:
        for _ in range(3):
            assert ray.get(graph.execute(*good()), timeout=DEADLINE)
        refs = graph.execute(*bad)
        for ref in refs if isinstance(refs, list) else [refs]:
            assert isinstance(failure(ref), ActorDiedError)
    eventually_left(survivor)
    with edge([survivor, actors[1]]) as again:
        assert ray.get(again.execute(lambda: torch.ones(1)), timeout=DEADLINE)[2] == [1.0]


def test_teardown_destroys_it_once_in_each_actor(actors: list[Any]) -> None:
    """Also where an actor waits in `recv`, because it needs no header; the same instance joins again."""
    communicator = SocketCommunicator(actors)
    before = [destroyed(actor) for actor in actors]
    for number in range(1, 4):
        graph = edge(actors, communicator, _static_shape=True, _direct_return=True)
        for _ in range(2):
            assert ray.get(graph.execute(lambda: torch.ones(1)), timeout=DEADLINE)[2] == [1.0]
        graph.teardown()
        assert [destroyed(actor) for actor in actors] == [[*ranks, *[own] * number] for own, ranks in enumerate(before)]
    for actor in actors:
        eventually_left(actor)


def test_its_own_order_of_ranks_counts(actors: list[Any]) -> None:
    with collective(actors, allgather.bind, SocketCommunicator(actors[::-1])) as graph:
        results = ray.get(graph.execute(lambda: torch.zeros(1), lambda: torch.ones(1)), timeout=DEADLINE)
        assert [result[2] for result in results] == [[1.0, 0.0]] * 2


class Broken(SocketCommunicator):
    """Fails in the method that it is told, but for that as it should be."""

    def __init__(self, actors: list[Any], method: str, error: Exception | None) -> None:
        super().__init__(actors)
        self._broken = method, error

    def initialize(self, rank: int) -> None:
        self._fail("initialize")
        super().initialize(rank)

    def send(self, value: torch.Tensor, peer_rank: int) -> None:
        self._fail("send")
        super().send(value, peer_rank)

    def recv(self, *arguments: Any) -> Any:
        self._fail("recv")
        received = super().recv(*arguments)
        return None if self._broken == ("recv", None) else received

    def allreduce(self, *arguments: Any) -> None:
        self._fail("allreduce")
        super().allreduce(*arguments)

    def _fail(self, method: str) -> None:
        name, error = self._broken
        if method == name and error is not None:
            raise error


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    ("method", "error", "text"),
    [
        (
            "send",
            NotImplementedError("not on Sundays"),
            r"Broken.send is not implemented in the worker of actor @Actor_0",
        ),
        (
            "recv",
            NotImplementedError("not on Sundays"),
            r"Broken.recv is not implemented in the worker of actor @Actor_1",
        ),
        ("send", OSError("no cable"), r"Broken.send failed in the worker of actor @Actor_0(.|\n)*OSError: no cable"),
        ("recv", None, r"Broken.recv failed in(.|\n)*shape \(2,\) and torch.float32, it returned a NoneType"),
    ],
)
def test_a_method_that_fails_is_named(
    actors: list[Any], method: str, error: Exception | None, text: str, overlap: bool
) -> None:
    with edge(actors, Broken(actors, method, error), overlap=overlap) as graph:
        told_error = failure(graph.execute(lambda: torch.ones(2)))
        assert isinstance(told_error, RayChannelError)
        assert re.search(text, str(told_error)), told_error
        assert "cgc failed" not in str(told_error)
    for actor in actors:
        eventually_left(actor)


def test_an_initialize_that_fails_is_named(actors: list[Any]) -> None:
    with pytest.raises(RayChannelError, match=r"Broken.initialize failed in the worker of actor @Actor_\d"):
        edge(actors, Broken(actors, "initialize", ValueError("no socket left")))
    for actor in actors:
        eventually_left(actor)


def test_a_collective_that_is_not_implemented_ends_the_execution_only(actors: list[Any]) -> None:
    broken = Broken(actors, "allreduce", NotImplementedError("not on Sundays"))
    with collective(actors, allreduce.bind, broken) as graph:
        for _ in range(2):
            for ref in graph.execute(lambda: torch.ones(2), lambda: torch.ones(2)):
                error = failure(ref)
                assert isinstance(error, NotImplementedError)
                assert "Broken does not implement it: allreduce raised NotImplementedError" in str(error)
    with collective(actors, allreduce.bind, Broken(actors, "allreduce", ValueError("no"))) as graph:
        error = failure(graph.execute(lambda: torch.ones(2), lambda: torch.ones(2))[0])
        assert "Broken.allreduce failed in the worker of actor @Actor_" in str(error)


def without(method: str) -> type[SocketCommunicator]:
    """A class that has Ray's abstract method, and can be instantiated all the same."""
    lacking = type("Lacking", (SocketCommunicator,), {method: getattr(Communicator, method)})
    lacking.__abstractmethods__ = frozenset()
    return lacking


@pytest.mark.parametrize("method", ["send", "recv"])
def test_a_communicator_without_send_or_recv_is_refused(actors: list[Any], method: str) -> None:
    message = (
        r"the result of call apply on @Actor_0 \(test_custom.py:\d+\) needs send and recv of the communicator Lacking, "
        rf"which does not implement {method}"
    )
    with pytest.raises(ValueError, match=message):
        edge(actors, without(method)(actors))
    with pytest.raises(ValueError, match=message):
        edge(actors, type("Lacking", (SocketCommunicator,), {method: None})(actors))
    with collective(actors, allreduce.bind, without(method)(actors)) as graph:  # needs neither
        results = ray.get(graph.execute(lambda: torch.ones(1), lambda: torch.ones(1)), timeout=DEADLINE)
        assert [result[2] for result in results] == [[2.0]] * 2


@pytest.mark.parametrize(
    ("bind", "kind", "method"),
    [
        (allreduce.bind, "allreduce", "allreduce"),
        (allgather.bind, "allgather", "allgather"),
        (reducescatter.bind, "reduce_scatter", "reducescatter"),
    ],
)
def test_a_communicator_without_the_collective_is_refused(actors: list[Any], bind: Any, kind: str, method: str) -> None:
    message = (
        rf"{kind} on @Actor_0 \(test_custom.py:\d+\) needs {method} of the communicator Lacking, which does not "
        rf"implement {method}"
    )
    with pytest.raises(ValueError, match=message):
        collective(actors, bind, without(method)(actors))


class Ranked(SocketCommunicator):
    def __init__(self, actors: list[Any], ranks: list[Any]) -> None:
        super().__init__(actors)
        self._ranks = ranks

    def get_rank(self, actor: Any) -> Any:
        return self._ranks[super().get_rank(actor)]


@pytest.mark.parametrize("ranks", [[1, 2], [0, 0], [0, 2], [0, None], [-1, 0]])
def test_wrong_ranks_are_refused(actors: list[Any], ranks: list[Any]) -> None:
    with pytest.raises(
        ValueError, match=r"the communicator Ranked must give its 2 actors the ranks from 0 on, and gives"
    ):
        edge(actors, Ranked(actors, ranks))


def test_actors_that_are_none_are_refused(actors: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"the communicator SocketCommunicator has 'b' among its actors"):
        edge(actors, SocketCommunicator([actors[0], "b"]))
