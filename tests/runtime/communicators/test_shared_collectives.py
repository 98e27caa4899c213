"""Collectives through shared memory: three actors, every dtype and reduction, one message or two, little memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allgather, allreduce, reducescatter
from ray.experimental.util.types import ReduceOp

import cgc
from cgc.runtime.communicators.shared_collective import TWO_MESSAGES_FROM
from tests.runtime.communicators.numpy_reference import (
    DTYPES,
    as_numpy,
    assert_close,
    make,
    operations_of,
    reference,
)
from tests.runtime.communicators.told_actors import DEADLINE, failure, raise_value_error

RANKS = 3
SMALL = 3 * 17
LARGE = TWO_MESSAGES_FROM // 3 * 3 + 3
"""Elements, and so at least as many bytes, which three can share."""


def octets(value: torch.Tensor) -> bytes:
    return value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def from_octets(data: bytes, dtype: torch.dtype) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype)


@ray.remote(num_cpus=0)
class Rank:
    def __init__(self, rank: int) -> None:
        self.rank = rank

    def part(self, dtype: str, count: int) -> torch.Tensor:
        return make(getattr(torch, dtype), self.rank, count)

    def choose(self, functions: list[Callable[[], Any]]) -> Any:
        return functions[self.rank]()

    def show(self, value: torch.Tensor) -> tuple[str, tuple[int, ...], bytes]:
        return str(value.dtype), tuple(value.shape), octets(value)

    def total(self, value: torch.Tensor) -> float:
        return float(value.double().sum())

    def add(self, value: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        return value + more


@pytest.fixture(scope="module")
def ranks(ray_session: None) -> list[Any]:
    return [Rank.remote(rank) for rank in range(RANKS)]


def compile_parts(ranks: list[Any], bind: Callable[..., Any], show: str = "show", **options: Any) -> Any:
    """`part` on each → the collective → `show` on each."""
    with InputNode() as inp:
        parts = [rank.part.bind(inp[0], inp[1]) for rank in ranks]
        results = bind(parts, **options)
        return cgc.compile(MultiOutputNode([getattr(r, show).bind(v) for r, v in zip(ranks, results, strict=True)]))


def compile_made(ranks: list[Any], **options: Any) -> Any:
    """Each makes what its function says → allreduce → `show` on each."""
    with InputNode() as inp:
        sums = allreduce.bind([rank.choose.bind(inp) for rank in ranks])
        dag = MultiOutputNode([rank.show.bind(total) for rank, total in zip(ranks, sums, strict=True)])
    return cgc.compile(dag, **options)


@pytest.mark.parametrize("op", list(ReduceOp))
@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_every_reduction_of_every_dtype_is_numpys_and_the_same_for_all(
    ranks: list[Any], op: ReduceOp, count: int
) -> None:
    reduced = compile_parts(ranks, allreduce.bind, op=op)
    scattered = compile_parts(ranks, reducescatter.bind, op=op)
    for dtype in [dtype for dtype in DTYPES if op in operations_of(dtype)]:
        right = reference([as_numpy(make(dtype, rank, count)) for rank in range(RANKS)], op)
        name = str(dtype).removeprefix("torch.")
        shown = ray.get(reduced.execute(name, count), timeout=DEADLINE)
        assert shown == [(str(dtype), (count,), shown[0][2])] * RANKS, "ranks got different bits"
        assert_close(as_numpy(from_octets(shown[0][2], dtype)), right, dtype)
        parts = ray.get(scattered.execute(name, count), timeout=DEADLINE)
        assert [part[:2] for part in parts] == [(str(dtype), (count // RANKS,))] * RANKS
        assert b"".join(part[2] for part in parts) == shown[0][2]
    reduced.teardown()
    scattered.teardown()


def test_gathering_joins_in_the_order_of_the_ranks(ranks: list[Any]) -> None:
    with compile_parts(ranks, allgather.bind) as graph:
        for dtype in DTYPES:
            for count in (SMALL, LARGE):
                right = octets(torch.cat([make(dtype, rank, count) for rank in range(RANKS)]))
                refs = graph.execute(str(dtype).removeprefix("torch."), count)
                assert ray.get(refs, timeout=DEADLINE) == [(str(dtype), (RANKS * count,), right)] * RANKS


@pytest.mark.parametrize("size", [1, 4_095, 65_537, 1 << 20, 8 << 20])
def test_sums_of_every_size(ranks: list[Any], size: int) -> None:
    """`size` numbers of eight bytes."""
    graphs = {count: compile_parts(ranks[:count], allreduce.bind, "total") for count in (2, 3)}
    for _ in range(2):
        for count, graph in graphs.items():
            right = float(sum(make(torch.int64, rank, size).sum() for rank in range(count)))
            assert ray.get(graph.execute("int64", size), timeout=DEADLINE) == [right] * count
    for graph in graphs.values():
        graph.teardown()


FORMS: dict[str, tuple[Callable[[], torch.Tensor], torch.Tensor]] = {
    "no dimension": (lambda: torch.tensor(2.0), torch.tensor(6.0)),
    "no elements": (lambda: torch.empty(0, 3), torch.empty(0, 3)),
    "strided": (lambda: torch.arange(6.0).view(2, 3).t(), 3 * torch.arange(6.0).view(2, 3).t()),
    "expanded": (lambda: torch.ones(1).expand(4), torch.full((4,), 3.0)),
    "conjugated": (lambda: torch.tensor([1 + 2j]).conj(), torch.tensor([3 - 6j])),
    "with gradient": (lambda: torch.ones(3, requires_grad=True), torch.full((3,), 3.0)),
    "a parameter": (lambda: torch.nn.Parameter(torch.ones(3)), torch.full((3,), 3.0)),
}


def test_every_form_of_a_tensor_in_turn(ranks: list[Any]) -> None:
    with compile_made(ranks) as graph:
        for name, (make, right) in [*FORMS.items(), *reversed(FORMS.items())]:
            expected = str(right.dtype), tuple(right.shape), octets(right)
            assert ray.get(graph.execute([make] * RANKS), timeout=DEADLINE) == [expected] * RANKS, name


def test_errors_and_differences_are_for_all_and_pass(ranks: list[Any]) -> None:
    good = [lambda: torch.ones(2)] * RANKS
    with compile_made(ranks) as graph:
        for position in range(RANKS):
            for bad, text in ((raise_value_error, "spilt"), (lambda: torch.ones(LARGE), f"gives float32[{LARGE}]")):
                broken = graph.execute([*good[:position], bad, *good[position + 1 :]])
                after = graph.execute(good)
                assert all(text in str(failure(ref)) for ref in broken)
                assert [shown[1] for shown in ray.get(after, timeout=DEADLINE)] == [(2,)] * RANKS


@pytest.mark.parametrize("count", [2, 3])
def test_too_little_memory_is_an_error_of_that_execution(ranks: list[Any], count: int) -> None:
    small, large = [lambda: torch.ones(2)] * RANKS, [lambda: torch.ones(1 << 20)] * RANKS
    with compile_made(ranks[:count], max_channel_bytes=1 << 20) as graph:
        for _ in range(3):
            for ref in graph.execute(large):
                error = failure(ref)
                assert isinstance(error, MemoryError)
                assert "allreduce on @Rank_0 (test_shared_collectives.py:" in str(error)
            assert [shown[1] for shown in ray.get(graph.execute(small), timeout=DEADLINE)] == [(2,)] * count


def test_executions_follow_each_other_without_waiting(ranks: list[Any]) -> None:
    """Sums of sums, with calls in between, many at a time: nobody takes one execution's message for another's."""
    with InputNode() as inp:
        parts = [rank.part.bind("int64", inp) for rank in ranks]
        once = allreduce.bind(parts)
        again = allreduce.bind([r.add.bind(s, p) for r, s, p in zip(ranks, once, parts, strict=True)], op=ReduceOp.MAX)
        pair = allreduce.bind([rank.add.bind(v, v) for rank, v in zip(ranks[:2], again[:2], strict=True)])
        shown = zip([*ranks, *ranks[:2]], [*again, *pair], strict=True)
        dag = MultiOutputNode([rank.show.bind(value) for rank, value in shown])
    with cgc.compile(dag, max_inflight_executions=8) as graph:
        assert "allreduce max shm" in str(graph.programs["Rank_0"])
        assert not graph.programs["Rank_0"].communicators
        counts = [1, 5, LARGE // 4, 2] * 8
        for start in range(0, len(counts), 8):
            pending = [(count, graph.execute(count)) for count in counts[start : start + 8]]
            for count, refs in pending:
                own = np.stack([as_numpy(make(torch.int64, rank, count)) for rank in range(RANKS)])
                most = (own.sum(0) + own).max(0)
                rights = [most.tobytes()] * RANKS + [(4 * most).tobytes()] * 2
                assert [shown[2] for shown in ray.get(refs, timeout=DEADLINE)] == rights


def test_alone_in_a_collective(ranks: list[Any]) -> None:
    with compile_parts(ranks[:1], allreduce.bind, op=ReduceOp.AVG) as graph:
        right = make(torch.float32, 0, SMALL)
        assert ray.get(graph.execute("float32", SMALL), timeout=DEADLINE)[0][2] == octets(right)
