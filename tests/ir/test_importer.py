"""`import_graph`: what the IR of a `ray.dag` graph is, right or wrong, and that it depends on the graph alone."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.ir import ActorInfo, ActorOp, location_text, print_module, verify_module
from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph
from tests.ir.imported import Stage, actor_lines, body, calls, expected


class Color(enum.IntEnum):
    RED = 1


def test_chain():
    a, b = abstract_actor(Stage), abstract_actor(Stage)
    with InputNode() as inp:
        dag = b.fwd.bind(a.fwd.bind(inp), 3)
    unit = import_graph(dag, name="chain", max_inflight=10)
    assert body(unit) == expected("""
        %0 = cgc.input
        %1 = cgc.call @Stage_0::@fwd(%0)
        %2 = cgc.call @Stage_1::@fwd(%1, 3)
        cgc.output %2
    """)
    assert print_module(unit.module).startswith("cgc.graph @chain level = graph, max_inflight = 10 {\n")
    assert unit.handles == {"Stage_0": a, "Stage_1": b}


def test_fan_out_and_fan_in_keep_the_order_of_the_user():
    a, b, c = (abstract_actor(name) for name in "abc")
    with InputNode() as inp:
        x = a.f.bind(inp)
        y = b.f.bind(x)
        z = c.f.bind(x)
        dag = MultiOutputNode([z, y, a.f.bind(z, y)])
    assert body(import_graph(dag)) == expected("""
        %0 = cgc.input
        %1 = cgc.call @a_0::@f(%0)
        %2 = cgc.call @b_0::@f(%1)
        %3 = cgc.call @c_0::@f(%1)
        %4 = cgc.call @a_0::@f(%3, %2)
        cgc.output [%3, %2, %4]
    """)


def test_parts_of_the_input():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        dag = a.fwd.bind(inp[1], inp["key"], inp.name)
    assert body(import_graph(dag)) == expected("""
        %0 = cgc.input
        %1 = cgc.input_attr %0[1]
        %2 = cgc.input_attr %0["key"]
        %3 = cgc.input_attr %0 attr "name"
        %4 = cgc.call @Stage_0::@fwd(%1, %2, %3)
        cgc.output %4
    """)


def test_constants_are_literals_or_objects_in_the_table():
    a = abstract_actor(Stage)
    array, pairs = np.zeros((2, 3), np.float32), [(1, 2)]
    with InputNode() as inp:
        dag = a.fwd.bind(inp, None, True, 2, -0.5, "x", array, pairs, b"xyz", Color.RED, np.float64(2), k=array, f=len)
    unit = import_graph(dag)
    assert body(unit).splitlines()[1] == (
        '%1 = cgc.call @Stage_0::@fwd(%0, none, true, 2, -0.5, "x", opaque<0, "ndarray float32[2, 3]">,'
        ' opaque<1, "list of 1">, opaque<2, "bytes of 3">, opaque<3, "Color">, opaque<4, "float64">,'
        ' k=opaque<0, "ndarray float32[2, 3]">, f=opaque<5, "len">)'
    )
    assert unit.constants[0] is array
    assert unit.constants[1] is pairs
    args, kwargs = calls(unit)[0].bound
    assert [unit.constants.value(constant) for constant in args[1:6]] == [None, True, 2, -0.5, "x"]
    assert unit.constants.value(kwargs["k"]) is array


def test_long_and_odd_strings_are_objects():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        dag = a.fwd.bind(inp, "x" * 1000, "\ud800", 10**5000)
    assert body(import_graph(dag)).splitlines()[1] == (
        '%1 = cgc.call @Stage_0::@fwd(%0, opaque<0, "str of 1000">, opaque<1, "str of 1">, opaque<2, "int">)'
    )


def test_no_code_of_the_user_runs_for_a_summary():
    class Hostile:
        def __repr__(self):
            raise AssertionError("repr was called")

        __str__ = __hash__ = __eq__ = __len__ = __repr__

    a = abstract_actor(Stage)
    with InputNode() as inp:
        dag = a.fwd.bind(inp, Hostile())
    assert "Hostile" in body(import_graph(dag))


def test_nodes_as_keyword_arguments():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        dag = a.fwd.bind(left=inp, right=a.fwd.bind(inp), scale=2)
    assert body(import_graph(dag)) == expected("""
        %0 = cgc.input
        %1 = cgc.call @Stage_0::@fwd(%0)
        %2 = cgc.call @Stage_0::@fwd(left=%0, right=%1, scale=2)
        cgc.output %2
    """)


def test_several_results_are_one_call():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        x, y = a.split.bind(inp)
        p, _, q = a.fwd.options(num_returns=3).bind(y, x)
        dag = MultiOutputNode([q, p])
    assert body(import_graph(dag)) == expected("""
        %0 = cgc.input
        %1, %2 = cgc.call @Stage_0::@split(%0)
        %3, %4, %5 = cgc.call @Stage_0::@fwd(%2, %1)
        cgc.output [%5, %3]
    """)


def test_an_output_of_one_in_a_list_is_a_list():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        x = a.fwd.bind(inp)
    assert body(import_graph(x)).endswith("cgc.output %1")
    assert body(import_graph(MultiOutputNode([x]))).endswith("cgc.output [%1]")
    assert body(import_graph(MultiOutputNode([x, x]))).endswith("cgc.output [%1, %1]")


def test_the_same_value_twice_in_one_call():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        dag = a.fwd.bind(inp, inp, k=inp)
    assert "@fwd(%0, %0, k=%0)" in body(import_graph(dag))


def test_symbols_and_declarations():
    anonymous, named, twin = abstract_actor(Stage), abstract_actor(Stage, "b"), abstract_actor("x", name="b")
    driver, odd = abstract_actor("x", name="driver"), abstract_actor("A.B c!", node="n1", devices=["gpu:0", "gpu:1"])
    with InputNode() as inp:
        dag = MultiOutputNode([actor.fwd.bind(inp) for actor in (anonymous, named, twin, driver, odd)])
    unit = import_graph(dag, driver_node="head")
    assert actor_lines(unit) == [
        'cgc.actor @driver driver on "head"',
        'cgc.actor @Stage_0 actor class "Stage" on "n0"',
        'cgc.actor @b actor class "Stage" on "n0"',
        'cgc.actor @b_0 actor class "x" on "n0"',
        'cgc.actor @driver_0 actor class "x" on "n0"',
        'cgc.actor @A_B_c__0 actor class "A.B c!" on "n1" devices ["gpu:0", "gpu:1"]',
    ]


def test_what_is_known_of_actors_and_their_ids():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        dag = a.fwd.bind(inp)
    infos = {a: ActorInfo("Model", name="m", node="n7", devices=("gpu:1",), actor_id="0123")}
    assert actor_lines(import_graph(dag, actors=infos))[1] == (
        'cgc.actor @m actor class "Model" on "n7" devices ["gpu:1"]'
    )
    assert actor_lines(import_graph(dag, actors=infos, with_ids=True))[1].endswith(' id "0123"')


def test_locations_are_those_of_the_binds(tmp_path):
    a = abstract_actor(Stage)
    with InputNode() as inp:
        x = a.fwd.bind(inp)
        dag = a.fwd.bind(x)
    lines = [location_text(call) for call in calls(import_graph(dag))]
    first = int(lines[0].rpartition(":")[2])
    assert lines == [f"test_importer.py:{first}", f"test_importer.py:{first + 1}"]
    here = Path(__file__)
    rooted = import_graph(dag, location_root=str(here.parents[1]))
    assert location_text(calls(rooted)[0]) == f"ir/test_importer.py:{first}"
    elsewhere = import_graph(dag, location_root=str(tmp_path))
    assert location_text(calls(elsewhere)[0]) == f"test_importer.py:{first}"


def test_no_input_and_two_inputs():
    a = abstract_actor(Stage)
    assert "cgc.input" not in body(import_graph(a.fwd.bind(1)))
    with InputNode() as first, InputNode() as second:
        dag = a.fwd.bind(first, second)
    assert body(import_graph(dag)).count("= cgc.input") == 2


def test_whole_input_and_parts_mixed():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        dag = a.fwd.bind(inp, inp[0])
    assert "@fwd(%0, %1)" in body(import_graph(dag))


def test_calls_that_the_output_does_not_need():
    a, b = abstract_actor(Stage), abstract_actor("Other")
    with InputNode() as inp:
        x = a.fwd.bind(inp)
        b.log.bind(x)
        b.log.bind(b.log.bind(inp))
        MultiOutputNode([x])
    assert body(import_graph(x)) == expected("""
        %0 = cgc.input
        %1 = cgc.call @Stage_0::@fwd(%0)
        %2 = cgc.call @Other_0::@log(%1)
        %3 = cgc.call @Other_0::@log(%0)
        %4 = cgc.call @Other_0::@log(%3)
        cgc.output %1
    """)


def test_actor_classes_and_remote_functions():
    @ray.remote
    def load(value):
        return value

    actor_class = ray.remote(Stage)
    with InputNode() as inp:
        dag = actor_class.bind().fwd.bind(load.bind(inp))
    unit = import_graph(dag)
    assert body(unit) == expected("""
        %0 = cgc.input
        %1 = cgc.call @Stage_0::@__init__()
        %2 = cgc.call @load_0::@load(%0)
        %3 = cgc.call @Stage_0::@fwd(%2)
        cgc.output %3
    """)
    kinds = {op.sym_name.data: op.kind.data for op in unit.module.walk() if isinstance(op, ActorOp)}
    assert kinds == {"driver": "driver", "Stage_0": "class", "load_0": "task"}
    assert unit.handles == {}
    assert body(import_graph(actor_class.bind())).endswith("cgc.output %0")


def test_the_input_as_output():
    with InputNode() as inp:
        pass
    assert body(import_graph(inp)) == "%0 = cgc.input\ncgc.output %0"


def test_calls_on_one_actor_keep_the_order_of_their_binds():
    a, b = abstract_actor("A"), abstract_actor("B")
    with InputNode() as inp:
        first = a.first.bind(inp)
        second = a.second.bind(b.f.bind(inp))
        third = a.third.bind(inp)
        dag = MultiOutputNode([third, second, first])
    assert [call.method for call in calls(import_graph(dag)) if call.actor == "A_0"] == ["first", "second", "third"]


def test_nodes_made_before_the_import_of_cgc_keep_bind_order():
    a = abstract_actor("A")
    with InputNode() as inp:
        nodes = [a.f.bind(inp, number) for number in range(20)]
    dag = MultiOutputNode(nodes[::-1])
    for node in (inp, dag, *nodes):
        del node.__dict__["_cgc_bind_location"]
    unit = import_graph(dag)
    assert [call.bound[0][1].value for call in calls(unit)] == list(range(20))
    assert {location_text(call) for call in calls(unit)} == {""}


def test_importing_twice_gives_the_same_and_changes_nothing(collective: ModuleType):
    a, b = abstract_actor(Stage), abstract_actor(Stage)
    with InputNode() as inp:
        pair = collective.allreduce.bind([a.fwd.bind(inp).with_tensor_transport(), b.fwd.bind(inp, [1])])
    dag = MultiOutputNode(pair)
    assert print_module(import_graph(dag).module) == print_module(import_graph(dag).module)


def test_long_chains_do_not_recurse(collective: ModuleType):
    a = abstract_actor(Stage)
    with InputNode() as inp:
        node = inp
        for _ in range(10_000):
            node = a.fwd.bind(node)
    unit = import_graph(node)
    verify_module(unit.module)
    assert len(calls(unit)) == 10_000


SCRIPT = """
import cgc
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allreduce
from cgc.ir import print_module
from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph

actors = [abstract_actor(name) for name in ("A", "B", "A", "C")]
with InputNode() as inp:
    nodes = [actor.f.bind(inp[i % 2], {1, "x"}, len) for i, actor in enumerate(actors)]
    for i in range(40):
        nodes.append(actors[i * 7 % 4].f.bind(nodes[i * 5 % len(nodes)], k=nodes[i * 3 % len(nodes)]))
    unused = actors[0].g.bind(nodes[3])
    outputs = allreduce.bind([actors[0].f.bind(nodes[-1]), actors[1].f.bind(nodes[-2])])
print(print_module(import_graph(MultiOutputNode([*outputs, *nodes[-4:]])).module))
"""


def test_the_text_does_not_depend_on_hashes(tmp_path, collective: ModuleType):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    texts = set()
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(cgc.__file__).parents[1])}
        run = subprocess.run(
            [sys.executable, "-W", "ignore", str(script)], env=environment, capture_output=True, text=True, check=True
        )
        texts.add(run.stdout)
    assert len(texts) == 1
    assert "@B_0::@f" in texts.pop()


def test_real_actors(ray_session):
    actor = ray.remote(Stage).remote()
    again = ray.remote(Stage).remote()
    with InputNode() as inp:
        x, y = actor.split.bind(inp)
        dag = MultiOutputNode([again.fwd.bind(x), actor.fwd.bind(y)])
    unit = import_graph(dag)
    assert actor_lines(unit)[1:] == [
        'cgc.actor @Stage_0 actor class "Stage" on "n0"',
        'cgc.actor @Stage_1 actor class "Stage" on "n0"',
    ]
    assert unit.handles == {"Stage_0": actor, "Stage_1": again}
    assert f' id "{actor._actor_id.hex()}"' in actor_lines(import_graph(dag, with_ids=True))[1]


def test_two_handles_of_one_actor(ray_session):
    actor = ray.remote(Stage).options(name="importer-test").remote()
    other = ray.get_actor("importer-test")
    with InputNode() as inp:
        dag = MultiOutputNode([actor.fwd.bind(inp, 0), other.fwd.bind(inp, 1), actor.fwd.bind(inp, 2)])
    unit = import_graph(dag)
    assert list(unit.handles) == ["Stage_0"]
    assert [call.bound[0][1].value for call in calls(unit)] == [0, 1, 2]
