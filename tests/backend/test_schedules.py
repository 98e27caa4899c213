"""Schedules as pictures and tables: every step and message is there, and Graphviz can draw what we write."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cgc.backend.ascii import to_ascii
from cgc.backend.graphviz import to_dot
from cgc.dump import default_passes, load_unit
from cgc.errors import PassError
from cgc.ir import graphs_of
from cgc.passes.analysis.cost import CostModel, Link
from cgc.passes.analysis.critical import critical_path
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of

GRAPHS = Path(__file__).parent.parent / "passes" / "graphs.py"
ZOO = Path(__file__).parent.parent.parent / "tools" / "zoo" / "graphs.py"
STREAMS = "verify-graph,infer-types,place-devices,pair-comm,overlap-comm{streams},allocate-channels"


@pytest.fixture
def compiled():
    """A function that gives the final module of one of the graphs in `graphs.py`."""

    def run(name):
        unit = load_unit(f"{GRAPHS}:{name}")
        return PassManager(default_passes(unit)).run(unit).unit.module

    return run


def test_table_has_a_column_per_participant_and_predicted_times(compiled):
    links = {"shm": Link(latency_us=2.0, gb_per_s=1.0, overhead_us=1.0)}
    cost = CostModel({("Stage", "fwd"): 100.0, ("Stage", "echo"): 50.0}, links, object_bytes=1000)
    assert to_ascii(compiled("echo"), cost) == (
        "        µs  @driver/execute  @driver/get  @a\n"
        "       0.0  input*\n"
        "       0.0  write @c0*\n"
        "       4.0                                read @c0*\n"
        "       5.0                                echo*\n"
        "      55.0                                write @c1*\n"
        "      59.0                   read @c1*\n"
        "      60.0                   output*\n"
        "      60.0  end; * is the longest path\n"
    )


def test_steps_that_start_together_share_a_row(compiled):
    table = to_ascii(compiled("diamond"))
    assert re.search(r"read @c1\*? +read @c1\n", table)


def test_picture_has_a_cluster_per_participant_and_an_edge_per_message_and_reader(compiled):
    dot = to_dot(compiled("diamond"))
    assert re.findall(r'label="(@[^"]+)"; style=rounded', dot) == ["@driver", "@a", "@b", "@c", "@d"]
    assert sorted(re.findall(r'-> \w+ \[label="(c\d)"', dot)) == ["c0", "c1", "c1", "c2", "c3", "c4"]
    assert 'tooltip="graphs.py:' in dot
    assert "legend" in dot


def test_operations_of_a_participant_are_in_order(compiled):
    dot = to_dot(compiled("several_calls"))
    cluster = dot[dot.index('label="@a"') :].partition("  }")[0]
    assert re.findall(r'label="([^"]+)", shape=box', cluster) == ["one", "two", "three"]


def test_both_ends_of_a_meeting_are_at_the_same_height(compiled):
    dot = to_dot(compiled("crossing_with_communicator"))
    assert dot.count("rank=same") == 2
    assert dot.count("dir=both") == 2


def test_streams_and_halves_of_the_driver_are_lanes_of_their_actor(compiled):
    unit = load_unit(f"{ZOO}:one_f_one_b")
    module = PassManager(passes_of(STREAMS)).run(unit).unit.module
    dot = to_dot(module)
    lanes = [re.findall(r'label="(\w+)"; style=dashed', part) for part in dot.split("style=rounded")[1:]]
    assert lanes[:2] == [["execute", "get"], ["program", "stream1", "stream2"]]
    assert dot.count('label="begin write') == dot.count('label="begin read') == 2 * 3 * 8


@pytest.mark.parametrize("streams", ["", "{streams}"])
def test_the_longest_path_is_connected_from_the_input_to_the_output(streams):
    unit = load_unit(f"{ZOO}:one_f_one_b")
    module = PassManager(passes_of(STREAMS.replace("{streams}", streams))).run(unit).unit.module
    (graph,) = graphs_of(module)
    simulation = simulate(schedule_of(graph, CostModel(object_bytes=10**6)))
    path = critical_path(simulation)
    labels = [simulation.schedule.processes[process].steps[step].label for process, step in path]
    assert (labels[0], labels[-1]) == ("input", "output")
    ends = [simulation.ends[process][step] for process, step in path]
    starts = [simulation.starts[process][step] for process, step in path]
    # Each begins when the one before it ends, but for the time that a message is on its way, and for the ends of a
    # meeting, which are at the same time.
    gaps = [start - end for end, start in zip(ends, starts[1:], strict=False)]
    latency = CostModel().link("shm").latency_us
    assert all(gap <= latency + 1e-6 for gap in gaps)
    assert sum(gap > 1e-6 for gap in gaps) <= 2


def test_names_are_quoted(compiled):
    module = compiled("echo")
    call = next(op for op in module.walk() if op.name == "cgc.call")
    call.properties["callee"] = type(call.callee)("a", ['say "hi"'])
    assert r'label="say \"hi\""' in to_dot(module)


@pytest.mark.parametrize("emit", [to_dot, to_ascii])
def test_a_graph_without_a_schedule_is_an_error(emit):
    with pytest.raises(PassError, match="@echo has no schedule yet; run pair-comm before"):
        emit(load_unit(f"{GRAPHS}:echo").module)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("name", ["chain", "diamond", "crossing_with_communicator", "constants_and_keywords"])
def test_graphviz_draws_it_without_a_warning(compiled, name):
    done = subprocess.run(["dot", "-Tsvg"], input=to_dot(compiled(name)), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "<svg" in done.stdout


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_two_hundred_operations_with_streams():
    unit = load_unit(f"{ZOO}:one_f_one_b")
    dot = to_dot(PassManager(passes_of(STREAMS)).run(unit).unit.module)
    assert dot.count("shape=") > 200
    done = subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, text=True, check=True)
    assert done.stderr == ""
