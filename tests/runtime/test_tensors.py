"""torch CPU tensors through a real ring: equal, writable, and never a crash."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
import ray

from tests.runtime.test_serialization import Ring

torch = pytest.importorskip("torch")

from cgc.runtime import _core, ray_internals, serialization, tensors  # noqa: E402 - needs torch

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int8,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)], ids=str)
def test_every_dtype_and_shape(dtype, shape):
    ring = Ring()
    value = torch.arange(max(torch.Size(shape).numel(), 1)).to(dtype)[: torch.Size(shape).numel()].reshape(shape)
    for received in (ring.send(value), ring.send({"nested": [value]})["nested"][0]):
        assert received.dtype == dtype
        assert received.shape == value.shape
        assert torch.equal(received, value)


def test_non_contiguous_conjugate_and_negative_views():
    ring = Ring()
    base = torch.arange(12.0).reshape(3, 4)
    complex_base = torch.tensor([1 + 2j, 3 - 1j])
    for value in (base.t(), base[:, ::2], base[1], base.expand(2, 3, 4), complex_base.conj(), complex_base.conj().imag):
        assert torch.equal(ring.send(value), value)


def test_requires_grad_is_kept_and_a_graph_is_not():
    ring = Ring()
    leaf = torch.ones(3, requires_grad=True)
    received = ring.send(leaf)
    assert received.requires_grad
    assert received.is_leaf
    received.sum().backward()
    assert torch.equal(received.grad, torch.ones(3))
    assert ring.send(leaf * 2).is_leaf


def test_parameters_and_modules():
    ring = Ring()
    layer = torch.nn.Linear(2, 3)
    received = ring.send(layer)
    assert torch.equal(received.weight, layer.weight)
    assert isinstance(received.weight, torch.nn.Parameter)
    assert isinstance(ring.send(torch.nn.Parameter(torch.ones(2))), torch.nn.Parameter)


@pytest.mark.parametrize("elements", [10, tensors.MAP_FROM // 4, tensors.MAP_FROM], ids=["small", "limit", "mapped"])
def test_written_in_place_without_anybody_else_seeing_it(elements):
    ring = Ring()
    value = torch.zeros(elements)
    first, second = ring.send_many([value, value])
    first += 1
    assert torch.equal(first, torch.ones(elements))
    assert torch.equal(second, value)
    held = ring.send(value)
    held.fill_(3)
    for _ in range(10):
        assert torch.equal(ring.send(value), value)
    assert torch.equal(held, torch.full((elements,), 3.0))


def test_the_serializer_that_rays_graphs_leave_behind_is_not_used():
    from ray.experimental.channel.torch_tensor_type import TorchTensorType

    ring = Ring()
    value = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)  # which Ray's own refuses
    try:
        TorchTensorType().register_custom_serializer()
        assert torch.Tensor in ray_internals.REGISTERED_REDUCERS
        for received in (ring.send(value), ring.send([value])[0], ring.send([lambda: 1, value])[1]):
            assert received.dtype is torch.bfloat16
            assert received.requires_grad
        for received in (ring.send(torch.eye(3).to_sparse()), ring.send([lambda: 1, torch.eye(3).to_sparse()])[1]):
            assert torch.equal(received.to_dense(), torch.eye(3))
        ray.util.register_serializer(torch.Tensor, serializer=torch.Tensor.tolist, deserializer=tuple)
        assert ring.send([torch.tensor([1, 2])]) == [(1, 2)]
        assert ring.send(torch.tensor([1, 2])) == (1, 2)
    finally:
        ray.util.deregister_serializer(torch.Tensor)


def test_what_shares_memory_arrives_as_with_pickle():
    """One tensor is one tensor again; views of one storage become tensors of their own."""
    ring = Ring()
    base = torch.arange(6.0)
    for arrived in (ring.send([base, base, base[:2]]), pickle.loads(pickle.dumps([base, base, base[:2]]))):
        assert arrived[0] is arrived[1]
        assert arrived[0].data_ptr() != arrived[2].data_ptr()
        assert torch.equal(arrived[2], base[:2])
    tied = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    tied[1].weight = tied[0].weight
    received = ring.send(tied)
    assert received[0].weight is received[1].weight


def test_tensors_that_are_pickles_business():
    ring = Ring()
    sparse = torch.eye(3).to_sparse()
    assert torch.equal(ring.send(sparse).to_dense(), torch.eye(3))
    quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    assert torch.equal(ring.send(quantized).int_repr(), quantized.int_repr())


def test_tensors_beside_values_that_need_rays_pickler():
    ring = Ring()
    received: list[Any] = ring.send([lambda: 1, torch.arange(3), torch.arange(300_000)])
    assert received[0]() == 1
    assert torch.equal(received[1], torch.arange(3))
    received[2].add_(1)


def test_torch_is_not_imported_by_the_runtime():
    code = """
import sys
import cgc.runtime.driver, cgc.runtime.worker, cgc.runtime.asyncio_driver, cgc.runtime.serialization as s
s.Encoder().encode([1, {"k": object}])
assert "torch" not in sys.modules, "torch"
assert "xdsl" not in sys.modules, "xdsl"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_tensors_that_only_a_device_reads_are_views_of_the_channel() -> None:
    arena = _core.Arena.create([(1, 2, 1024)], 0)
    assert arena.offer_pages()
    writer, reader = arena.writer(0), arena.reader(0, 0)
    sent = torch.arange(10_000)
    for in_place in (True, False):
        writer.write(*serialization.Encoder().encode(sent))
        serialization.reading.in_place = in_place
        try:
            arrived = serialization.decode(*reader.read())
        finally:
            serialization.reading.in_place = False
        assert torch.equal(arrived, sent)
        assert (_core.pages_of(arrived.numpy()) is not None) is in_place
