"""
Values to messages and back: (kind, in-band bytes, out-of-band buffers).

Three ways, fastest first:

1. A few exact types have a form of their own: bytes, str, numbers, NumPy arrays, torch CPU tensors.
2. Everything else goes through one C pickler that is made once and used again. Its `reducer_override` looks at each
   object that is not a plain builtin, and gives up when the object's class is not one that another process imports.
3. Then Ray's own pickler does it: local classes, lambdas, ObjectRefs, actor handles, `ray.util.register_serializer`.

In all three, large data leaves the pickle as out-of-band buffers, which the channel copies once, straight into shared
memory, and which the reader sees in place, read-only. Neither NumPy nor torch is imported here: a library's support
(`arrays`, `tensors`) is loaded when one of its objects is met, which proves that the user has imported it.
"""

from __future__ import annotations

import importlib
import marshal
import pickle
import struct
import threading
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

from cgc.runtime import handover, protocol, ray_internals
from cgc.runtime.task_errors import ErrorValue

Buffer = Any  # collections.abc.Buffer exists from Python 3.12 on
Message = tuple[int, Buffer, Sequence[Buffer]]

BLOB_OUT_OF_BAND = 65_536
"""In a message of several values, blobs from this size (bytes) are sent as buffers instead of being joined."""

SLOW_TURNS_AFTER_GIVING_UP = 64
"""Values for which an encoder goes straight to Ray's pickler after its own could not do one."""


class Encoded:
    """
    A value's message, made before it is sent and independent of the value.

    Attributes:
        message: What `Encoder.encode` gives for it.
        offers: The references in it.
    """

    __slots__ = ("message", "offers")

    def __init__(self, message: Message, offers: tuple[handover.Offer, ...]) -> None:
        self.message = message
        self.offers = offers


class Encoder:
    """
    Makes messages of values for one channel. One thread at a time.

    Attributes:
        offers: The references in the last message, to be given to an `OfferKeeper` and then cleared.
    """

    __slots__ = ("_buffers", "_chunks", "_clear_memo", "_dump", "_slow_turns", "offers")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._buffers: list[Buffer] = []
        pickler = _ReusedPickler(_Sink(self._chunks.append), 5, buffer_callback=self._add_buffer)
        self._dump = pickler.dump
        self._clear_memo = pickler.clear_memo
        self._slow_turns = 0
        self.offers: tuple[handover.Offer, ...] = ()

    def encode(self, value: Any) -> Message:
        """The message of one value. Raises what the value's pickling raises (TypeError, PicklingError, ...)."""
        encode_exact = EXACT_ENCODERS.get(type(value))
        if encode_exact is not None:
            message = encode_exact(value)
            if message is not None:
                return message
        return self._pickle(value)

    def encode_early(self, value: Any) -> Encoded:
        """What can be encoded in the place of `value`, which may change meanwhile. Raises as `encode`."""
        kind, blob, buffers = self.encode(value)
        offers, self.offers = self.offers, ()
        return Encoded((kind, bytes(blob), tuple(map(_unchangeable, buffers))), offers)

    def size_of(self, value: Any) -> int:
        """Bytes of a value's message; 0 for one that cannot be encoded."""
        try:
            _, blob, buffers = self.encode(value)
        except Exception:
            return 0
        self.offers = ()
        return len(blob) + sum(memoryview(buffer).nbytes for buffer in buffers)

    def encode_many(self, values: Sequence[Any], replace: Callable[[int, Exception], ErrorValue]) -> Message:
        """One message of several values; `replace` gives the value to send instead of one that cannot be encoded."""
        table: list[int] = []
        blobs: list[Buffer] = []
        buffers: list[Buffer] = []
        offers: tuple[handover.Offer, ...] = ()
        for position, value in enumerate(values):
            try:
                kind, blob, out_of_band = self.encode(value)
            except Exception as error:
                kind, blob, out_of_band = self.encode(replace(position, error))
            offers += value.offers if type(value) is Encoded else self.offers
            self.offers = ()
            size = len(blob)
            if size >= BLOB_OUT_OF_BAND:
                buffers.append(blob)
                size = _BLOB_IS_BUFFER
            else:
                blobs.append(blob)
            table += (kind, size, len(out_of_band))
            buffers += out_of_band
        self.offers = offers
        return protocol.MULTI, b"".join([_table_struct(len(values)).pack(*table), *blobs]), buffers

    def _pickle(self, value: Any) -> Message:
        if self._slow_turns:
            self._slow_turns -= 1
            return self._pickle_with_ray(value)
        chunks, buffers = self._chunks, self._buffers
        try:
            self._dump(value)
            blob = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            return protocol.OBJECT, blob, tuple(buffers)
        except Exception:  # ours gave up, or the value is bad: then Ray's pickler says so
            self._slow_turns = SLOW_TURNS_AFTER_GIVING_UP
        finally:
            self._clear_memo()  # else the memo keeps the user's objects alive
            chunks.clear()
            buffers.clear()
        return self._pickle_with_ray(value)

    def _pickle_with_ray(self, value: Any) -> Message:
        buffers: list[Buffer] = []

        def add(buffer: pickle.PickleBuffer) -> None:
            buffers.append(buffer.raw())

        blob, pickler = ray_internals.dumps_in_band(value, _ValuePickler, add)
        if not pickler.carried:
            return protocol.OBJECT, blob, buffers
        offer = handover.Offer(pickler.carried)
        self.offers = (offer,)
        return protocol.OBJECT_WITH_REFERENCES, offer.head() + blob, buffers

    def _add_buffer(self, buffer: pickle.PickleBuffer) -> None:
        self._buffers.append(buffer.raw())


def _unchangeable(buffer: Buffer) -> Buffer:
    """The buffer, or a copy if somebody could write into it."""
    try:
        view = memoryview(buffer)
    except ValueError:  # arrays of dates have none
        return buffer.tobytes()
    return buffer if view.readonly else view.tobytes()  # bytes(buffer) takes an array of one number as a size


def decode(kind: int, blob: Buffer, buffers: Sequence[Buffer]) -> Any:
    """The value of a message that holds one. Raises what the value's unpickling raises."""
    return DECODERS[kind](blob, buffers)


def decode_many(
    blob: Buffer, buffers: Sequence[Buffer], count: int, replace: Callable[[int, Exception], ErrorValue]
) -> list[Any]:
    """The values of a MULTI message; `replace` gives the value to take instead of one that cannot be decoded."""
    layout = _table_struct(count)
    table = layout.unpack_from(blob)
    view = memoryview(blob)
    position = layout.size
    taken = 0
    values: list[Any] = []
    for number in range(count):
        kind, size, buffer_count = table[3 * number : 3 * number + 3]
        part: Buffer
        if size == _BLOB_IS_BUFFER:
            part = buffers[taken]
            taken += 1
        else:
            part = bytes(view[position : position + size])
            position += size
        own_buffers = buffers[taken : taken + buffer_count]
        taken += buffer_count
        try:
            values.append(DECODERS[kind](part, own_buffers))
        except Exception as error:
            values.append(replace(number, error))
    return values


def rebuild(octets: Buffer, dtype: Any, shape: tuple[int, ...]) -> Any:
    """The array or tensor of the host whose elements, in order, are these bytes; which of them its dtype says."""
    library = "torch" if type(dtype).__module__.partition(".")[0] == "torch" else "numpy"
    importlib.import_module(_LIBRARIES[library])
    return REBUILDERS[library](octets, dtype, shape)


_BLOB_IS_BUFFER = 0xFFFF_FFFF

_TABLE_STRUCTS: dict[int, struct.Struct] = {}


def _table_struct(count: int) -> struct.Struct:
    layout = _TABLE_STRUCTS.get(count)
    if layout is None:
        layout = _TABLE_STRUCTS[count] = struct.Struct(f"<{3 * count}I")
    return layout


def _encode_str(value: str) -> Message | None:
    try:
        return protocol.STR, value.encode(), ()
    except UnicodeEncodeError:  # lone surrogates
        return None


_dump_scalar = marshal.dumps

EXACT_ENCODERS: dict[type, Callable[[Any], Message | None]] = {
    bytes: lambda value: (protocol.BYTES, value, ()),
    bytearray: lambda value: (protocol.BYTEARRAY, value, ()),
    str: _encode_str,
    int: lambda value: (protocol.SCALAR, _dump_scalar(value), ()),
    float: lambda value: (protocol.SCALAR, _dump_scalar(value), ()),
    bool: lambda value: (protocol.SCALAR, _dump_scalar(value), ()),
    complex: lambda value: (protocol.SCALAR, _dump_scalar(value), ()),
    type(None): lambda value: (protocol.SCALAR, _dump_scalar(value), ()),
    ErrorValue: lambda value: (protocol.ERROR, value.blob, ()),
    Encoded: lambda value: value.message,
}
"""Encoders of exact types; None as result sends the value through the pickler. Libraries add theirs."""

UNCHANGEABLE = frozenset({bytes, str, int, float, bool, complex, type(None), ErrorValue})
"""Types of which a value stays as it is."""


def _decode_object(blob: Buffer, buffers: Sequence[Buffer]) -> Any:
    return pickle.loads(blob, buffers=buffers)


def _decode_bytes(blob: Buffer, _: Sequence[Buffer]) -> bytes:
    return blob if type(blob) is bytes else bytes(blob)


def _decode_str(blob: Buffer, _: Sequence[Buffer]) -> str:
    return blob.decode() if type(blob) is bytes else str(blob, "utf-8")


def _decode_scalar(blob: Buffer, _: Sequence[Buffer]) -> Any:
    return marshal.loads(blob)


def _decode_bytearray(blob: Buffer, _: Sequence[Buffer]) -> bytearray:
    return bytearray(blob)


def _decode_error(blob: Buffer, _: Sequence[Buffer]) -> ErrorValue:
    return ErrorValue(bytes(blob))


def _decode_object_with_references(blob: Buffer, buffers: Sequence[Buffer]) -> Any:
    references, pickled = handover.take_over(blob)
    value = pickle.loads(pickled, buffers=buffers)
    del references  # not before: the value's own count from here on
    return value


def _decode_with(library: str, kind: int) -> Callable[[Buffer, Sequence[Buffer]], Any]:
    """A decoder that loads the library's support, which puts its own decoder in this one's place."""

    def load_and_decode(blob: Buffer, buffers: Sequence[Buffer]) -> Any:
        importlib.import_module(_LIBRARIES[library])
        return DECODERS[kind](blob, buffers)

    return load_and_decode


_LIBRARIES = {"numpy": "cgc.runtime.arrays", "torch": "cgc.runtime.tensors"}
"""Root package of a library to the module that supports it."""

DECODERS: dict[int, Callable[[Buffer, Sequence[Buffer]], Any]] = {
    protocol.OBJECT: _decode_object,
    protocol.BYTES: _decode_bytes,
    protocol.STR: _decode_str,
    protocol.SCALAR: _decode_scalar,
    protocol.BYTEARRAY: _decode_bytearray,
    protocol.ARRAY: _decode_with("numpy", protocol.ARRAY),
    protocol.TENSOR: _decode_with("torch", protocol.TENSOR),
    protocol.ERROR: _decode_error,
    protocol.OBJECT_WITH_REFERENCES: _decode_object_with_references,
}
"""Decoders by kind. Libraries replace theirs when they are loaded."""

REBUILDERS: dict[str, Callable[[Buffer, Any, tuple[int, ...]], Any]] = {}
"""By library, what makes an array of a buffer, a dtype and a shape. Libraries add theirs."""

REDUCERS: dict[type, Callable[[Any], Any]] = {}
"""Reducers of exact types, for objects anywhere in a value; NotImplemented leaves the object to pickle."""


class _Reading(threading.local):
    """
    How this thread reads.

    Attributes:
        in_place: Tensors may be views of read-only memory: what takes them never writes.
    """

    in_place = False


reading = _Reading()


class _Sink:
    """The least that a pickler accepts as its file."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


class _GiveUpError(Exception):
    """The value holds something that only Ray's pickler can do."""


_known_globals: set[Any] = set()
_plain_classes: set[type] = set()


class _ReusedPickler(pickle.Pickler):
    """C pickler that does exactly what Ray's does for the objects that it does at all."""

    def reducer_override(self, obj: Any) -> Any:
        cls = type(obj)
        if cls in ray_internals.REGISTERED_REDUCERS and ray_internals.is_registered_by_user(cls):
            raise _GiveUpError
        if cls in _plain_classes:
            return NotImplemented
        reducer = REDUCERS.get(cls)
        return _judge(obj, cls) if reducer is None else reducer(obj)


def _judge(obj: Any, cls: type) -> Any:
    """What to do with an object whose class has not been met yet."""
    if isinstance(obj, type | FunctionType):
        if obj not in _known_globals:
            if not ray_internals.should_pickle_by_reference(obj):
                raise _GiveUpError
            _known_globals.add(obj)
        return NotImplemented
    if _load_library_of(cls) and cls in REDUCERS:
        return REDUCERS[cls](obj)
    if cls is not BuiltinFunctionType and not ray_internals.should_pickle_by_reference(cls):
        raise _GiveUpError
    _plain_classes.add(cls)
    return NotImplemented


_loaded_libraries: set[str] = set()


def _load_library_of(cls: type) -> bool:
    """Load the support for the library that `cls` comes from; True if that changed anything."""
    library = cls.__module__.partition(".")[0]
    if library in _loaded_libraries or library not in _LIBRARIES:
        return False
    _loaded_libraries.add(library)
    importlib.import_module(_LIBRARIES[library])
    return True


class _ValuePickler(ray_internals.CloudPickler):  # type: ignore[misc]
    """
    Ray's pickler, with our reducers for arrays and tensors.

    Attributes:
        carried: The ObjectRefs and actor handles that were met.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.carried: list[Any] = []

    def reducer_override(self, obj: Any) -> Any:
        cls = type(obj)
        if isinstance(obj, handover.CARRIED):
            self.carried.append(obj)
        registered = cls in ray_internals.REGISTERED_REDUCERS
        if registered and ray_internals.is_registered_by_user(cls):
            return super().reducer_override(obj)
        if cls not in REDUCERS:
            _load_library_of(cls)
        reducer = REDUCERS.get(cls)
        if reducer is None:
            return super().reducer_override(obj)
        reduced = reducer(obj)
        return obj.__reduce_ex__(5) if registered and reduced is NotImplemented else reduced
