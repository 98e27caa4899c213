"""Constants and units: what text can spell, and where the rest is."""

from __future__ import annotations

import numpy as np
import pytest

from cgc.ir import ConstantTable, LiteralAttr, OpaqueAttr, Unit, parse_module, print_module
from cgc.ir.unit import summary


def test_the_same_object_has_one_index():
    table = ConstantTable()
    shared, equal = [1], [1]
    assert [table.add(value).index.data for value in (shared, equal, shared)] == [0, 1, 0]
    assert list(table) == [shared, equal]
    assert table[1] is equal


def test_attribute_and_value_are_inverse():
    table = ConstantTable()
    values = [None, True, 1, 1.5, "x", [1], b"x", object(), 10**1000, "y" * 500]
    attributes = [table.attribute(value) for value in values]
    assert [type(attribute) for attribute in attributes] == [LiteralAttr] * 5 + [OpaqueAttr] * 5
    assert [table.value(attribute) for attribute in attributes] == values


def test_objects_of_a_parsed_text_are_missing():
    with pytest.raises(LookupError, match=r"constant 3 \(Model\) is not in the table"):
        ConstantTable().value(OpaqueAttr.of(3, "Model"))


def test_a_literal_that_cannot_be_spelled():
    with pytest.raises(ValueError, match="cannot be written as a literal"):
        LiteralAttr.of("x" * 1000)


def local_function():
    """Named in the summary."""


SUMMARIES = [
    ([1, 2], "list of 2"),
    ({}, "dict of 0"),
    (b"abc", "bytes of 3"),
    (np.zeros((2, 3)), "ndarray float64[2, 3]"),
    (np.float32(1), "float32"),
    (len, "len"),
    (local_function, "local_function"),
    (lambda: 0, "<lambda>"),
    (ValueError, "ValueError"),
    (ValueError("x"), "ValueError"),
    (np, "module"),
    (3j, "complex"),
]


@pytest.mark.parametrize(("value", "text"), SUMMARIES)
def test_summaries(value, text):
    assert summary(value) == text


def test_a_tensor_shows_dtype_and_shape():
    torch = pytest.importorskip("torch")
    assert summary(torch.zeros(2, 3, dtype=torch.bfloat16)) == "Tensor bfloat16[2, 3]"


def test_a_clone_is_another_module_with_the_same_text_and_objects():
    text = 'cgc.graph @g level = graph {\n  cgc.actor @driver driver on "n0" loc("a.py":1:0)\n}\n'
    unit = Unit(parse_module(text), ConstantTable([[1]]))
    clone = unit.clone()
    assert clone.module is not unit.module
    assert print_module(clone.module) == text
    assert clone.constants is unit.constants
