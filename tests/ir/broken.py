"""Graphs as text, and what is said about a broken one."""

from __future__ import annotations

import pytest

from cgc.errors import IRVerifyError
from cgc.ir import parse_module, verify_module

ACTORS = '  cgc.actor @driver driver on "n0"\n  cgc.actor @a actor on "n0"\n  cgc.actor @b actor on "n0"\n'
AT = ' loc("stages.py":13:0)'
INPUT = "%0 = cgc.input : !cgc.object"
CALL = "%1 = cgc.call @a::@f() : !cgc.object"


def in_body(level: str, *lines: str) -> str:
    body = "\n".join(f"    {line}" for line in lines)
    return f"cgc.graph @g level = {level} {{\n{ACTORS}  cgc.body {{\n{body}\n  }}\n}}\n"


def in_programs(level: str, *, channels: tuple[str, ...] = (), **programs: tuple[str, ...]) -> str:
    programs = {"driver": ("%0 = cgc.input : !cgc.object", "cgc.output %0"), "a": (), "b": (), **programs}
    text = "".join(f"  {line}\n" for line in channels)
    for actor, lines in programs.items():
        text += f"  cgc.program @{actor} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"
    return f"cgc.graph @g level = {level} {{\n{ACTORS}{text}}}\n"


def assert_is_refused(text: str, operation: str, message: str) -> None:
    """The text breaks a rule: `message` is said of the operation, and its location if the text has `AT`."""
    with pytest.raises(IRVerifyError) as caught:
        verify_module(parse_module(text))
    assert message in str(caught.value), str(caught.value)
    if operation:
        assert caught.value.operation == operation
        assert str(caught.value).startswith("error: ")
    assert "\n" not in str(caught.value) or not operation
    assert caught.value.location == ("stages.py:13" if AT in text else "")
