"""The host as an accelerator: the same transfers, with nothing to wait for."""

from __future__ import annotations

import pytest
import torch

from cgc.runtime.accelerators.base import Accelerator
from cgc.runtime.accelerators.cpu import ACCELERATOR
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
