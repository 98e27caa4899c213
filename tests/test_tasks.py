"""
Graphs of remote functions: where they run, how long, what is said when they fail, and that nothing is left of them.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
import ray
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode

import cgc

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")

DEADLINE = 20.0


@ray.remote
def double(value):
    return 2 * value


@ray.remote
def join(*parts, **named):
    return parts, named


@ray.remote
def pid(_):
    return os.getpid()


@ray.remote(max_retries=5)
def fail_if_odd(value):
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


@ray.remote(num_cpus=2, resources={"nowhere": 1})
def unplaceable(value):
    return value


@ray.remote
def stream(value):
    yield value


@ray.remote(num_returns=2)
def two(value):
    return value, value


@ray.remote(num_cpus=0)
class Worker:
    def add(self, value, other=0):
        return value + other


def gone(process_id):
    """Whether the process ends within the deadline."""
    end = time.monotonic() + DEADLINE
    while psutil.pid_exists(process_id) and time.monotonic() < end:
        time.sleep(0.02)  # the interval of polling a condition with a deadline
    return not psutil.pid_exists(process_id)


def test_functions_and_methods_in_one_graph():
    a = Worker.remote()
    with InputNode() as inp:
        x = double.bind(inp)
        dag = MultiOutputNode([join.bind([x, a.add.bind(x, 1)], k=inp), double.bind(x), double.bind(3)])
    with cgc.compile(dag) as graph:
        for i in range(3):
            assert ray.get(graph.execute(i)) == [(([2 * i, 2 * i + 1],), {"k": i}), 4 * i, 6]


def test_each_node_has_a_process_of_its_own_unless_shared():
    with InputNode() as inp:
        dag = MultiOutputNode([pid.bind(inp), pid.bind(inp), pid.options(num_cpus=0).bind(inp)])
    with cgc.compile(dag) as graph:
        assert len({*ray.get(graph.execute(0)), os.getpid()}) == 4
    with cgc.compile(dag, share_hosts=True) as graph:
        first, second, other = ray.get(graph.execute(0))
        assert first == second != other


def test_the_process_ends_with_the_graph():
    with InputNode() as inp:
        dag = pid.bind(inp)
    graph = cgc.compile(dag)
    process = ray.get(graph.execute(0))
    graph.teardown()
    assert gone(process)
    graph = cgc.compile(dag)
    process = ray.get(graph.execute(0))
    del graph
    gc.collect()
    assert gone(process)


def test_the_process_ends_with_the_driver():
    script = """
        import os, ray, cgc
        from ray.dag import InputNode

        @ray.remote
        def pid(_):
            return os.getpid()

        ray.init(ADDRESS, log_to_driver=False)
        with InputNode() as inp:
            dag = pid.bind(inp)
        graph = cgc.compile(dag)
        print(ray.get(graph.execute(0)), flush=True)
        os._exit(0)
    """
    address = ray.get_runtime_context().gcs_address
    code = textwrap.dedent(script).replace("ADDRESS", repr(address))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert gone(int(done.stdout.split()[-1]))


def test_options_of_the_function_are_those_of_its_actor():
    @ray.remote(num_cpus=2, runtime_env={"env_vars": {"CGC_TEST": "yes"}})
    def look(_):
        return os.environ.get("CGC_TEST"), ray.get_runtime_context().get_assigned_resources()

    with InputNode() as inp:
        dag = look.bind(inp)
    with cgc.compile(dag) as graph:
        environment, resources = ray.get(graph.execute(0))
        assert environment == "yes"
        assert resources["CPU"] == 2


def test_an_error_names_the_function():
    with InputNode() as inp:
        dag = MultiOutputNode([double.bind(fail_if_odd.bind(inp)), double.bind(inp)])
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(2)) == [4, 4]
        spoilt, good = graph.execute(1)
        with pytest.raises(ValueError, match="1 is odd") as caught:
            ray.get(spoilt)
        assert "ray::fail_if_odd()" in str(caught.value)
        assert "cgc/runtime" not in str(caught.value)
        assert ray.get(good) == 2


def test_the_death_of_a_function_names_it():
    with InputNode() as inp:
        dag = pid.bind(inp)
    with cgc.compile(dag) as graph:
        os.kill(ray.get(graph.execute(0)), signal.SIGKILL)
        with pytest.raises(ray.exceptions.ActorDiedError, match="pid"):
            ray.get(graph.execute(1), timeout=DEADLINE)
        with pytest.raises(ray.exceptions.ActorDiedError, match="pid"):
            graph.execute(2)
        again = graph.recompile()
        process = ray.get(again.execute(0))
        again.teardown()
        assert gone(process)


def test_a_graph_of_functions_restarts():
    with InputNode() as inp:
        dag = pid.bind(inp)
    with cgc.compile(dag, on_actor_death="restart", idempotent=True) as graph:
        first = ray.get(graph.execute(0))
        os.kill(first, signal.SIGKILL)
        assert gone(first)
        second = ray.get(graph.execute(1), timeout=60)
        assert second != first
    assert gone(second)


def test_nothing_is_left_of_a_graph_that_cannot_start():
    @ray.remote
    def left_over(value):
        return value

    class Broken:
        def call(self, value):
            yield value

    a = ray.remote(Broken).remote()
    with InputNode() as inp:
        dag = a.call.options(num_returns=1).bind(left_over.bind(inp))
    with pytest.raises(RuntimeError, match="is a generator"):
        cgc.compile(dag)
    end = time.monotonic() + DEADLINE
    while _processes("ray::left_over") and time.monotonic() < end:
        time.sleep(0.02)  # the interval of polling a condition with a deadline
    assert _processes("ray::left_over") == []


def _processes(name):
    return [p.pid for p in psutil.process_iter(["cmdline"]) if any(name in word for word in p.info["cmdline"] or ())]


def test_teardown_leaves_the_users_actors_alive():
    a = Worker.remote()
    with InputNode() as inp:
        dag = a.add.bind(double.bind(inp))
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(2)) == 4
    assert ray.get(a.add.remote(1)) == 1


def test_asyncio_is_for_functions_too():
    import asyncio

    with InputNode() as inp:
        dag = double.bind(inp)

    async def run(graph):
        return [await future for future in [await graph.execute_async(i) for i in range(4)]]

    with cgc.compile(dag, enable_asyncio=True) as graph:
        assert asyncio.run(run(graph)) == [0, 2, 4, 6]


def test_installed_for_programs_of_ray():
    with InputNode() as inp:
        dag = double.bind(inp)
    cgc.install()
    try:
        graph = dag.experimental_compile()
        assert ray.get(graph.execute(4)) == 8
        assert "Function: double" in graph.visualize(format="dot")
        graph.teardown()
    finally:
        cgc.uninstall()


def test_a_function_that_cannot_be_placed(monkeypatch):
    monkeypatch.setattr("cgc.runtime.cluster.probe.__defaults__", (0.5,))
    with InputNode() as inp:
        dag = unplaceable.bind(inp)
    with pytest.raises(ray.exceptions.GetTimeoutError, match=r"@unplaceable_0 \(unplaceable, actor .*resources"):
        cgc.compile(dag)


@pytest.mark.parametrize(("function", "message"), [(stream, "stream is a generator"), (two, "two has num_returns=2")])
def test_functions_without_one_result_are_refused(function, message):
    with InputNode() as inp:
        dag = function.bind(inp)
    with pytest.raises(cgc.GraphError, match=rf"test_tasks\.py:\d+: remote function {message}"):
        cgc.compile(dag)


def test_no_cluster_is_needed_to_lower():
    with InputNode() as inp:
        dag = double.bind(double.bind(inp))
    result = cgc.lower(dag)
    assert 'cgc.actor @double_0 task class "double" on "n0"' in result.text()
    assert "r1 = call double(r0)" in str(result.products["programs"]["double_1"])
