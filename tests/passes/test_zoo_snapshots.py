"""
The graphs of the zoo, small enough to be read, after each pass: with messages in the programs, then on streams.

Each file ends with the programs and the times that the zoo's profile predicts. What streams change is a file of its
own; there is none where they change nothing. `--snapshot-update` writes the files; read them before you commit them.
"""

import importlib.util
from functools import partial
from pathlib import Path

import pytest

from cgc.backend.ascii import to_ascii
from cgc.dump import states_of
from cgc.ir.importer import import_graph
from cgc.passes.analysis.cost import CostModel
from cgc.passes.registry import PASSES, passes_of
from cgc.runtime.program import Call
from tests.passes.rendering import commented, joined, parsed_back, programs_of, rendered

ZOO = Path(__file__).parents[2] / "tools" / "zoo"
SNAPSHOTS = sorted((Path(__file__).parent / "__snapshots__" / "test_zoo_snapshots").glob("*.mlir"))
NO_GAIN = ("tensor_parallel", "skip_edges", "rollout_and_learner")
"""Graphs whose longest path has no call that could run beside a message: streams would not be faster."""

CALLS = {
    "gpipe": {"a0": "F F B B", "a1": "F F B B"},
    "one_f_one_b": {"a0": "F F B F B B", "a1": "F B F B F B"},
    "interleaved": {"a0": "F F F F B B B B", "a1": "F F F B F B B B"},
    "zero_bubble": {"a0": "F F B W F B W B W", "a1": "F B F B W F B W W"},
}
"""What each actor calls in the published schedules of these sizes, by the first letters of the methods."""


def _zoo():
    spec = importlib.util.spec_from_file_location("zoo_graphs_to_read", ZOO / "graphs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


zoo = _zoo()
SMALL = {
    "tensor_parallel": partial(zoo.tensor_parallel, shards=2, layers=2),
    "gpipe": partial(zoo.gpipe, stages=2, batches=2),
    "one_f_one_b": partial(zoo.one_f_one_b, stages=2, batches=3),
    "interleaved": partial(zoo.interleaved, ranks=2, chunks=2, batches=2),
    "zero_bubble": partial(zoo.zero_bubble, stages=2, batches=3),
    "skip_edges": partial(zoo.skip_edges, depth=2),
    "all_to_all": partial(zoo.all_to_all, experts=2, rounds=1),
    "rollout_and_learner": partial(zoo.rollout_and_learner, workers=2, steps=2),
    "layered": partial(zoo.layered, seed=1, actors=3, layers=3, width=3),
}


def _compiled(name, streams):
    passes = [f"{each}{{streams}}" if streams and each == "overlap-comm" else each for each in PASSES]
    unit = import_graph(SMALL[name](), name=name, max_inflight=10)
    cost = CostModel.load(ZOO / "profile.json")
    result, states = states_of(unit, passes_of(",".join(passes)), locations=False, cost=cost)
    return result, states, commented(to_ascii(result.unit.module, cost))


@pytest.mark.parametrize("name", SMALL)
def test_messages_in_the_programs(name, mlir):
    result, states, times = _compiled(name, streams=False)
    assert joined([*rendered(states), *programs_of(result), "", *times]) == mlir


@pytest.mark.parametrize("name", [name for name in SMALL if name not in NO_GAIN])
def test_messages_on_streams(name, mlir):
    result, states, times = _compiled(name, streams=True)
    first = next(number for number, state in enumerate(states) if state.name == "overlap-comm")
    parts = rendered(states[first:], states[first - 1])
    assert joined([*parts, *programs_of(result), "", *times]) == mlir


@pytest.mark.parametrize("name", NO_GAIN)
def test_streams_change_nothing_where_they_gain_nothing(name):
    _, plain, _ = _compiled(name, streams=False)
    _, streams, _ = _compiled(name, streams=True)
    assert [state.text for state in streams] == [state.text for state in plain]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_calls_are_in_the_order_of_the_schedule_of_that_name(name, streams):
    result, _, _ = _compiled(name, streams)
    letters = {"forward": "F", "backward": "B", "weights": "W"}
    called = {
        actor: " ".join(letters[each.method] for each in program.operations if isinstance(each, Call))
        for actor, program in result.products["programs"].items()
    }
    assert called == {"driver": "", **CALLS[name]}


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_every_snapshot_parses_back_to_the_same_text_and_verifies(path):
    assert parsed_back(path.read_text(), path.name) >= 2


def test_every_graph_of_the_zoo_is_here():
    assert {each.func for each in SMALL.values()} == set(zoo.ZOO.values())
