"""
NumPy arrays as messages: data out-of-band, read back in place and read-only, as Ray's are.

Arrays with gaps, and those of dates, arrive as copies that may be written, because pickle keeps them in-band, which is
how Ray sends them.

Loaded when the first array is met. Arrays of Python objects and subclasses of ndarray are pickle's business.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from cgc.runtime import protocol, ray_internals, serialization

MAX_CACHED_HEADERS = 1024
"""Headers are remembered by (dtype, shape, order); graphs with ever new shapes start over at this number."""

Order = Literal["C", "F", "copy"]
"""How the data lies; `"copy"` is as "C", and the reader makes a copy of its own."""

Header = tuple["np.dtype[Any]", tuple[int, ...], Order]

_headers: dict[Header, bytes] = {}
_parsed_headers: dict[bytes, Header] = {}


def encode_array(array: np.ndarray[Any, Any]) -> serialization.Message | None:
    """The message of an array, or None if it has to be pickled."""
    if np.ndarray in ray_internals.REGISTERED_REDUCERS or not _has_plain_data(array.dtype):
        return None
    data, order = _contiguous(array)
    key = (array.dtype, array.shape, order)
    header = _headers.get(key)
    if header is None:
        if len(_headers) >= MAX_CACHED_HEADERS:
            _headers.clear()
        header = _headers[key] = pickle.dumps(key, 5)
    return protocol.ARRAY, header, (data,)


def decode_array(blob: serialization.Buffer, buffers: Sequence[serialization.Buffer]) -> np.ndarray[Any, Any]:
    """The array of a message: a read-only view of the buffer."""
    header = bytes(blob)
    parsed = _parsed_headers.get(header)
    if parsed is None:
        if len(_parsed_headers) >= MAX_CACHED_HEADERS:
            _parsed_headers.clear()
        parsed = _parsed_headers[header] = pickle.loads(header)
    return rebuild_array(buffers[0], *parsed)


def reduce_array(array: np.ndarray[Any, Any]) -> Any:
    """Pickle's reduction of an array that is somewhere in a value."""
    if not _has_plain_data(array.dtype):
        return NotImplemented
    data, order = _contiguous(array)
    octets: serialization.Buffer = data.reshape(-1).view(np.uint8) if data.size else b""
    return rebuild_array, (pickle.PickleBuffer(octets), array.dtype, array.shape, order)


def rebuild_array(
    buffer: serialization.Buffer, dtype: np.dtype[Any], shape: tuple[int, ...], order: Order
) -> np.ndarray[Any, Any]:
    if order == "copy":
        return np.ndarray(shape, dtype, buffer).copy()
    return np.ndarray(shape, dtype, _read_only(buffer), 0, None, order)


def _has_plain_data(dtype: np.dtype[Any]) -> bool:
    return not dtype.hasobject and dtype.itemsize > 0 and dtype.char != "T"  # "T": strings live outside of the array


def _contiguous(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Order]:
    """The data as a C-contiguous array, and the order in which the original had it."""
    flags = array.flags
    if array.dtype.kind in "mM":
        return np.ascontiguousarray(array), "copy"
    if flags.c_contiguous:
        return array, "C"
    if flags.f_contiguous:
        return array.T, "F"
    return np.ascontiguousarray(array), "copy"


def _read_only(buffer: serialization.Buffer) -> memoryview:
    view = memoryview(buffer)
    return view if view.readonly else view.toreadonly()


serialization.EXACT_ENCODERS[np.ndarray] = encode_array
serialization.REDUCERS[np.ndarray] = reduce_array
serialization.DECODERS[protocol.ARRAY] = decode_array
serialization.REBUILDERS["numpy"] = lambda octets, dtype, shape: rebuild_array(octets, dtype, shape, "C")
