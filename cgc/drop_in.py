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
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ray.dag import DAGNode

from cgc.errors import GraphError, Violation
from cgc.runtime.ray_internals import check_unused_inputs

if TYPE_CHECKING:
    from ray.experimental.channel.communicator import Communicator

    from cgc.api import CompiledGraph

ENVIRONMENT_VARIABLE = "CGC_INSTALL"
"""`import cgc` installs where this is "1". Workers inherit it, so that a driver in an actor or a task does the same."""

RAYS_WORDS = {
    "whole-and-part": (
        "All tasks must either use InputNode() directly, or they must index to specific args or kwargs."
    ),
    "second-input": "More than one InputNode found",
    "class": "Compiled DAGs can only bind methods to an actor that is already created with Actor.remote()",
}
"""Ray's messages for rules of `verify-graph`; others need their subjects, see `_in_rays_words`."""

ASSERTED = frozenset({"second-input"})
"""Rules that Ray asserts."""


class RayAssertionError(GraphError, AssertionError):
    """The user's graph is wrong in a way that Ray asserts against."""


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
    _refuse_second_output(self)
    try:
        graph = compile_graph(
            self,
            submit_timeout=_submit_timeout,
            buffer_size_bytes=_buffer_size_bytes,
            enable_asyncio=enable_asyncio,
            ignore_surplus_inputs=True,
            max_inflight_executions=_max_inflight_executions,
            max_buffered_results=_max_buffered_results,
            overlap_gpu_communication=_overlap_gpu_communication,
            default_communicator=_default_communicator,
        )
    except GraphError as error:
        words = _in_rays_words(self, error.violations)
        if not words:
            raise
        kind = RayAssertionError if any(rule in ASSERTED for rule, _, _ in error.violations) else GraphError
        raise kind("\n".join([str(error), *words]), error.violations) from None
    self.is_cgraph_output_node = True
    return graph


def _refuse_second_output(dag: DAGNode) -> None:
    """Ray's rule for a graph that was compiled at another node, in Ray's words; `cgc.compile` has no such rule."""
    from cgc.ir.ray_nodes import connected

    for node in connected(dag):
        if node.is_cgraph_output_node:
            raise ValueError(
                "The DAG was compiled more than once. The following two nodes call `experimental_compile`: "
                f"(1) {node}, (2) {dag}"
            )


def _in_rays_words(dag: DAGNode, violations: Sequence[Violation]) -> list[str]:
    """What Ray would have said of the same mistakes, for those who look for its messages."""
    subjects: dict[str, list[str]] = {}
    for violation in violations:
        subjects.setdefault(violation.rule, []).append(violation.subject)
    words = [RAYS_WORDS[rule] for rule in subjects if rule in RAYS_WORDS]
    if leaves := subjects.get("leaf"):
        words.append(
            "Compiled DAG doesn't support leaf nodes, i.e., nodes that don't have downstream nodes and are not output "
            f"nodes. There are {len(leaves)} leaf nodes in the DAG. Please add the outputs of {leaves} to the the "
            "MultiOutputNode."
        )
    if violations:
        no_root = _complaint(dag._find_root)
        words += no_root or _complaint(lambda: check_unused_inputs(dag, set(dag._find_root().input_attribute_nodes)))
    return words


def _complaint(check: Callable[[], Any]) -> list[str]:
    """What a check of Ray's own finds wrong."""
    try:
        check()
    except ValueError as error:
        return [str(error)]
    return []
