"""From allocated IR to programs: registers, drops, inputs, constants, and what cannot be executed yet."""

import pickle
from pathlib import Path

import pytest

from cgc.dump import default_passes, load_unit
from cgc.passes.manager import PassManager
from cgc.runtime import program as runtime

GRAPHS = Path(__file__).parent.parent / "passes" / "graphs.py"


@pytest.fixture
def programs():
    """A function that gives the programs of one of the graphs in `graphs.py`."""

    def run(name):
        unit = load_unit(f"{GRAPHS}:{name}")
        return PassManager(default_passes(unit)).run(unit).products["programs"]

    return run


def _lines(program):
    return [str(operation) for operation in program.operations]


def test_values_are_dropped_after_their_last_use(programs):
    assert _lines(programs("edge_within_an_actor")["a"]) == [
        "r0 = read c0",
        "r1 = call one(r0)    drop r0",
        "write c1 r1",
        "r2 = call two(r1)    drop r1",
        "write c2 r2    drop r2",
    ]


def test_inputs_come_first_and_a_whole_input_that_is_used_in_parts_has_no_register(programs):
    driver = programs("input_attributes")["driver"]
    assert _lines(driver)[:5] == [
        "r0 = input[0]",
        "r1 = input['scale']",
        "r2 = input['bias']",
        "write c0 r0, r1    drop r0, r1",
        "write c1 r2    drop r2",
    ]
    assert [o.accessor for o in driver.operations[:3]] == ["__getitem__", "__getitem__", "__getattr__"]


def test_constants_are_the_users_own_objects(programs):
    call = next(o for o in programs("constants_and_keywords")["a"].operations if isinstance(o, runtime.Call))
    assert [a.value for a in call.args if isinstance(a, runtime.Constant)] == [2, 0.5, "text", None, True]
    assert dict(call.kwargs)["factor"].value == [1, 2]


class Unreadable:
    def __repr__(self):
        raise RuntimeError("no code of users runs to print a program")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, ("a", 2.5), {"key": None}], "[1, ('a', 2.5), {'key': None}]"),
        ("x" * 39, "<str>"),
        (10**5000, "<int>"),
        ({"b", "a"}, "<set>"),  # its order changes from run to run
        (object(), "<object>"),  # and so does an address
        (Unreadable(), "<Unreadable>"),
        ([Unreadable()], "<list>"),
    ],
    ids=["containers", "long", "huge", "set", "object", "unreadable", "within"],
)
def test_constants_print_alike_in_every_run(value, text):
    assert str(runtime.Constant(value)) == text


def test_keywords_may_be_constants_and_values(programs):
    call = next(o for o in programs("constants_and_keywords")["b"].operations if isinstance(o, runtime.Call))
    assert [(keyword, type(argument)) for keyword, argument in call.kwargs] == [
        ("left", runtime.Register),
        ("right", runtime.Register),
        ("name", runtime.Constant),
    ]


def test_results_that_nobody_uses_are_dropped_by_the_next_operation(programs):
    program = programs("unused_result")["a"]
    assert _lines(program)[1:3] == ["r1, r2 = call split(r0)    drop r0", "write c1 r1    drop r1, r2"]


def test_each_participant_knows_its_own_channels_with_indices_of_the_whole_graph(programs):
    found = programs("diamond")
    assert [(c.name, c.index, c.writer, c.readers) for c in found["d"].channels] == [
        ("c2", 2, "b", ("d",)),
        ("c3", 3, "c", ("d",)),
        ("c4", 4, "d", ("driver",)),
    ]


def test_programs_are_picklable_and_have_locations(programs):
    found = programs("crossing")
    assert pickle.loads(pickle.dumps(found)) == found
    assert all(o.location.startswith("graphs.py:") for program in found.values() for o in program.operations)


def test_every_register_is_written_once_and_dropped_once(programs):
    for name in ("several_results", "several_calls", "constants_and_keywords", "crossing"):
        for program in programs(name).values():
            written = [o.into for o in program.operations if isinstance(o, runtime.Input)]
            written += [r for o in program.operations if isinstance(o, runtime.Read | runtime.Call) for r in o.into]
            assert sorted(written) == list(range(program.registers))
            dropped = [r for o in program.operations for r in getattr(o, "drop", ())]
            assert len(dropped) == len(set(dropped))


def test_tensors_are_copied_off_the_device_once_and_onto_it_by_each_reader():
    unit = load_unit(f"{GRAPHS}:tensors_between_gpus")
    found = PassManager(default_passes(unit)).run(unit).products["programs"]
    copies = {name: [str(o) for o in each.operations if isinstance(o, runtime.Copy)] for name, each in found.items()}
    assert copies["b"] == ["r2 = copy r1 to cpu    drop r1"]
    assert copies["c"] == ["r2 = copy r1 to gpu    drop r1"]
    assert not copies["a"] + copies["driver"]
    assert {name: each.device for name, each in found.items()} == {"driver": "", "a": "gpu", "b": "gpu", "c": "gpu"}
