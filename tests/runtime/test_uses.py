"""Who uses a register: what decides where a value is put."""

from __future__ import annotations

import pytest

from cgc.runtime.program import Call, Container, Copy, Operation, Program, Read, Register, Write
from cgc.runtime.uses import Uses

READ = Read("c0", (0,))
TO_GPU, TO_HOST = Copy(0, 1, "gpu"), Copy(0, 1, "cpu")


def program(*operations: Operation) -> Program:
    return Program(graph="g", actor="a", registers=4, channels=(), operations=operations)


def call(register: int) -> Call:
    return Call("f", (Container("list", (Register(register),)),), (), (3,))


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([TO_GPU], True),
        ([TO_HOST], False),
        ([TO_GPU, call(0)], False),
        ([TO_GPU, Write("c1", (0,))], False),
        ([TO_GPU, call(1)], True),
    ],
)
def test_what_is_read_for_the_device_alone(operations: list[Operation], expected: bool) -> None:
    assert Uses(program(READ, *operations)).goes_to_the_device(READ) is expected


@pytest.mark.parametrize(
    ("operations", "channel"),
    [
        ([Write("c1", (1,))], "c1"),
        ([Write("c1", (1, 2))], None),  # beside another value
        ([Write("c1", (1,)), Write("c1", (2,))], None),  # two messages would be made at once
        ([Write("c1", (1,)), Write("c2", (2,))], "c1"),
        ([Write("c1", (1,)), call(1)], None),  # which may write into it
        ([call(1)], None),
        ([], None),
    ],
)
def test_the_channel_that_alone_takes_a_value(operations: list[Operation], channel: str | None) -> None:
    assert Uses(program(READ, TO_HOST, *operations)).channel_taking(1) == channel
