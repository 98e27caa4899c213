"""
Each graph after each pass, as one file that a person can read from top to bottom, and what must hold for all of them.

`pytest tests/passes/test_snapshots.py --snapshot-update` writes the files; read them before you commit them.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cgc.dump import default_passes, states_of
from cgc.ir import Unit, parse_module
from cgc.passes.manager import PassManager
from cgc.passes.pair_comm import PairCommPass
from tests.passes.rendering import joined, parsed_back, programs_of, rendered

HERE = Path(__file__).parent
GRAPHS = HERE / "graphs.py"
SNAPSHOTS = sorted((HERE / "__snapshots__" / "test_snapshots").glob("*.mlir"))

EXECUTABLE = [
    "echo",
    "chain",
    "fan_out",
    "diamond",
    "crossing",
    "crossing_with_communicator",
    "broadcast",
    "turns",
    "several_calls",
    "edge_within_an_actor",
    "input_attributes",
    "several_results",
    "unused_result",
    "constants_and_keywords",
    "several_outputs_of_one_actor",
    "two_nodes",
    "hints",
    "tensors_on_one_gpu",
    "nodes_within_containers",
    "calls_of_constants",
]
OPTIONS = {"broadcast": {"pair-comm": PairCommPass(broadcast=True)}}
"""Passes with options, by graph and name."""

ALL = [*EXECUTABLE, "tensors_between_gpus"]


def _passes(name, unit):
    passes = [OPTIONS.get(name, {}).get(each.name, each) for each in default_passes(unit)]
    return passes if name in EXECUTABLE else passes[:-1]


@pytest.mark.parametrize("name", ALL)
def test_passes(name, graph, mlir):
    unit = graph(name)
    result, states = states_of(unit, _passes(name, unit), locations=False)
    assert joined([*rendered(states), *programs_of(result)]) == mlir


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_every_snapshot_parses_back_to_the_same_text_and_verifies(path):
    assert parsed_back(path.read_text(), path.name) >= 4


@pytest.mark.parametrize("name", ALL)
def test_every_pass_changes_nothing_when_it_runs_twice(name, graph):
    unit = graph(name)
    passes = _passes(name, unit)
    twice = PassManager([each for one in passes for each in (one, one)]).run(graph(name))
    assert twice.text() == PassManager(passes).run(unit).text()


@pytest.mark.parametrize("name", ALL)
def test_text_of_each_level_can_be_compiled_further(name, graph):
    """The rest of the pipeline gives the same from parsed text as from what was in memory."""
    unit = graph(name)
    _, states = states_of(unit, _passes(name, unit))
    for state in states:
        parsed = Unit(parse_module(state.text))
        rest = [each for each in _passes(name, parsed) if each.name != "emit-programs"]
        assert PassManager(rest).run(parsed).text() == states[-1].text


@pytest.mark.parametrize("name", ALL)
def test_dump_after_a_pass_is_what_it_was(name, graph):
    unit = graph(name)
    passes = _passes(name, unit)
    _, states = states_of(graph(name), passes)
    result = PassManager(passes).run(unit)
    for state in states:
        assert result.text(after=state.name) == state.text


def test_the_texts_do_not_depend_on_hashes():
    """Sets, dicts and object ids decide nothing: two processes with different hash seeds print the same."""
    command = [sys.executable, "-m", "cgc.dump", "--pass", "all", "--emit", "ir", "--emit", "dot"]
    names = ["crossing_with_communicator", "several_results", "input_attributes"]

    def outputs(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(HERE.parent.parent)}
        runs = [
            subprocess.run(
                [*command[:3], f"{GRAPHS}:{name}", *command[3:7]],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            for name in names
        ]
        return [run.stdout for run in runs]

    assert outputs("1") == outputs("4711")


def test_every_graph_has_a_snapshot():

    functions = [node.name for node in ast.parse(GRAPHS.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert sorted(name for name in functions if not name.startswith("_")) == sorted(ALL)
    assert [path.stem for path in SNAPSHOTS] == sorted(f"test_passes[{name}]" for name in ALL)
