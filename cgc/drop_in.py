"""
Lets programs that were written for Ray's Compiled Graph compile with cgc, unmodified.

    import cgc
    cgc.install()                       # or CGC_INSTALL=1, or: python -m cgc script.py ...
    dag.experimental_compile(...)       # a cgc.CompiledGraph from here on
    cgc.uninstall()

Only `ray.dag.DAGNode.experimental_compile` is replaced, and only in this process. The parameters keep Ray's names,
defaults and meaning; where behaviour differs, `docs/ray-differences.md` says how.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ray.dag import DAGNode

if TYPE_CHECKING:
    from ray.experimental.channel.communicator import Communicator

    from cgc.api import CompiledGraph

ENVIRONMENT_VARIABLE = "CGC_INSTALL"
"""`import cgc` installs where this is "1". Workers inherit it, so that a driver in an actor or a task does the same."""


def install() -> None:
    """Make `DAGNode.experimental_compile` of this process compile with cgc. Idempotent; nodes may exist already."""
    if DAGNode.experimental_compile is _experimental_compile:
        return
    functools.update_wrapper(_experimental_compile, DAGNode.experimental_compile)
    DAGNode.experimental_compile = _experimental_compile


def uninstall() -> None:
    """Give `DAGNode.experimental_compile` back to Ray; graphs that cgc compiled keep working. Idempotent."""
    if DAGNode.experimental_compile is _experimental_compile:
        DAGNode.experimental_compile = _experimental_compile.__wrapped__


def _experimental_compile(
    self: DAGNode,
    _submit_timeout: float | None = None,
    _buffer_size_bytes: int | None = None,
    enable_asyncio: bool = False,
    _max_inflight_executions: int | None = None,
    _max_buffered_results: int | None = None,
    _overlap_gpu_communication: bool | None = None,
    _default_communicator: Communicator | str | None = "create",
) -> CompiledGraph:
    from cgc.api import compile as compile_graph

    # Ray's rule, in Ray's words: programs and their tests rely on it. `cgc.compile` has no such rule.
    if self.is_cgraph_output_node:
        raise ValueError(
            "It is not allowed to call `experimental_compile` on the same DAG object multiple times no matter whether "
            "`teardown` is called or not. Please reuse the existing compiled DAG or create a new one."
        )
    graph = compile_graph(
        self,
        submit_timeout=_submit_timeout,
        buffer_size_bytes=_buffer_size_bytes,
        enable_asyncio=enable_asyncio,
        max_inflight_executions=_max_inflight_executions,
        max_buffered_results=_max_buffered_results,
        overlap_gpu_communication=_overlap_gpu_communication,
        default_communicator=_default_communicator,
    )
    self.is_cgraph_output_node = True
    return graph
