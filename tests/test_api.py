"""
`cgc.compile` and `CompiledGraph`: what a user may write, and what is said when it is wrong.
"""

import asyncio
import gc
import threading

import numpy as np
import pytest
import ray
import ray.exceptions
from ray.dag import DAGContext, InputNode, MultiOutputNode

import cgc

pytestmark = pytest.mark.usefixtures("ray_session")


@ray.remote
class Worker:
    def __init__(self, bias=0):
        self.bias = bias

    def echo(self, value):
        return value

    def add(self, left, right=0, *, scale=1):
        return (left + right) * scale + self.bias

    @ray.method(num_returns=2)
    def split(self, value):
        return value[0], value[1]

    def fail(self, value):
        raise KeyError(value)

    def lock(self, value):
        return threading.Lock()

    def total(self, *values):
        return sum(values)

    def nbytes(self, array):
        return array.nbytes

    def zeros(self, count):
        return np.zeros(count, dtype=np.uint8)


def test_whole_input_positional_index_keyword_and_attribute():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.add.bind(inp[0], inp["right"])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(1, right=2)) == 3
    with InputNode() as inp:
        dag = a.add.bind(inp.left, inp[0])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(5, left=1)) == 6
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute([1, {"k": (2, None)}])) == [1, {"k": (2, None)}]


def test_constants_bound_as_arguments():
    a = Worker.remote(bias=100)
    with InputNode() as inp:
        dag = MultiOutputNode([a.add.bind(inp, 3, scale=10), a.total.bind(inp, 1, 2.5), a.echo.bind(inp)])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(1)) == [140, 4.5, 1]


def test_opaque_constants_reach_the_actor():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.add.bind(np.arange(3), inp)
    with cgc.compile(dag) as graph:
        np.testing.assert_array_equal(ray.get(graph.execute(1)), [1, 2, 3])


def test_one_actor_several_times_passing_to_itself():
    a = Worker.remote(bias=1)
    with InputNode() as inp:
        first = a.add.bind(inp)
        second = a.add.bind(first)
        dag = MultiOutputNode([a.add.bind(first, second), first, second])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(0)) == [4, 1, 2]


def test_one_value_with_many_readers():
    source, *readers = [Worker.remote(bias=i) for i in range(5)]
    with InputNode() as inp:
        value = source.echo.bind(inp)
        dag = MultiOutputNode([value, *[reader.add.bind(value) for reader in readers]])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(10)) == [10, 11, 12, 13, 14]


def test_methods_with_several_results():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        left, right = a.split.bind(inp)
        dag = MultiOutputNode([b.echo.bind(left), right])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(("l", "r"))) == ["l", "r"]


def test_crossing_transfers_between_two_actors():
    """The graph of ray issue 45594: each actor needs a value of the other."""
    a, b = Worker.remote(bias=1), Worker.remote(bias=2)
    with InputNode() as inp:
        from_a, from_b = a.add.bind(inp), b.add.bind(inp)
        dag = MultiOutputNode([a.add.bind(from_b), b.add.bind(from_a)])
    with cgc.compile(dag) as graph:
        refs = [graph.execute(i) for i in range(5)]
        assert [ray.get(pair) for pair in refs] == [[i + 3, i + 3] for i in range(5)]


def test_one_actor_serves_two_graphs_and_two_compiles_of_one_dag():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    with cgc.compile(dag) as one, cgc.compile(dag) as two:
        refs = [one.execute(1), two.execute(2), one.execute(3)]
        assert [ray.get(ref) for ref in refs] == [1, 2, 3]


def test_results_out_of_order_and_dropped_refs():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    with cgc.compile(dag) as graph:
        refs = [graph.execute(i) for i in range(6)]
        assert ray.get(refs[4]) == 4
        assert ray.get(refs[1]) == 1
        del refs
        gc.collect()
        for i in range(30):
            assert ray.get(graph.execute(i)) == i
        for _ in range(30):
            graph.execute("dropped")
        assert ray.get(graph.execute("kept")) == "kept"


def test_capacity_is_limited_by_max_inflight_executions():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    with cgc.compile(dag, max_inflight_executions=3) as graph:
        refs = [graph.execute(i) for i in range(3)]
        with pytest.raises(ray.exceptions.RayCgraphCapacityExceeded, match="3"):
            graph.execute(3)
        assert ray.get(refs) == [0, 1, 2]
        assert ray.get(graph.execute(4)) == 4


def test_numpy_results_do_not_block_later_executions():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.zeros.bind(inp)
    with cgc.compile(dag, max_inflight_executions=2) as graph:
        held = [ray.get(graph.execute(1 << 20)) for _ in range(8)]
    assert [array.nbytes for array in held] == [1 << 20] * 8
    assert not any(array.flags.writeable for array in held)


def test_programs_dump_and_visualize():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        dag = b.add.bind(a.echo.bind(inp), 3)
    with cgc.compile(dag) as graph:
        assert [len(p.operations) for p in graph.programs.values() if p.actor != "driver"] == [3, 3]
        assert "cgc.send" in graph.dump(after="pair-comm")
        assert "cgc.channel" in graph.dump()
        assert graph.schedule().lstrip().startswith("digraph")
        drawing = graph.visualize(format="dot")
        assert drawing.startswith("digraph")
        assert rf'"Task 1\nActor: Worker\nID: {a._actor_id.hex()[:6]}...\nMethod: echo"' in drawing
        with pytest.raises(cgc.PassError, match="pair-comm"):
            graph.dump(after="pair-com")


def test_options_object_and_unknown_option():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    options = cgc.CompileOptions(max_inflight_executions=1)
    with cgc.compile(dag, options) as graph:
        assert graph.options.max_inflight_executions == 1
        assert ray.get(graph.execute(1)) == 1
    with pytest.raises(TypeError, match="max_inflight_execution"):
        cgc.compile(dag, max_inflight_execution=1)
    with pytest.raises(ValueError, match="max_inflight_executions"):
        cgc.compile(dag, max_inflight_executions=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_inflight_executions": True}, ValueError, "must be a positive integer, found True"),
        ({"max_channel_bytes": -1}, ValueError, "`max_channel_bytes` must be bytes, or 0 for no limit, found -1"),
        ({"get_timeout": "1"}, ValueError, "get_timeout must be seconds, or -1 for no time-out, got '1'"),
        ({"submit_timeout": float("nan")}, ValueError, "submit_timeout must be seconds"),
        ({"name": 5}, TypeError, "`name` must be a string, found 5"),
        ({"pipeline": ["pair-comm"]}, TypeError, "`pipeline` must be a string"),
    ],
)
def test_options_of_the_wrong_type(options, error, message):
    with pytest.raises(error, match=message):
        cgc.CompileOptions(**options)


def test_context_settings_are_honoured():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    context = DAGContext.get_current()
    before = context.max_inflight_executions
    context.max_inflight_executions = 2
    try:
        with cgc.compile(dag) as graph:
            refs = [graph.execute(i) for i in range(2)]
            with pytest.raises(ray.exceptions.RayCgraphCapacityExceeded):
                graph.execute(2)
            assert ray.get(refs) == [0, 1]
    finally:
        context.max_inflight_executions = before


# Bad input: one clear message each, and nothing broken afterwards.


def test_no_input_node():
    a = Worker.remote()
    dag = a.echo.bind(1)
    with pytest.raises(cgc.GraphError, match="InputNode"):
        cgc.compile(dag)


def test_two_input_nodes():
    a = Worker.remote()
    with InputNode() as one, InputNode() as two:
        dag = a.add.bind(one, two)
    with pytest.raises(cgc.GraphError, match="InputNode"):
        cgc.compile(dag)


def test_leaf_that_is_not_an_output():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
        a.add.bind(dag)
    with pytest.raises(cgc.GraphError, match=r"test_api\.py:\d+.*add") as caught:
        cgc.compile(dag)
    assert "MultiOutputNode" in str(caught.value)


def test_actor_class_that_is_not_instantiated():
    with InputNode() as inp:
        dag = Worker.bind().echo.bind(inp)
    with pytest.raises(cgc.GraphError, match=r"remote\(\)"):
        cgc.compile(dag)


def test_cycle():
    a = Worker.remote()
    with InputNode() as inp:
        first = a.add.bind(inp, 1)
        second = a.add.bind(first)
    first._bound_args = (inp, second)
    with pytest.raises(cgc.GraphError, match="cycle"):
        cgc.compile(second)


def test_not_a_dag_node():
    with pytest.raises(TypeError, match=r"ray\.dag"):
        cgc.compile("echo")


def test_dead_actor_at_compile_leaves_the_others_usable(kill_actor):
    alive, dead = Worker.remote(), Worker.remote()
    ray.get([alive.echo.remote(0), dead.echo.remote(0)])
    kill_actor(dead)
    with InputNode() as inp:
        dag = dead.echo.bind(alive.echo.bind(inp))
    with pytest.raises(ray.exceptions.ActorDiedError):
        cgc.compile(dag)
    with InputNode() as inp:
        dag = alive.echo.bind(inp)
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute("again")) == "again"


def test_ref_can_be_read_once_only():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    with cgc.compile(dag) as graph:
        ref = graph.execute(1)
        assert ray.get(ref) == 1
        with pytest.raises(ValueError, match="once"):
            ray.get(ref)


def test_execute_after_teardown():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    graph = cgc.compile(dag)
    graph.teardown()
    graph.teardown()
    assert graph.is_teardown
    with pytest.raises(ray.exceptions.RayChannelError, match="torn down"):
        graph.execute(1)


def test_wrong_number_or_names_of_inputs():
    a = Worker.remote()
    with InputNode() as inp:
        whole = a.echo.bind(inp)
    with InputNode() as inp:
        parts = a.add.bind(inp[0], inp.right)
    with cgc.compile(whole) as graph:
        with pytest.raises(ValueError, match="1 positional args, got 2"):
            graph.execute(1, 2)
        assert ray.get(graph.execute(7)) == 7
    with cgc.compile(parts) as graph:
        with pytest.raises(ValueError, match="right"):
            graph.execute(1)
        with pytest.raises(ValueError, match="positional"):
            graph.execute(right=1)
        assert ray.get(graph.execute(1, right=2)) == 3


def test_sync_and_async_execution_do_not_mix():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    with cgc.compile(dag, enable_asyncio=True) as graph, pytest.raises(ValueError, match="execute_async"):
        graph.execute(1)
    with cgc.compile(dag) as graph:

        async def run():
            await graph.execute_async(1)

        with pytest.raises(ValueError, match="enable_asyncio"):
            asyncio.run(run())


def test_unserialisable_values_are_errors_of_that_execution_alone():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        dag = MultiOutputNode([a.lock.bind(inp), b.echo.bind(inp)])
    with cgc.compile(dag) as graph:
        with pytest.raises(TypeError, match="lock"):
            graph.execute(threading.Lock())
        bad, good = graph.execute(1)
        assert ray.get(good) == 1
        with pytest.raises(TypeError, match="lock") as caught:
            ray.get(bad)
        assert isinstance(caught.value, ray.exceptions.RayTaskError)


def test_other_outputs_and_later_executions_survive_an_application_error():
    a, b = Worker.remote(), Worker.remote()
    with InputNode() as inp:
        failed = a.fail.bind(inp)
        dag = MultiOutputNode([failed, b.echo.bind(failed), b.echo.bind(inp), a.echo.bind(inp)])
    with cgc.compile(dag) as graph:
        for _ in range(3):
            refs = graph.execute("x")
            for ref in refs[:2]:
                with pytest.raises(KeyError) as caught:
                    ray.get(ref)
                assert "fail" in str(caught.value)
            assert ray.get(refs[2:]) == ["x", "x"]


def test_shared_memory_limit_is_an_error_that_says_so():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.nbytes.bind(inp)
    with cgc.compile(dag, max_channel_bytes=8 << 20) as graph:
        with pytest.raises(MemoryError, match="shared memory"):
            graph.execute(np.zeros(64 << 20, dtype=np.uint8))
        assert ray.get(graph.execute(np.zeros(1 << 20, dtype=np.uint8))) == 1 << 20


def test_graph_is_torn_down_when_it_goes_out_of_scope():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    graph = cgc.compile(dag)
    assert ray.get(graph.execute(1)) == 1
    threads = ray.get(a.__ray_call__.remote(lambda self: sum("cgc" in t.name for t in threading.enumerate())))
    assert threads > 0
    del graph
    gc.collect()
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(2)) == 2
