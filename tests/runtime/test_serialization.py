"""Values through a real ring and back: what arrives, of which type, and whether it was copied."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import gc
import pickle
import threading
import weakref
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import ray

from cgc.runtime import _core, protocol, serialization
from cgc.runtime.task_errors import ErrorValue
from tests.runtime.helpers import FailsToLoad


class Ring:
    """Sends values to itself."""

    def __init__(self) -> None:
        self.arena = _core.Arena.create([(1, 4, 4096)], 1)
        self.writer = self.arena.writer(0)
        self.reader = self.arena.reader(0, 0)
        self.encoder = serialization.Encoder()

    def send(self, value: Any) -> Any:
        self.writer.write(*self.encoder.encode(value))
        return serialization.decode(*self.reader.read(0.0))

    def send_many(self, values: list[Any]) -> list[Any]:
        message = self.encoder.encode_many(values, lambda _, error: ErrorValue.from_exception(error, "sending"))
        self.writer.write(*message)
        kind, blob, buffers = self.reader.read(0.0)
        assert kind == protocol.MULTI
        return serialization.decode_many(
            blob, buffers, len(values), lambda _, error: ErrorValue.from_exception(error, "receiving")
        )


@pytest.fixture
def ring() -> Ring:
    return Ring()


@dataclasses.dataclass
class Point:
    x: int
    data: Any = None


class Colour(enum.Enum):
    RED = 1


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024 - the old form is what is tested


PLAIN_VALUES = [
    None,
    True,
    0,
    -(1 << 200),
    1.5,
    float("inf"),
    2 + 3j,
    "",
    "text",
    "snowman \u2603 \U0001f600",
    "lone surrogate \ud800",
    b"",
    b"bytes",
    bytearray(b"array"),
    [],
    {},
    (),
    set(),
    frozenset({1}),
    [1, {"k": (2, None, [3.5])}],
    {1: {2: {3: "deep"}}},
    range(3),
    slice(1, 2),
    Ellipsis,
    datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    decimal.Decimal("1.25"),
    fractions.Fraction(1, 3),
    collections.OrderedDict(a=1),
    collections.deque([1, 2], maxlen=3),
    collections.defaultdict(list, a=[1]),
    collections.Counter("aab"),
    PurePosixPath("/a/b"),
    array.array("d", [1.0, 2.0]),
    Point(1),
    Colour.RED,
    Pair(1, 2),
    np.float32(1.5),
    np.dtype("f4"),
    int,
    len,
]


@pytest.mark.parametrize("value", PLAIN_VALUES, ids=repr)
def test_plain_values_arrive_equal_and_of_the_same_type(ring, value):
    received = ring.send(value)
    assert received == value
    assert type(received) is type(value)


def test_nan_and_identity_inside_a_value(ring):
    shared = [1]
    first, second = ring.send([shared, shared])
    assert first is second
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    received = ring.send(cyclic)
    assert received[0] is received
    assert np.isnan(ring.send(float("nan")))


@pytest.mark.parametrize("make", [bytes, bytearray, lambda size: "x" * size], ids=["bytes", "bytearray", "str"])
def test_large_flat_values(ring, make):
    value = make(3_000_000)
    received = ring.send(value)
    assert received == value
    assert type(received) is type(value)
    received_nested = ring.send({"k": [value, 1]})
    assert received_nested == {"k": [value, 1]}


ARRAYS = [
    np.arange(6),
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    np.arange(10)[::2],
    np.arange(10)[::-1],
    np.array(1.5),
    np.array(7),
    np.zeros((0, 3)),
    np.zeros((3, 0, 2)),
    np.array([True, False]),
    np.array(["a", "bc"]),
    np.array([b"a", b"bc"]),
    np.array(["2026-01-01", "NaT"], "M8[D]"),
    np.array([1, 2], ">i4"),
    np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
    np.array([1, 2], np.float16),
    np.array([1 + 2j]),
    np.arange(300_000, dtype=np.int64),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}-{a.strides}")
def test_arrays_arrive_equal_and_read_only_where_pickle_would_not_copy_them(ring, value):
    in_band = value.dtype.kind == "M" or not (value.flags.c_contiguous or value.flags.f_contiguous)
    for received in (ring.send(value), ring.send({"nested": [value]})["nested"][0]):
        np.testing.assert_array_equal(received, value)
        assert received.dtype == value.dtype
        assert type(received) is np.ndarray
        assert received.flags.writeable == in_band


@pytest.mark.parametrize("value", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}-{a.strides}")
def test_what_is_encoded_early_stays_as_it_was(value):
    array, text, encoder = value.copy(), bytearray(b"text"), serialization.Encoder()
    early = [encoder.encode_early(changing) for changing in (array, [array], text)]
    array[...] = np.zeros((), array.dtype)
    text[:] = b"else"
    whole, (inner,), octets = [serialization.decode(*encoder.encode(each)) for each in early]
    for received in (whole, inner):
        np.testing.assert_array_equal(received, value)
    assert octets == b"text"


def test_arrays_keep_fortran_order(ring):
    assert ring.send(np.asfortranarray(np.zeros((4, 5)))).flags.f_contiguous


def test_arrays_that_are_pickles_business(ring):
    objects = np.array([1, "two", [3]], dtype=object)
    assert ring.send(objects).tolist() == objects.tolist()
    assert ring.send([objects])[0].tolist() == objects.tolist()
    masked = np.ma.array([1, 2], mask=[True, False])
    assert ring.send(masked).tolist() == [None, 2]
    records = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    received = ring.send(records)
    assert type(received) is np.recarray
    np.testing.assert_array_equal(received, records)


def test_large_arrays_are_views_of_the_ring_and_hold_a_lease(ring):
    value = np.arange(1 << 18)
    ring.send(value)
    before = ring.arena.nbytes
    received = ring.send(value)
    address = received.__array_interface__["data"][0]
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:cgc" in line]
    ranges = [tuple(int(end, 16) for end in fields[0].split("-")) for fields in mapped]
    assert any(begin <= address < end for begin, end in ranges)
    np.testing.assert_array_equal(received, value)
    assert ring.arena.nbytes == before
    for _ in range(20):
        ring.send(np.zeros(1 << 18, dtype=np.int64))
    np.testing.assert_array_equal(received, value)


def test_arrays_of_one_value_that_share_memory_become_one_lease_each(ring):
    base = np.arange(100_000)
    whole, half = ring.send([base, base[:50_000]])
    np.testing.assert_array_equal(whole[:50_000], half)


def test_nothing_of_a_sent_value_is_kept(ring):
    class Local:
        pass

    class Tracked(list):  # type: ignore[type-arg]
        pass

    for make in (lambda: Tracked([1]), Local, lambda: {"k": Tracked()}, lambda: np.zeros(1000)):
        value = make()
        inner = value["k"] if isinstance(value, dict) else value
        gone = weakref.ref(inner)
        ring.send(value)
        del value, inner
        gc.collect()
        assert gone() is None


def test_local_classes_lambdas_and_closures(ring):
    offset = 5

    class Local:
        def __init__(self) -> None:
            self.array = np.arange(1000)

    assert ring.send(lambda x: x + offset)(1) == 6
    received = ring.send(Local())
    assert type(received).__name__ == "Local"
    np.testing.assert_array_equal(received.array, np.arange(1000))
    assert not received.array.flags.writeable


def test_an_encoder_returns_to_the_fast_pickler_after_giving_up(ring):
    ring.send(lambda: None)
    for _ in range(serialization.SLOW_TURNS_AFTER_GIVING_UP + 1):
        assert ring.send([1, 2]) == [1, 2]
    assert not ring.encoder._slow_turns


def test_unpicklable_value_raises_and_the_encoder_goes_on(ring):
    for bad in (threading.Lock(), [threading.Lock()], {"a": np.zeros(10), "b": threading.Lock()}):
        with pytest.raises(TypeError, match="lock"):
            ring.encoder.encode(bad)
        assert ring.send([1]) == [1]


def test_a_value_that_fails_to_unpickle_raises_its_own_error(ring):
    ring.writer.write(*ring.encoder.encode(FailsToLoad()))
    message = ring.reader.read(0.0)
    with pytest.raises(ValueError, match="broken state"):
        serialization.decode(*message)


def test_several_values_in_one_message(ring):
    values = [1, "two", b"3" * 100_000, np.arange(50_000), {"k": np.arange(3)}, None, bytearray(200_000), "x" * 70_000]
    received = ring.send_many(values)
    for one, other in zip(received, values, strict=True):
        np.testing.assert_array_equal(one, other) if isinstance(other, np.ndarray) else None
        assert type(one) is type(other)
    assert received[:3] == values[:3]
    assert received[5:] == values[5:]


def test_a_bad_value_does_not_spoil_its_neighbours(ring):
    with_lock, number, unreadable = ring.send_many([threading.Lock(), 7, FailsToLoad()])
    assert number == 7
    assert isinstance(with_lock.to_exception(), TypeError)
    assert isinstance(unreadable.to_exception(), ValueError)


def test_error_values_travel_undecoded(ring):
    error = ErrorValue.from_exception(KeyError("k"), "A.fwd")
    received = ring.send(error)
    assert type(received) is ErrorValue
    assert received.blob == error.blob
    assert isinstance(received.to_exception(), KeyError)
    assert isinstance(received.to_exception(), ray.exceptions.RayTaskError)


def test_exceptions_that_cannot_travel(ring):
    class Unpicklable(Exception):
        def __init__(self) -> None:
            super().__init__("told")
            self.lock = threading.Lock()

    error = ErrorValue.from_exception(Unpicklable(), "A.fwd").to_exception()
    assert isinstance(error, ray.exceptions.RayTaskError)
    assert "told" in str(error)


@pytest.mark.parametrize("raised", [KeyboardInterrupt("stop"), GeneratorExit()])
def test_an_error_that_is_not_an_exception_stays_an_error_of_the_execution(raised):
    error = ErrorValue.from_exception(raised, "A.fwd").to_exception()
    assert isinstance(error, ray.exceptions.RayTaskError)
    assert not isinstance(error, type(raised))
    assert type(raised).__name__ in str(error.cause)


@pytest.mark.usefixtures("ray_session")
def test_registered_serializers_come_first(ring):
    ray.util.register_serializer(Point, serializer=lambda point: point.x, deserializer=lambda x: ("restored", x))
    ray.util.register_serializer(np.ndarray, serializer=lambda a: a.tolist(), deserializer=lambda a: ("array", a))
    try:
        assert ring.send(Point(3)) == ("restored", 3)
        assert ring.send([Point(4)]) == [("restored", 4)]
        assert ring.send(np.arange(2)) == ("array", [0, 1])
        assert ring.send([np.arange(2)]) == [("array", [0, 1])]
    finally:
        ray.util.deregister_serializer(Point)
        ray.util.deregister_serializer(np.ndarray)
    assert ring.send(Point(3)) == Point(3)


def test_the_forms_are_pickled_the_same_way_as_by_ray(ring):
    """Where the fast pickler does a value at all, it does the same as Ray's."""
    value = {"a": [Point(1, np.arange(3)), Colour.RED], "b": (datetime.date(2026, 1, 1), int)}
    blob = ray.cloudpickle.dumps(value)
    expected = pickle.loads(blob)
    received = ring.send(value)
    np.testing.assert_array_equal(received["a"][0].data, expected["a"][0].data)
    assert received["a"][1] is Colour.RED
    assert received["b"] == expected["b"]
