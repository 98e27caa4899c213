"""Values are taken apart into tensors and the rest, and put together again."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc.runtime import protocol, serialization
from cgc.runtime.communicators.tensors import TensorMeta, describe_change, header, join, read_metas, split

DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64]


@dataclasses.dataclass
class Batch:
    inputs: Any
    name: str


class Node:
    """An object of no special kind, which may refer to itself."""

    def __init__(self, payload: Any) -> None:
        self.payload = payload
        self.self = self


def travel(value: Any) -> tuple[Any, int]:
    """What the receiver gets, and how many tensors went through the communicator."""
    parts = split(value, serialization.Encoder())
    kind, blob, buffers = header(parts)
    assert kind == protocol.TENSORS
    blob = bytes(blob)
    assert read_metas(blob) == parts.metas
    moved = [tensor.detach().clone().contiguous().requires_grad_(tensor.requires_grad) for tensor in parts.tensors]
    return join(blob, [bytes(buffer) for buffer in buffers], moved), len(moved)


def tensors() -> st.SearchStrategy[torch.Tensor]:
    shapes = st.lists(st.integers(0, 3), max_size=3)
    return st.builds(lambda shape, dtype: torch.ones(shape).to(dtype) * 2, shapes, st.sampled_from(DTYPES))


def values() -> st.SearchStrategy[Any]:
    leaves = tensors() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.none()
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            | st.builds(Batch, inner, st.text(max_size=3))
        ),
        max_leaves=8,
    )


def assert_same(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert TensorMeta.of(actual) == TensorMeta.of(expected)
        assert torch.equal(actual, expected)
    elif isinstance(expected, Batch):
        assert_same(dataclasses.astuple(actual), dataclasses.astuple(expected))
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        assert_same(list(actual.values()), list(expected.values()))
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for ours, theirs in zip(actual, expected, strict=True):
            assert_same(ours, theirs)
    else:
        assert actual == expected


@given(values())
@settings(deadline=None)
def test_any_value_arrives_as_it_was(value: Any) -> None:
    assert_same(travel(value)[0], value)


def test_a_tensor_alone_has_no_rest() -> None:
    tensor = torch.ones(2, 3, requires_grad=True)
    assert split(tensor, serialization.Encoder()).rest is None
    arrived, moved = travel(tensor)
    assert moved == 1
    assert_same(arrived, tensor)


def test_tensors_leave_the_message() -> None:
    value = {"a": torch.zeros(1 << 20), "b": np.zeros(1 << 16), "c": [torch.zeros(1 << 20)]}
    parts = split(value, serialization.Encoder())
    _, blob, buffers = header(parts)
    assert len(parts.tensors) == 2
    assert len(blob) < 1000
    assert [memoryview(buffer).nbytes for buffer in buffers] == [1 << 19]


def test_identity_and_cycles_survive() -> None:
    shared = torch.arange(3.0)
    node = Node([shared, shared])
    arrived, moved = travel(node)
    assert moved == 1
    assert arrived.self is arrived
    assert arrived.payload[0] is arrived.payload[1]


def test_views_of_one_storage_become_tensors_of_their_own() -> None:
    storage = torch.arange(6.0)
    (left, right), moved = travel((storage[:3], storage[3:].flip(0)))
    assert moved == 2
    assert left.tolist() == [0, 1, 2]
    assert right.tolist() == [5, 4, 3]


def test_what_ray_has_to_pickle_is_taken_apart_too() -> None:
    class Local:
        def __init__(self) -> None:
            self.tensor = torch.ones(3)

        def double(self) -> torch.Tensor:
            return self.tensor * 2

    tensor = torch.ones(2)
    (arrived, function, twin), moved = travel((Local(), lambda x: x + tensor, tensor))
    assert moved == 2
    assert arrived.double().tolist() == [2, 2, 2]
    assert function(1).tolist() == [2, 2]
    assert twin.tolist() == [1, 1]


def test_parameters_and_modules() -> None:
    module = torch.nn.Linear(2, 3)
    arrived, moved = travel({"module": module, "weight": module.weight})
    assert moved == 2
    assert isinstance(arrived["weight"], torch.nn.Parameter)
    assert arrived["weight"] is arrived["module"].weight
    assert torch.equal(arrived["module"].bias, module.bias)


def test_a_sparse_tensor_goes_as_its_dense_parts() -> None:
    sparse = torch.eye(3).to_sparse()
    arrived, moved = travel([sparse])
    assert moved == 2
    assert torch.equal(arrived[0].to_dense(), torch.eye(3))


def test_a_failure_leaves_no_trace() -> None:
    import threading

    with pytest.raises(TypeError, match="cannot pickle"):
        split([torch.ones(1), threading.Lock()], serialization.Encoder())
    assert travel([torch.ones(1)])[1] == 1
    kind, _, buffers = serialization.Encoder().encode([torch.ones(1)])
    assert kind == protocol.OBJECT
    assert len(buffers) == 1, "outside of split, tensors stay in the message"


def test_a_header_without_metas() -> None:
    parts = split([torch.ones(2), "x"], serialization.Encoder())
    _, blob, buffers = header(parts, with_metas=False)
    assert read_metas(blob) is None
    assert_same(join(blob, buffers, parts.tensors), [torch.ones(2), "x"])


@pytest.mark.parametrize(
    ("actual", "text"),
    [
        ([torch.ones(2), torch.ones(3)], ""),
        ([torch.ones(2, requires_grad=True), torch.ones(3)], ""),
        ([torch.ones(2), torch.ones(4)], "tensor 1 was float32[3] and is float32[4]"),
        ([torch.ones(2).bool(), torch.ones(3)], "tensor 0 was float32[2] and is bool[2]"),
        ([torch.ones(2)], "it had 2 tensors and has 1 tensor"),
    ],
)
def test_changes_are_described(actual: list[torch.Tensor], text: str) -> None:
    promised = tuple(map(TensorMeta.of, [torch.ones(2), torch.ones(3)]))
    assert describe_change(promised, tuple(map(TensorMeta.of, actual))) == text
