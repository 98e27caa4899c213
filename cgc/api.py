"""
The public API: compile a `ray.dag` graph, look into it, run it.

    with cgc.compile(dag, max_inflight_executions=4) as graph:
        ref = graph.execute("hello")
        print(ray.get(ref))
        print(graph.dump(after="pair-comm"))

Compilation touches no actor but to ask where it lives; memory is allocated and loops are started after the last pass
has verified the whole schedule.
"""

from __future__ import annotations

import dataclasses
import os
import webbrowser
from collections import Counter
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import ray
from ray.actor import ActorHandle
from ray.dag import DAGNode
from typing_extensions import Self

from cgc.compilation import Compilation, compile_and_start, import_dag, run_passes
from cgc.ir import Topology, graphs_of
from cgc.options import CompileOptions
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.plan import Plan, plan_of
from cgc.passes.manager import PipelineResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cgc.runtime.mapping import AsyncGraphMap, GraphMap
    from cgc.runtime.refs import GraphRef
    from cgc.runtime.status import ParticipantStatus


def compile(dag: DAGNode, options: CompileOptions | None = None, /, **settings: Any) -> CompiledGraph:
    """
    Compile a graph and start it on its actors.

    Args:
        dag: The node, or the `MultiOutputNode`, that the graph ends in.
        options: See `CompileOptions`; `settings` are single options by name.

    Raises:
        GraphError: The graph breaks a rule; the message names each node and its `.bind`.
        ActorDiedError: An actor of the graph is dead.
        CgcError: The compiler cannot compile it (see `cgc.errors`).
    """
    resolved = CompileOptions.of(options, settings).with_context().with_files()
    return CompiledGraph(dag, resolved, compile_and_start(dag, resolved, {}))


def lower(dag: DAGNode, options: CompileOptions | None = None, /, **settings: Any) -> PipelineResult:
    """
    Run all passes without a cluster: the actors may be abstract ones (`cgc.abstract_actor`).

    Args and errors are those of `compile`; no actor is asked or touched.
    """
    resolved = CompileOptions.of(options, settings).with_context().with_files()
    return run_passes(import_dag(dag, resolved), resolved)


def plan(
    dag: DAGNode,
    /,
    topology: Topology | str | os.PathLike[str] | None = None,
    profile: CostModel | str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Plan:
    """
    Predict what executions of a graph cost, without a cluster: time, work, traffic and memory.

    Args:
        dag: What `lower` takes.
        topology: Where actors are and what connects them, or the file of it.
        profile: Expected times, or the file of them; without one, only ratios mean anything.
        settings: Single options, see `CompileOptions`.

    Raises:
        CgcError: The graph cannot be compiled, or a file is wrong.
    """
    result = lower(dag, topology=topology, profile=profile, **settings)
    return plan_of(next(graphs_of(result.unit.module)), result.cost)


class CompiledGraph:
    """
    A graph that runs on its actors until `teardown`, the end of its `with` block, or its garbage collection.

    Attributes:
        options: How it was compiled, every default filled in.
        programs: What each participant runs, by symbol; `print` one to read it.
    """

    def __init__(
        self,
        dag: DAGNode,
        options: CompileOptions,
        made: Compilation,
        replaced: Mapping[ActorHandle, ActorHandle] | None = None,
    ) -> None:
        self.options = options
        self.programs = made.programs
        self._dag = dag
        self._driver = driver = made.driver
        self._result = made.result
        self._replaced = dict(replaced or {})
        # The driver's own methods: a wrapper would add a frame to each execution.
        self.execute = driver.execute  # type: ignore[method-assign]
        self.execute_async = driver.execute_async  # type: ignore[method-assign]

    def execute(self, *args: Any, **kwargs: Any) -> GraphRef | list[GraphRef]:
        """
        Submit one execution; returns a ref, or a list of refs for a `MultiOutputNode`.

        Takes the graph's inputs, positional and by keyword. Raises ValueError for wrong inputs,
        `RayCgraphCapacityExceeded`, `RayChannelTimeoutError`, and the reason once the graph has ended
        (`ActorDiedError`, `RayChannelError`).
        """
        return self._driver.execute(*args, **kwargs)

    def alloc(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike = "float64", input: int | str | None = None
    ) -> np.ndarray[Any, Any]:
        """
        An array without values, like `numpy.empty`, for an input: sending it copies nothing, it lies there already.

        `input` says which one where the graph has several: position or name. Fill it, pass it to `execute` (itself, a
        tensor by `torch.from_numpy`, or in another value), and do not write into it afterwards: the actors would see
        that. Small arrays (below 4 KiB), and more than 8 that are kept, are ordinary ones.

        Raises ValueError for an input that does not exist, and the reason once the graph has ended.
        """
        return self._driver.alloc(shape, dtype, input)

    async def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """
        The same for a graph compiled with `enable_asyncio`; never blocks the event loop.

        Await it for a future, or a list of them, and that for the result.
        """
        return await self._driver.execute_async(*args, **kwargs)

    def map(
        self,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        max_inflight: int | None = None,
        timeout: float | None = None,
        progress: bool = False,
    ) -> GraphMap | AsyncGraphMap:
        """
        Run the graph for each item, pipelined; an iterator over the results, in order (lists for a `MultiOutputNode`).

        For `async for` if the graph was compiled with `enable_asyncio`; the iterables may be asynchronous then. What
        happens when an execution or an iterable raises, and at an early `break`, `cgc.runtime.mapping` says.

        Args:
            iterables: One for each positional input; the shortest one ends it. Taken from as there is room.
            max_inflight: Executions in flight at most; None for `max_inflight_executions`.
            timeout: Seconds to wait for a result, as for `ray.get`; None for `get_timeout` (asyncio: for ever).
            progress: Whether to show a progress bar on the standard error stream.

        Raises:
            TypeError: There is no iterable.
            ValueError: `max_inflight` is not positive.
        """
        from cgc.runtime.mapping import AsyncGraphMap, GraphMap, ProgressBar

        if not iterables:
            raise TypeError("map() needs an iterable for each positional input of the graph")
        limit = cast(int, self.options.max_inflight_executions) if max_inflight is None else max_inflight
        if limit <= 0:
            raise ValueError(f"max_inflight must be a positive integer, got {limit!r}")
        bar = ProgressBar(self.options.name, iterables) if progress else None
        if self.options.enable_asyncio:
            return AsyncGraphMap(self.execute_async, iterables, limit, timeout, bar)
        return GraphMap(self.execute, cast("tuple[Iterable[Any], ...]", iterables), limit, timeout, bar)

    @property
    def is_teardown(self) -> bool:
        """Whether the graph has ended."""
        return self._driver.is_teardown

    @property
    def worker_task_refs(self) -> Mapping[ActorHandle, ray.ObjectRef[Any]]:
        """By actor the call that started its loop. In Ray, where the loop is that call, it is pending until the end."""
        return self._driver.start_refs

    def get_id(self) -> str:
        """The graph's id."""
        return self._driver.get_id()

    def dump(self, after: str | None = None) -> str:
        """
        The IR as text: the final one, or as it was after the pass of that name (`"import"` for before the first).

        Raises:
            PassError: No such pass ran; the message lists those that did.
        """
        return self._result.text(after)

    def status(self, stacks: bool = False) -> list[ParticipantStatus]:
        """
        What each actor is doing now: its operation, since when; print one to read it.

        With `stacks` those that do not just wait for a message are asked for their Python stacks, for half a second.
        """
        return self._driver.status(stacks)

    def profile(self, path: str | os.PathLike[str] | None = None) -> CostModel:
        """
        How long calls and messages have taken in the last 1,000 executions, of a graph compiled with `measure=True`.

        Args:
            path: File to write it to as well, TOML or (`.json`) JSON; `compile`, `plan` and `cgc-dump` read it.

        Raises:
            RuntimeError: The graph does not measure, has not been executed yet, or has ended.
        """
        from cgc.backend.profiling import profile_of

        if not self.options.measure:
            raise RuntimeError("nothing is measured: compile the graph with measure=True")
        if self.is_teardown:
            raise RuntimeError(f"graph {self.get_id()} was torn down: take the profile before")
        samples = self._driver.measurements()
        if not any(found for of_actor in samples.values() for found in of_actor):
            raise RuntimeError("nothing has been measured yet: execute the graph before")
        graph = next(graphs_of(self._result.unit.module))
        found = profile_of(graph, self.programs, samples, dataclasses.replace(self._result.cost, topology=None))
        if path is not None:
            found.save(path)
        return found

    def visualize(
        self,
        filename: str = "compiled_graph",
        format: str = "png",
        view: bool = False,
        channel_details: bool = False,
    ) -> str:
        """
        Draw the graph as it was bound, as Ray's compiled graphs do; see `schedule` for what each actor does and when.

        Args:
            filename: The picture is written to `filename.format` by Graphviz's `dot` program. Not for text formats.
            format: A format that `dot` knows, or `"ascii"` or `"dot"` for text alone.
            view: Open the picture with the system's viewer, or print the text.
            channel_details: Label the edges with what travels on them. Not for `"ascii"`.

        Returns:
            The text, or the picture in Graphviz's language.

        Raises:
            FileNotFoundError: A picture is wanted and `dot` is not installed.
            ValueError: `dot` does not know the format, or `channel_details` with `"ascii"`.
        """
        from cgc.backend.drawing import draw
        from cgc.backend.user_graph import UserGraph

        if format == "ascii" and channel_details:
            raise ValueError("Parameters 'channel_details' are not compatible with 'ascii' format.")
        graph = UserGraph.of(self._dag)
        text = graph.to_text() if format == "ascii" else graph.to_dot(channel_details)
        if format not in ("ascii", "dot"):
            target = Path(f"{filename}.{format}")
            target.write_bytes(draw(text, format))
            if view:
                webbrowser.open(target.resolve().as_uri())
        elif view:
            print(text)
        return text

    def schedule(self) -> str:
        """What each actor does in which order, in Graphviz's language: one cluster per actor, messages as edges."""
        from cgc.backend.graphviz import to_dot

        return to_dot(self._result.unit.module, self._result.cost)

    def recompile(self, replace: Mapping[ActorHandle, ActorHandle] | None = None) -> CompiledGraph:
        """
        The same graph, compiled again and started; `replace` puts other actors in the place of (dead) ones.

        This graph is torn down once the new one runs: results that have arrived stay readable, other refs raise
        `ActorDiedError` if an actor's death has ended it. After an error nothing has changed.

        Raises:
            ValueError: A key of `replace` is no actor of the graph, or a value takes part already.
            ActorDiedError: An actor of the new graph is dead.
        """
        replaced = self._replaced_by(replace or {})
        graph = CompiledGraph(self._dag, self.options, compile_and_start(self._dag, self.options, replaced), replaced)
        self._driver.death()  # what pending refs raise, which teardown would hide
        self.teardown()
        return graph

    def _replaced_by(self, replace: Mapping[ActorHandle, ActorHandle]) -> dict[ActorHandle, ActorHandle]:
        """By actor of the DAG the one that takes its place, after one more replacement."""
        bound = import_dag(self._dag, self.options).handles.values()
        present = {handle: self._replaced.get(handle, handle) for handle in bound}
        for old, new in replace.items():
            if old not in present.values():
                known = ", ".join(map(str, present.values()))
                raise ValueError(f"replace: {old} is no actor of the graph; those are {known}")
            if not isinstance(new, ActorHandle):
                raise TypeError(f"replace: the handle of an actor is needed in the place of {old}, got {new!r}")
        chosen = {handle: replace.get(now, now) for handle, now in present.items()}
        twice = next((now for now, count in Counter(chosen.values()).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"replace: {twice} would take two places in the graph")
        return chosen

    def teardown(self, kill_actors: bool = False) -> None:
        """
        End the graph: its actors serve other calls and graphs afterwards (or are killed, if told so). Idempotent.

        Waits at most `DAGContext.teardown_timeout` seconds for methods that still run.
        """
        self._driver.teardown(kill_actors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.teardown()

    def __repr__(self) -> str:
        return f"CompiledGraph({self.get_id()}{', torn down' if self.is_teardown else ''})"
