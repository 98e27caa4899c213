"""The quick check in front of xDSL's verifier accepts and refuses what the verifier does."""

from __future__ import annotations

import pytest
from xdsl.dialects.builtin import ArrayAttr, IntAttr, NoneAttr, StringAttr, SymbolRefAttr
from xdsl.utils.exceptions import VerifyException

from cgc.ir import CGC, OBJECT, CgcOp, FutureType, InputOp, RecvStartOp, TensorType, WaitOp, parse_module
from tests.ir.test_text import examples

FOREIGN = [NoneAttr(), IntAttr(1), StringAttr("x"), SymbolRefAttr("x"), OBJECT, ArrayAttr([]), ArrayAttr([NoneAttr()])]


def refusal(check):
    try:
        check()
    except VerifyException as error:
        return str(error)
    return None


def operations(level):
    return [op for op in parse_module(examples()[level]).walk() if isinstance(op, CgcOp)]


def same(operation):
    """Both refuse with the same words, or only a rule of the operation's own is left."""
    expected = refusal(lambda: operation.get_irdl_definition().verify(operation))
    actual = refusal(operation.verify_)
    assert expected is None or actual == expected, operation
    return expected


@pytest.mark.parametrize("level", ["graph", "placed", "scheduled", "allocated"])
def test_properties_of_other_kinds_and_missing_ones(level):
    refused = 0
    for operation in operations(level):
        assert same(operation) is None
        given = dict(operation.properties)
        for name in [*given, "foreign"]:
            for value in FOREIGN:
                operation.properties = {**given, name: value}
                refused += same(operation) is not None
            operation.properties = {key: value for key, value in given.items() if key != name}
            refused += same(operation) is not None
        operation.properties = given
    assert refused > 100


@pytest.mark.parametrize(
    "kind", [kind for kind in CGC.operations if issubclass(kind, CgcOp)], ids=lambda kind: kind.name
)
def test_other_operands_and_results(kind):
    value = InputOp().result
    future = RecvStartOp(0, "a", "shm", 0, FutureType(OBJECT)).result
    examples_of = [op for level in ("graph", "placed", "scheduled", "allocated") for op in operations(level)]
    properties = next((op.properties for op in examples_of if type(op) is kind), {})
    for operands in ([], [value], [future], [value, value], [value, future]):
        for results in ([], [OBJECT], [FutureType(OBJECT)], [OBJECT, OBJECT], [NoneAttr()]):
            same(kind.create(operands=operands, result_types=results, properties=dict(properties)))


def test_what_is_accepted_at_once_still_has_to_keep_its_own_rules():
    future = RecvStartOp(0, "a", "shm", 0, FutureType(TensorType.of())).result
    wait = WaitOp.create(operands=[future], result_types=[OBJECT])
    assert refusal(wait.verify_) is not None
