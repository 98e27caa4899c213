"""
`cgc.install` and `cgc.uninstall` replace one method and restore it; what they return offers what Ray's object offers.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys

import pytest
import ray
import ray.dag
from ray.dag import InputNode
from ray.dag.compiled_dag_node import CompiledDAG
from ray.experimental.compiled_dag_ref import CompiledDAGFuture, CompiledDAGRef

import cgc
from cgc.runtime.futures import GraphFuture
from cgc.runtime.refs import GraphRef

PUBLIC_METHODS = ("execute", "execute_async", "get_id", "teardown", "visualize")
"""Of `CompiledDAG`, those that Ray's guide or docstrings present to users; the others serve Ray's own modules."""

PUBLIC_ATTRIBUTES = ("is_teardown", "worker_task_refs")

RAYS_OWN = {"DAGDriverProxyActor", "get_channel_details"}
"""Public by name only: an actor class that Ray's implementation needs, and a step of `visualize`."""

PARAMETERS = (
    "_submit_timeout",
    "_buffer_size_bytes",
    "enable_asyncio",
    "_max_inflight_executions",
    "_max_buffered_results",
    "_overlap_gpu_communication",
    "_default_communicator",
)


@ray.remote
class Echo:
    def echo(self, value):
        return value


@pytest.fixture
def installed():
    cgc.install()
    yield
    cgc.uninstall()


@pytest.fixture
def rays_own():
    """Ray's method as it is without cgc, whatever the environment says."""
    cgc.uninstall()
    return ray.dag.DAGNode.__dict__["experimental_compile"]


def test_install_and_uninstall_are_idempotent_and_restore_exactly(rays_own):
    before = dict(rays_own.__dict__)
    cgc.install()
    replaced = ray.dag.DAGNode.__dict__["experimental_compile"]
    cgc.install()
    assert ray.dag.DAGNode.__dict__["experimental_compile"] is replaced is not rays_own
    cgc.uninstall()
    cgc.uninstall()
    assert ray.dag.DAGNode.__dict__["experimental_compile"] is rays_own
    assert rays_own.__dict__ == before


def test_uninstall_leaves_someone_elses_replacement_alone(rays_own, monkeypatch):
    def other(self):
        raise NotImplementedError

    monkeypatch.setattr(ray.dag.DAGNode, "experimental_compile", other)
    cgc.uninstall()
    assert ray.dag.DAGNode.__dict__["experimental_compile"] is other


def test_parameters_keep_rays_names_order_and_defaults(rays_own, installed):
    ours = inspect.signature(ray.dag.DAGNode.experimental_compile, follow_wrapped=False).parameters
    rays = inspect.signature(rays_own).parameters
    assert tuple(rays) == tuple(ours) == ("self", *PARAMETERS)
    assert [p.default for p in ours.values()] == [p.default for p in rays.values()]
    assert ray.dag.DAGNode.experimental_compile.__doc__ == rays_own.__doc__


@pytest.mark.parametrize("nodes_first", [True, False])
def test_install_works_before_and_after_nodes_were_made(nodes_first, ray_session, rays_own):
    if not nodes_first:
        cgc.install()
    actor = Echo.remote()
    with InputNode() as inp:
        dag = actor.echo.bind(inp)
    cgc.install()
    try:
        graph = dag.experimental_compile()
    finally:
        cgc.uninstall()
    assert isinstance(graph, cgc.CompiledGraph)
    assert ray.get(graph.execute("hello")) == "hello"
    graph.teardown()


def test_options_reach_the_compiler(ray_session, installed):
    actor = Echo.remote()
    with InputNode() as inp:
        dag = actor.echo.bind(inp)
    graph = dag.experimental_compile(
        _submit_timeout=3,
        _buffer_size_bytes=4096,
        _max_inflight_executions=2,
        _max_buffered_results=5,
        _overlap_gpu_communication=True,
        _default_communicator=None,
    )
    options = graph.options
    assert (options.submit_timeout, options.buffer_size_bytes, options.enable_asyncio) == (3, 4096, False)
    assert (options.max_inflight_executions, options.max_buffered_results) == (2, 5)
    assert (options.overlap_gpu_communication, options.default_communicator) == (True, None)
    graph.teardown()


@pytest.mark.parametrize("name", PUBLIC_METHODS)
def test_graph_has_the_public_method_with_a_compatible_signature(name):
    rays, ours = getattr(CompiledDAG, name), getattr(cgc.CompiledGraph, name)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(rays)
    _assert_accepts(inspect.signature(ours), inspect.signature(rays))


@pytest.mark.parametrize(
    ("rays", "ours"),
    [(CompiledDAG, cgc.CompiledGraph), (CompiledDAGRef, GraphRef), (CompiledDAGFuture, GraphFuture)],
)
def test_nothing_public_is_missing(rays, ours):
    public = {name for name in dir(rays) if not name.startswith("_")} - RAYS_OWN
    assert public <= set(dir(ours))


@pytest.mark.parametrize("name", PUBLIC_ATTRIBUTES)
def test_graph_has_the_public_attribute(name, ray_session, installed):
    actor = Echo.remote()
    with InputNode() as inp:
        dag = actor.echo.bind(inp)
    graph = dag.experimental_compile()
    assert getattr(graph, name) is not None
    graph.teardown()


@pytest.mark.parametrize("base", [CompiledDAGRef, CompiledDAGFuture])
def test_refs_are_rays_own_kind(base, ray_session, installed):
    actor = Echo.remote()
    with InputNode() as inp:
        dag = actor.echo.bind(inp)
    graph = dag.experimental_compile(enable_asyncio=base is CompiledDAGFuture)

    async def execute():
        return await graph.execute_async(1)

    assert isinstance(asyncio.run(execute()) if base is CompiledDAGFuture else graph.execute(1), base)
    graph.teardown()


@pytest.mark.parametrize("value", ["0", "1"])
def test_environment_variable_installs_at_import(value):
    code = "import cgc, ray.dag; print(hasattr(ray.dag.DAGNode.experimental_compile, '__wrapped__'))"
    program = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CGC_INSTALL": value},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert program.stdout.strip() == str(value == "1")


def _assert_accepts(ours: inspect.Signature, rays: inspect.Signature) -> None:
    """Every call that Ray's signature allows, ours allows too, with the same meaning of positions and defaults."""
    for position, (name, parameter) in enumerate(rays.parameters.items()):
        assert name in ours.parameters
        mine = ours.parameters[name]
        assert mine.kind == parameter.kind
        assert mine.default == parameter.default
        assert list(ours.parameters).index(name) == position
    extra = [p for name, p in ours.parameters.items() if name not in rays.parameters]
    assert all(p.default is not inspect.Parameter.empty for p in extra)
