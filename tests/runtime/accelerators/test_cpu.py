"""The host as an accelerator: the same transfers, with nothing to wait for."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest
import torch

from cgc.runtime.accelerators.base import Accelerator
from cgc.runtime.accelerators.cpu import ACCELERATOR
from cgc.runtime.accelerators.crossing import Crossing, reduce_array
from cgc.runtime.accelerators.transfers import Transfers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex64])
def test_values_go_in_and_out(dtype: torch.dtype) -> None:
    assert isinstance(ACCELERATOR, Accelerator)
    transfers = Transfers(ACCELERATOR)
    tensor = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype)
    memory = ACCELERATOR.pinned(tensor.nbytes + 8)
    transfers.download(tensor, memory, 8).wait()
    arrived = transfers.upload(memory, (2, 3), dtype, 8).wait()
    assert torch.equal(arrived, tensor)
    assert ACCELERATOR.is_on_device(arrived)
    transfers.drain()


DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int8,
    torch.int64,
    torch.bool,
    torch.complex64,
]


@dataclasses.dataclass
class Batch:
    inputs: Any
    extra: Any


def nested() -> Batch:
    """A value with tensors of all kinds in all places; one of them twice."""
    shared = torch.arange(4.0, requires_grad=True)
    tensors = [torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES]
    odd = (torch.empty(0, 3), torch.tensor(2.5), torch.arange(6.0).reshape(2, 3).t(), torch.tensor([1 + 2j]).conj())
    return Batch([shared, shared, *tensors], {"odd": odd, "module": torch.nn.Linear(2, 2), "text": "beside", "f": len})


def assert_alike(moved: Batch, value: Batch) -> None:
    assert moved.inputs[0] is moved.inputs[1]
    assert moved.inputs[0].requires_grad
    for before, now in zip([*value.inputs, *value.extra["odd"]], [*moved.inputs, *moved.extra["odd"]], strict=True):
        assert now.dtype is before.dtype
        assert torch.equal(now, before)
        assert now.numel() == 0 or now.data_ptr() != before.data_ptr()
    weight = moved.extra["module"].weight
    assert isinstance(weight, torch.nn.Parameter)
    assert torch.equal(weight, value.extra["module"].weight)
    assert moved.extra["text"] is value.extra["text"]
    assert moved.extra["f"] is len


def test_values_cross_in_both_directions() -> None:
    crossing, value = Crossing(lambda: ACCELERATOR), nested()
    assert_alike(crossing.to_host(value), value)
    assert_alike(crossing.to_device(value), value)
    assert torch.equal(crossing.to_device(torch.arange(3)), torch.arange(3))
    for untouched in ("no tensor", [1, {"k": None}]):
        assert crossing.to_host(untouched) is untouched


@pytest.mark.parametrize("receives_on_device", [False, True])
def test_tensors_of_a_device_are_pickled_by_way_of_the_host(receives_on_device: bool) -> None:
    for dtype in DTYPES:
        value = torch.arange(6).reshape(2, 3).t().to(dtype)
        rebuild, arguments = reduce_array(value, lambda: ACCELERATOR)
        buffer = bytes(arguments[0])
        receiver = Crossing(lambda: ACCELERATOR) if receives_on_device else contextlib.nullcontext()
        with receiver:
            assert torch.equal(rebuild(buffer, *arguments[1:]), value)
    rebuild, (buffer, *rest) = reduce_array(torch.ones(2, requires_grad=True), lambda: ACCELERATOR)
    assert rebuild(buffer, *rest).requires_grad


def test_nothing_is_pending() -> None:
    stream = ACCELERATOR.new_stream()
    event = stream.record_event()
    stream.wait_event(event)
    assert event.query()
    view = memoryview(bytearray(b"1234"))
    pinned = ACCELERATOR.pin(view)
    assert pinned.view == view
    pinned.release()
    assert ACCELERATOR.device() == torch.device("cpu")
