"""Gloo groups of real processes: numbers against NumPy, odd tensors, order, and what happens when a rank is gone."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from ranks import Here, Ranks
from ray.exceptions import RayChannelError, RayChannelTimeoutError
from ray.experimental.util.types import ReduceOp

from tests.runtime.communicators.numpy_reference import (
    DTYPES,
    as_numpy,
    assert_close,
    make,
    operations_of,
    reference,
)

SIZE = 3
"""Ranks of the shared group."""


def reduce_all(here: Here, dtype: torch.dtype, operations: list[ReduceOp]) -> list[Any]:
    results = []
    mine = make(dtype, here["rank"], 6)
    for op in operations:
        whole, part = torch.empty_like(mine), torch.empty(2, dtype=dtype)
        here["group"].allreduce(mine, whole, op)
        here["group"].reducescatter(mine, part, op)
        in_place = mine.clone()
        here["group"].allreduce(in_place, in_place, op)
        assert torch.equal(whole, in_place)
        results.append((as_numpy(whole), as_numpy(part)))
    assert torch.equal(mine, make(dtype, here["rank"], 6)), "an input was written"
    return results


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reductions_equal_numpy(three_ranks: Ranks, dtype: torch.dtype) -> None:
    operations = operations_of(dtype)
    by_rank = three_ranks.run(reduce_all, dtype, operations)
    inputs = [as_numpy(make(dtype, rank, 6)) for rank in range(SIZE)]
    for number, op in enumerate(operations):
        expected = reference(inputs, op)
        for rank in range(SIZE):
            whole, part = by_rank[rank][number]
            assert_close(whole, expected, dtype)
            assert_close(part, expected[2 * rank : 2 * rank + 2], dtype)
            assert whole.tobytes() == by_rank[0][number][0].tobytes(), "ranks got different bits"


def move_all(here: Here, dtypes: list[torch.dtype]) -> list[Any]:
    group, rank, results = here["group"], here["rank"], []
    for dtype in dtypes:
        mine = make(dtype, rank, 5)
        gathered = torch.empty(15, dtype=dtype)
        group.allgather(mine, gathered)
        given = mine.clone() if rank == 1 else torch.empty_like(mine)
        group.broadcast(given, 1)
        sending = group.start_send(mine, (rank + 1) % SIZE)
        received = group.recv(torch.empty_like(mine), (rank - 1) % SIZE)
        sending.wait()
        results.append([as_numpy(gathered), as_numpy(given), as_numpy(received)])
    return results


def test_every_dtype_can_be_moved(three_ranks: Ranks) -> None:
    by_rank = three_ranks.run(move_all, DTYPES)
    for number, dtype in enumerate(DTYPES):
        values = [as_numpy(make(dtype, rank, 5)) for rank in range(SIZE)]
        for rank in range(SIZE):
            gathered, given, received = by_rank[rank][number]
            np.testing.assert_array_equal(gathered, np.concatenate(values))
            np.testing.assert_array_equal(given, values[1])
            np.testing.assert_array_equal(received, values[(rank - 1) % SIZE])


def move_odd_tensors(here: Here) -> None:
    group, rank = here["group"], here["rank"]

    zero_dimensional, total = torch.tensor(rank + 1.5), torch.empty(())
    group.allreduce(zero_dimensional, total)
    assert total.item() == 7.5
    gathered = torch.empty(SIZE)
    group.allgather(zero_dimensional, gathered)
    assert gathered.tolist() == [1.5, 2.5, 3.5]

    empty = torch.empty(0, 4)
    for op in ReduceOp:
        group.allreduce(empty, empty, op)
        group.reducescatter(empty, empty, op)
    group.allgather(empty, torch.empty(0, 4))
    group.broadcast(empty, 0)
    if rank == 0:
        group.send(empty, 1)
    elif rank == 1:
        assert group.recv(empty, 0) is empty

    strided = torch.arange(12.0).reshape(3, 4).t() + rank
    for op in (ReduceOp.SUM, ReduceOp.MAX):
        result = torch.zeros(8, 6)[::2, ::2]
        group.allreduce(strided, result, op)
        expected = strided * 3 - 3 * rank + 3 if op is ReduceOp.SUM else strided - rank + 2
        assert torch.equal(result, expected)
    target = torch.zeros(4, 6)[:, ::2]
    group.broadcast(strided if rank == 0 else target, 0)
    assert rank == 0 or torch.equal(target, strided - rank)

    leaf = torch.full((2,), float(rank), requires_grad=True)
    group.allreduce(leaf, leaf)
    assert leaf.tolist() == [3.0, 3.0]
    assert leaf.requires_grad
    assert leaf.grad_fn is None

    conjugate = torch.tensor([1 + 2j]).conj()
    summed = torch.empty(1, dtype=conjugate.dtype)
    group.allreduce(conjugate, summed)
    assert summed.item() == 3 - 6j


def test_odd_tensors(three_ranks: Ranks) -> None:
    three_ranks.run(move_odd_tensors)


def reduce_not_a_number(here: Here) -> Any:
    values = torch.tensor([1.0, float("nan"), 3.0]).roll(here["rank"])
    result = torch.empty(3)
    here["group"].allreduce(values, result, ReduceOp.MAX)
    return result.numpy()


def test_not_a_number_wins(three_ranks: Ranks) -> None:
    for result in three_ranks.run(reduce_not_a_number):
        assert np.isnan(result).all()


def exchange_sizes(here: Here, sizes: list[int]) -> None:
    for size in sizes:
        pattern = torch.arange(256, dtype=torch.uint8).repeat(size // 256 + 1)[:size]
        if here["rank"] == 0:
            here["group"].send(pattern, 1)
        elif here["rank"] == 1:
            assert torch.equal(here["group"].recv(torch.empty_like(pattern), 0), pattern)


def test_sizes_from_a_byte_to_256_mebibytes(three_ranks: Ranks) -> None:
    three_ranks.run(exchange_sizes, [1, 7, 4096, (1 << 20) + 1, 1 << 28])


def cross_tags(here: Here) -> list[float]:
    group = here["group"]
    if here["rank"] == 0:
        sends = [group.start_send(torch.tensor([float(n)]), 1, tag) for n, tag in enumerate([5, 6, 5, 6])]
        for sending in sends:
            sending.wait()
    if here["rank"] != 1:
        return []
    late = [group.start_recv(torch.empty(1), 0, 6) for _ in range(2)]
    first = [group.recv(torch.empty(1), 0, 5).item() for _ in range(2)]
    return first + [receiving.wait().item() for receiving in late]


def test_one_tag_keeps_its_order_and_tags_do_not_mix(three_ranks: Ranks) -> None:
    assert three_ranks.run(cross_tags)[1] == [0.0, 2.0, 1.0, 3.0]


def overlap_collectives(here: Here) -> list[float]:
    group = here["group"]
    values = [torch.full((1000,), float(number + here["rank"])) for number in range(4)]
    pending = [group.start(lambda v=v: group.allreduce(v, v, ReduceOp.MAX)) for v in values[:3]]
    group.allreduce(values[3], values[3])  # takes its turn behind them
    for work in reversed(pending):
        work.wait()
    return [value[0].item() for value in values]


def test_started_collectives_run_in_order_beside_the_caller(three_ranks: Ranks) -> None:
    assert three_ranks.run(overlap_collectives) == [[2.0, 3.0, 4.0, 12.0]] * SIZE


def use_beside_the_default_group(here: Here) -> list[bool]:
    import torch.distributed as dist

    before = dist.is_initialized()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        value = torch.ones(1)
        here["group"].allreduce(value, value)
        alone = torch.ones(1)
        dist.all_reduce(alone)
        return [before, value.item() == SIZE, alone.item() == 1]
    finally:
        dist.destroy_process_group()


def test_a_collective_that_has_ended_is_no_user_of_the_memory(three_ranks: Ranks) -> None:
    def shared_after(here: Here) -> dict[str, int]:
        from cgc.runtime.communicators.ownership import is_only_here

        group, count = here["group"], 3 * 50_000
        collectives = {
            "allreduce": lambda whole, part: group.allreduce(whole, whole),
            "broadcast": lambda whole, part: group.broadcast(whole, 0),
            "allgather": lambda whole, part: group.allgather(part, whole),
            "exchange": lambda whole, part: group._exchange(whole, whole.clone()),
        }
        shared = dict.fromkeys(collectives, 0)
        for name, collective in collectives.items():
            values = [torch.ones(count), torch.ones(count // 3)]
            for _ in range(50):
                collective(*values)
                shared[name] += not (is_only_here(values, 0) and is_only_here(values, 1))
        return shared

    nobody = {"allreduce": 0, "broadcast": 0, "allgather": 0, "exchange": 0}
    assert three_ranks.run(shared_after) == [nobody] * SIZE


def test_the_default_group_stays_the_users(three_ranks: Ranks) -> None:
    assert three_ranks.run(use_beside_the_default_group) == [[False, True, True]] * SIZE


def collect_mistakes(here: Here) -> list[str]:
    group = here["group"]
    complex_ones, truths = torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.bool)
    mistakes = [
        lambda: group.allreduce(torch.ones(2), torch.ones(3)),
        lambda: group.allreduce(complex_ones, complex_ones, ReduceOp.MAX),
        lambda: group.allreduce(truths, truths, ReduceOp.AVG),
        lambda: group.reducescatter(torch.ones(4), torch.ones(1)),
        lambda: group.allgather(torch.ones(2), torch.ones(2)),
        lambda: group.send(torch.ones(1), group.rank),
        lambda: group.recv(torch.ones(1), SIZE),
        lambda: group.send(torch.ones(1, device="meta"), (group.rank + 1) % SIZE),
        lambda: group.send(torch.ones(2).to_sparse(), (group.rank + 1) % SIZE),
    ]
    messages = []
    for mistake in mistakes:
        try:
            mistake()
        except (ValueError, TypeError) as error:
            messages.append(str(error))
    group.barrier()
    return messages


def test_a_mistake_is_told_and_breaks_nothing(three_ranks: Ranks) -> None:
    messages = three_ranks.run(collect_mistakes)[0]
    expected = [
        "float32[2] does not fit float32[3]",
        "MAX needs an order",
        "AVG of torch.bool",
        "must be divisible by the number of ranks",
        "3 × float32[2] does not fit float32[2]",
        "0 is not the rank of a peer",
        "3 is not the rank of a peer",
        "gloo moves dense cpu tensors, got float32[1] (torch.strided) on meta",
        ".to_dense()",
    ]
    assert len(messages) == len(expected)
    for message, part in zip(messages, expected, strict=True):
        assert part in message


@pytest.mark.parametrize("what", ["recv", "allreduce", "fold"])
def test_abort_wakes_who_waits_here_and_at_the_peer(three_ranks: Ranks, what: str) -> None:
    three_ranks.join("doomed", ranks=[0, 1])
    three_ranks.start(wait_in_vain, what, on=[1])
    here, there = three_ranks.run(abort_while_waiting, what, on=[0])[0], three_ranks.result(1)
    assert "the group was aborted" in here
    assert "a peer is gone" in there


def wait_in_vain(here: Here, what: str) -> str:
    """Wait for the other rank, which waits for this one or never calls."""
    with pytest.raises(RayChannelError) as error:
        _wait_for_the_other(here["doomed"], what)
    here.pop("doomed").destroy()
    return str(error.value)


def abort_while_waiting(here: Here, what: str) -> str:
    group = here["doomed"]
    errors: list[str] = []

    def wait() -> None:
        try:
            group.recv(torch.empty(1), 1, tag=9)
        except RayChannelError as error:
            errors.append(str(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    group.abort()
    waiter.join(20)
    assert not waiter.is_alive()
    group.destroy()
    group.destroy()
    return errors[0]


def _wait_for_the_other(group: Any, what: str) -> None:
    if what == "recv":
        group.recv(torch.empty(1), 0)
    else:
        values = torch.ones(4)
        group.allreduce(values, values, ReduceOp.SUM if what == "allreduce" else ReduceOp.MIN)


def run_late(here: Here) -> list[str]:
    messages = []
    for attempt in range(2):
        with pytest.raises(RayChannelError) as error:
            here["late"].recv(torch.empty(1), 1)
        assert isinstance(error.value, RayChannelTimeoutError) == (attempt == 0)
        messages.append(str(error.value))
    here.pop("late").destroy()
    return messages


def test_the_time_out_breaks_the_group_and_not_the_process(three_ranks: Ranks) -> None:
    three_ranks.join("late", ranks=[0, 1], timeout=0.1, names=("ann", "bob"))
    for message in three_ranks.run(run_late, on=[0])[0]:
        assert message.endswith("ann, gloo: receiving with bob took longer than the time-out")
    assert three_ranks.run(lambda here: here["rank"]) == [0, 1, 2]


def reduce_until_broken(here: Here) -> tuple[str, float]:
    def reduce_for_ever() -> None:
        values = torch.zeros(1 << 16)
        while True:
            here["group"].allreduce(values, values)

    with pytest.raises(RayChannelError) as error:
        reduce_for_ever()
    broken_at = time.monotonic()
    here["group"].destroy()
    return str(error.value), broken_at


def test_the_others_survive_a_death_inside_a_collective() -> None:
    ranks = Ranks(3)
    try:
        ranks.join()
        ranks.start(reduce_until_broken, on=[0, 1, 2])
        ranks.kill(2)
        killed_at = time.monotonic()
        for rank in (0, 1):
            message, broken_at = ranks.result(rank)
            assert "a peer is gone" in message
            assert broken_at - killed_at < 10
        ranks.join(ranks=[0, 1])
        assert ranks.run(sum_of_ones, on=[0, 1]) == [2.0, 2.0]
    finally:
        ranks.close()


def sum_of_ones(here: Here) -> float:
    value = torch.ones(1)
    here["group"].allreduce(value, value)
    return value.item()
