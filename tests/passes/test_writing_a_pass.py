"""The example of `docs/writing-a-pass.md` is a pass that works, and does what the page shows."""

import difflib
import re
from pathlib import Path

import pytest

from cgc.ir import Unit, parse_module, print_module
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-pass.md"

GRAPH = """\
cgc.graph @g level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a to [@b] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @a to [@b] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c3 messages [3] order 7 : !cgc.object
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1, %2 = cgc.call @a::@split(%0) : !cgc.object, !cgc.object
    cgc.write @c1(%1) messages [1] order 2
    cgc.write @c2(%2) messages [2] order 3
  }
  cgc.program @b {
    %0 = cgc.read @c1 messages [1] order 4 : !cgc.object
    %1 = cgc.read @c2 messages [2] order 5 : !cgc.object
    %2 = cgc.call @b::@join(%0, %1) : !cgc.object
    cgc.write @c3(%2) messages [3] order 6
  }
}
"""


@pytest.fixture
def blocks():
    """The code blocks of the page, by language."""
    return dict(re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.fixture
def merge_writes(blocks):
    """The class of the example."""
    names = {"__name__": "merge_writes"}
    exec(compile(blocks["python"], str(PAGE), "exec"), names)
    return names["MergeWritesPass"]


def test_the_example_does_what_the_page_shows(blocks, merge_writes):
    unit = Unit(parse_module(GRAPH))
    before = print_module(unit.module)
    result = PassManager([merge_writes(), *passes_of("verify-schedule")], verify_each=True).run(unit)
    changed = difflib.unified_diff(before.splitlines(), result.text().splitlines(), n=0, lineterm="")
    lines = [line for line in changed if not line.startswith(("---", "+++", "@@"))]
    assert sorted(lines) == sorted(blocks["diff"].splitlines())
    assert result.records[0].statistics == {"merged": 1}


def test_options_and_idempotence(merge_writes):
    unit = Unit(parse_module(GRAPH))
    assert PassManager([merge_writes(limit=0)]).run(unit).text() == GRAPH
    once = PassManager([merge_writes()]).run(unit).text()
    assert PassManager([merge_writes()]).run(unit).text() == once
