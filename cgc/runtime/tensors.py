"""
torch CPU tensors as messages: data out-of-band, read back without a copy where that is safe.

torch has no read-only tensors, and a write into a read-only mapping would kill the process. So a large tensor is read
as a private copy-on-write mapping of the channel's memory (`_core.map_private`), and a small one is copied.

Loaded when the first object of torch is met. Tensors that are not dense CPU tensors, and subclasses, are pickle's
business. Views of one storage become tensors of their own.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import torch

from cgc.runtime import _core, protocol, ray_internals, serialization
from cgc.runtime.accelerators import base, crossing

MAP_FROM = 1 << 20
"""Bytes from which a tensor is mapped instead of copied: below, the copy is cheaper than the page faults."""

MAX_CACHED_HEADERS = 1024

Header = tuple[torch.dtype, tuple[int, ...], bool]

_headers: dict[Header, bytes] = {}
_parsed_headers: dict[bytes, Header] = {}


def encode_tensor(tensor: torch.Tensor) -> serialization.Message | None:
    """The message of a tensor, or None if it has to be pickled."""
    if not _is_plain(tensor) or _is_the_users():
        return None
    key = (tensor.dtype, tuple(tensor.shape), tensor.requires_grad)
    header = _headers.get(key)
    if header is None:
        if len(_headers) >= MAX_CACHED_HEADERS:
            _headers.clear()
        header = _headers[key] = pickle.dumps(key, 5)
    return protocol.TENSOR, header, (_octets(tensor),)


def decode_tensor(blob: serialization.Buffer, buffers: Sequence[serialization.Buffer]) -> torch.Tensor:
    """The tensor of a message, writable; what is written is seen by nobody else."""
    header = bytes(blob)
    parsed = _parsed_headers.get(header)
    if parsed is None:
        if len(_parsed_headers) >= MAX_CACHED_HEADERS:
            _parsed_headers.clear()
        parsed = _parsed_headers[header] = pickle.loads(header)
    return rebuild_tensor(buffers[0], *parsed)


def reduce_tensor(tensor: torch.Tensor) -> Any:
    """Pickle's reduction of a tensor that is somewhere in a value."""
    if not _is_plain(tensor):
        return _reduce_device_tensor(tensor)
    octets = pickle.PickleBuffer(_octets(tensor))
    return rebuild_tensor, (octets, tensor.dtype, tuple(tensor.shape), tensor.requires_grad)


def _reduce_device_tensor(tensor: torch.Tensor) -> Any:
    """The reduction of a tensor that is no plain one of the host: pickle's own if it is of no device that we know."""
    try:
        accelerator = base.find(tensor.device.type)
    except LookupError:
        return NotImplemented
    if tensor.device.type == "cpu" or not accelerator.is_on_device(tensor):
        return NotImplemented
    return crossing.reduce_array(tensor, lambda: accelerator)


def rebuild_tensor(
    buffer: serialization.Buffer, dtype: torch.dtype, shape: tuple[int, ...], requires_grad: bool
) -> torch.Tensor:
    view = memoryview(buffer)
    if view.nbytes == 0:
        return torch.empty(shape, dtype=dtype, requires_grad=requires_grad)
    owned: serialization.Buffer
    if serialization.reading.in_place:
        owned = view
    else:
        owned = _core.map_private(view) if view.nbytes >= MAP_FROM else bytearray(view)
    tensor = torch.frombuffer(owned, dtype=dtype).reshape(shape)
    return tensor.requires_grad_() if requires_grad else tensor


def _is_the_users() -> bool:
    """True if the user gave Ray a serializer for tensors."""
    registered = torch.Tensor in ray_internals.REGISTERED_REDUCERS
    return registered and ray_internals.is_registered_by_user(torch.Tensor)


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and not tensor.is_nested
        and not _has_names(tensor)
    )


def _has_names(tensor: torch.Tensor) -> bool:
    return any(getattr(tensor, "names", ()))  # torch 2.13 has no named tensors any more


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's values without gradient and lazy conjugation: itself where there is none."""
    if not tensor.requires_grad and not tensor.is_conj() and not tensor.is_neg():
        return tensor
    return tensor.detach().resolve_conj().resolve_neg()


def _octets(tensor: torch.Tensor) -> Any:
    """The data of a tensor as a NumPy array of bytes, which every dtype can be seen as; a copy if not contiguous."""
    flat = plain(tensor).contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else b""


serialization.EXACT_ENCODERS[torch.Tensor] = encode_tensor
serialization.REDUCERS[torch.Tensor] = reduce_tensor
serialization.DECODERS[protocol.TENSOR] = decode_tensor
serialization.REBUILDERS["torch"] = lambda octets, dtype, shape: rebuild_tensor(octets, dtype, shape, False)
