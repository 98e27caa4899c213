"""
Values as tensors plus the rest, so that the tensors can go through a communicator.

A *header* is the message that announces the tensors of a value: their shapes and dtypes, and the value with places
where the tensors were, pickled as any other message. The receiver makes room, receives the tensors, and puts them back.

    {"loss": t0, "parts": [t1, t1]}   →   header: float32[], int64[8], {"loss": <0>, "parts": [<1>, <1>]}   then t0, t1

Strides are normalised: tensors travel contiguous. A tensor that appears twice in a value travels once and is one tensor
again at the receiver; views of one storage become tensors of their own, as on every other transport.
"""

from __future__ import annotations

import pickle
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from cgc.runtime import protocol, serialization
from cgc.runtime import tensors as _host_tensors  # noqa: F401  registers the reducer that is wrapped below
from cgc.runtime.accelerators import base, crossing
from cgc.runtime.accelerators.interface import Accelerator

MAX_CACHED_HEADERS = 1024

_PREFIX = struct.Struct("<II")
_ONE_TENSOR = 0xFFFF_FFFF
"""In place of the kind of the rest: the value is its only tensor."""


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """What a receiver has to know of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    requires_grad: bool = False

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorMeta:
        return cls(tuple(tensor.shape), tensor.dtype, bool(getattr(tensor, "requires_grad", False)))

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"


Metas = tuple[TensorMeta, ...]


def kind_of(value: Any) -> object:
    """
    All of a tensor that decides whether and how it can travel; for anything else an object that equals no other.

    What was found out about one value need not be found out again for the next one of its kind.
    """
    if type(value) is not torch.Tensor or value.is_nested:
        return object()
    return value.shape, value.dtype, value.device, value.layout, value.requires_grad


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether the tensor is what its shape and dtype say, number by number in memory."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_quantized
        and not tensor.is_nested
        and not any(getattr(tensor, "names", ()))  # torch 2.13 has no named tensors any more
    )


class Split:
    """
    A value taken apart.

    Attributes:
        metas: Of the tensors, in order.
        tensors: In order.
        rest: The message of the value without its tensors; None if the value is a tensor itself.
    """

    __slots__ = ("metas", "rest", "tensors")

    def __init__(self, tensors: Sequence[torch.Tensor], rest: serialization.Message | None) -> None:
        self.tensors = tensors
        self.metas: Metas = tuple(map(TensorMeta.of, tensors))
        self.rest = rest


def support(array_type: type, find: Callable[[], Accelerator]) -> None:
    """Let arrays of this type, of the device that `find` gives, travel as torch's tensors do."""
    if array_type not in _reducers:
        crossing.support(array_type, find)
        _reducers[array_type] = serialization.REDUCERS[array_type]
        serialization.REDUCERS[array_type] = _reduce


def split(value: Any, encoder: serialization.Encoder) -> Split:
    """
    Take a value apart. Raises what its pickling raises.

    Every dense tensor is taken, on any device: whether a communicator can move it, is the communicator's to say.
    """
    if _is_movable(value):
        return Split((value,), None)
    taken = _Taken()
    _thread.taken = taken
    try:
        rest = encoder.encode(value)
    finally:
        _thread.taken = None
    return Split(taken.tensors, rest)


def header(parts: Split, *, with_metas: bool = True) -> serialization.Message:
    """The message that announces a value; without metas if the receiver has them from an earlier header."""
    table = dump_metas(parts.metas) if with_metas else b""
    if parts.rest is None:
        return protocol.TENSORS, _PREFIX.pack(len(table), _ONE_TENSOR) + table, ()
    kind, blob, buffers = parts.rest
    return protocol.TENSORS, b"".join((_PREFIX.pack(len(table), kind), table, blob)), buffers


def read_metas(blob: serialization.Buffer) -> Metas | None:
    """The tensors that a header announces; None if it was made without metas."""
    length, _ = _PREFIX.unpack_from(blob)
    return load_metas(bytes(memoryview(blob)[_PREFIX.size : _PREFIX.size + length])) if length else None


def is_alone(blob: serialization.Buffer) -> bool:
    """True for the header of a value that is one tensor and nothing else."""
    _, kind = _PREFIX.unpack_from(blob)
    return bool(kind == _ONE_TENSOR)


def join(blob: serialization.Buffer, buffers: Sequence[serialization.Buffer], tensors: Sequence[torch.Tensor]) -> Any:
    """The value of a header and its tensors. Raises what the value's unpickling raises."""
    length, kind = _PREFIX.unpack_from(blob)
    if kind == _ONE_TENSOR:
        return tensors[0]
    rest: serialization.Buffer = memoryview(blob)[_PREFIX.size + length :]
    if kind != protocol.OBJECT:
        rest = bytes(rest)
    _thread.arrived = tensors
    try:
        return serialization.decode(kind, rest, buffers)
    finally:
        _thread.arrived = ()


_dumped_metas: dict[Metas, bytes] = {}
_loaded_metas: dict[bytes, Metas] = {}


def dump_metas(metas: Metas) -> bytes:
    """Bytes that are the same for the same metas."""
    table = _dumped_metas.get(metas)
    if table is None:
        if len(_dumped_metas) >= MAX_CACHED_HEADERS:
            _dumped_metas.clear()
        table = pickle.dumps([(meta.shape, meta.dtype, meta.requires_grad) for meta in metas], 5)
        _dumped_metas[metas] = table
    return table


def load_metas(table: bytes) -> Metas:
    """What `dump_metas` was given."""
    metas = _loaded_metas.get(table)
    if metas is None:
        if len(_loaded_metas) >= MAX_CACHED_HEADERS:
            _loaded_metas.clear()
        metas = _loaded_metas[table] = tuple(TensorMeta(*meta) for meta in pickle.loads(table))
    return metas


def describe_change(promised: Metas, actual: Metas) -> str:
    """How the tensors of a value differ from those that were promised; empty if they do not."""
    if len(promised) != len(actual):
        return f"it had {_count(promised)} and has {_count(actual)}"
    for number, (before, now) in enumerate(zip(promised, actual, strict=True)):
        if before.shape != now.shape or before.dtype != now.dtype:
            which = "it" if len(promised) == 1 else f"tensor {number}"
            return f"{which} was {before} and is {now}"
    return ""


def _count(metas: Metas) -> str:
    return f"{len(metas)} tensor{'' if len(metas) == 1 else 's'}"


class _Taken:
    """Tensors that a pickler has met, each once."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self._index: dict[int, int] = {}

    def index_of(self, tensor: torch.Tensor) -> int:
        # A second pickler may start anew where the first one gave up; it meets the same objects.
        index = self._index.setdefault(id(tensor), len(self.tensors))
        if index == len(self.tensors):
            self.tensors.append(tensor)
        return index


class _ThreadState(threading.local):
    taken: _Taken | None = None
    arrived: Sequence[torch.Tensor] = ()


_thread = _ThreadState()


def _is_movable(value: Any) -> bool:
    return is_dense(value) if type(value) is torch.Tensor else type(value) in _reducers


def _reduce(tensor: torch.Tensor) -> Any:
    """Pickle's reduction of a tensor: a place number while a value is being split."""
    taken = _thread.taken
    if taken is None or not _is_movable(tensor):
        return _reducers[type(tensor)](tensor)
    return _arrived, (taken.index_of(tensor),)


def _arrived(index: int) -> torch.Tensor:
    return _thread.arrived[index]


_reducers: dict[type, Callable[[Any], Any]] = {}
"""The reducers for arrays that are sent in the message itself, by their exact type."""

support(torch.Tensor, partial(base.find, "cpu"))
