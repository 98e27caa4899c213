"""Memory to receive into: used again when nobody sees it, and never before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from cgc.runtime.communicators.landing import MAX_BLOCKS, PAGE, REUSE_FROM, LandingPool

COUNT = REUSE_FROM // 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex128])
def test_a_tensor_has_the_shape_and_dtype_that_were_asked_for(dtype: torch.dtype) -> None:
    pool = LandingPool()
    for shape in [(), (0, 3), (5,), (3, COUNT)]:
        tensor = pool.empty(shape, dtype).fill_(1)
        assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == (shape, dtype, True)
        assert not tensor.numel() or tensor.data_ptr() % (PAGE if tensor.nbytes >= REUSE_FROM else 64) == 0


def test_memory_comes_round_when_the_last_view_is_gone() -> None:
    pool = LandingPool()
    tensor = pool.empty((COUNT,), torch.float32)
    address = tensor.data_ptr()
    view = tensor[5:].view(torch.int32)
    del tensor
    other = pool.empty((COUNT,), torch.float32)
    assert other.data_ptr() != address
    del view
    assert pool.empty((COUNT,), torch.float32).data_ptr() == address


def test_what_is_referred_to_by_numpy_or_autograd_is_kept() -> None:
    pool = LandingPool()
    array = pool.empty((COUNT,), torch.float32).numpy()
    weight = torch.ones(1, requires_grad=True)
    product = weight * pool.empty((COUNT,), torch.float32).fill_(3.0)
    for _ in range(3):
        pool.empty((COUNT,), torch.float32).fill_(-1.0)
    array[:] = 2.0
    product.sum().backward()
    assert weight.grad.item() == 3.0 * COUNT
    assert array.min() == 2.0


def test_sizes_that_come_in_turn_have_a_block_each() -> None:
    pool = LandingPool()
    empty = pool.register()
    addresses = [empty((COUNT * factor,), torch.float32).data_ptr() for factor in (1, 8, 1, 8)]
    assert addresses[:2] == addresses[2:]
    assert len(pool._blocks) == 2


def test_a_size_that_comes_no_more_is_forgotten() -> None:
    pool = LandingPool()
    for factor in (1, 3, 9, 27, 81):
        assert pool.empty((COUNT * factor,), torch.float32).numel() == COUNT * factor
    assert len(pool._blocks) == 2


def test_the_warmest_block_that_fits_is_taken() -> None:
    pool = LandingPool()
    tensors = [pool.empty((COUNT,), torch.float32) for _ in range(3)]
    addresses = [tensor.data_ptr() for tensor in tensors]
    tensors.clear()
    assert pool.empty((COUNT,), torch.float32).data_ptr() == addresses[-1]


def test_a_user_who_keeps_everything_gets_ordinary_memory() -> None:
    pool = LandingPool()
    kept = [pool.empty((COUNT,), torch.float32).fill_(n) for n in range(MAX_BLOCKS + 3)]
    assert len({tensor.data_ptr() for tensor in kept}) == len(kept)
    assert [tensor[0].item() for tensor in kept] == list(range(MAX_BLOCKS + 3))
    assert len(pool._blocks) == MAX_BLOCKS


def test_threads_share_a_pool_and_no_block() -> None:
    pool = LandingPool()

    def fill_and_check(number: int) -> bool:
        return all(bool((pool.empty((COUNT,), torch.float32).fill_(number) == number).all()) for _ in range(50))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(fill_and_check, range(8)))
