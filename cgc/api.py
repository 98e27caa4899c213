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
import shutil
import subprocess
import sys
import uuid
import warnings
import webbrowser
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import ray
from ray.actor import ActorHandle
from ray.dag import DAGContext, DAGNode, MultiOutputNode
from typing_extensions import Self

from cgc.ir import Topology, Unit, graphs_of, place_actors
from cgc.ir.importer import import_graph
from cgc.ir.ray_nodes import function_name
from cgc.ir.topology import LOCAL_NODE
from cgc.ir.topology import ActorInfo as PlacedActor
from cgc.options import CompileOptions
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.expected import UNKNOWN_TIME
from cgc.passes.analysis.plan import Plan, plan_of
from cgc.passes.manager import PassManager, PipelineResult
from cgc.passes.registry import PASSES, passes_of
from cgc.runtime.program import Program

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cgc.runtime.async_restarting import AsyncRestartingDriver
    from cgc.runtime.asyncio_driver import AsyncDriver
    from cgc.runtime.cluster import ActorInfo as ProbedActor
    from cgc.runtime.driver import Driver
    from cgc.runtime.mapping import AsyncGraphMap, GraphMap
    from cgc.runtime.refs import GraphRef
    from cgc.runtime.restarting import RestartingDriver
    from cgc.runtime.status import ParticipantStatus

    AnyDriver = Driver | AsyncDriver | RestartingDriver | AsyncRestartingDriver

DEFAULT_PIPELINE = ",".join(PASSES)


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
    return _compiled(dag, resolved, {})


def lower(dag: DAGNode, options: CompileOptions | None = None, /, **settings: Any) -> PipelineResult:
    """
    Run all passes without a cluster: the actors may be abstract ones (`cgc.abstract_actor`).

    Args and errors are those of `compile`; no actor is asked or touched.
    """
    resolved = CompileOptions.of(options, settings).with_context().with_files()
    return _run(_imported(dag, resolved), resolved.pipeline, resolved)


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
        driver: AnyDriver,
        result: PipelineResult,
        programs: Mapping[str, Program],
        options: CompileOptions,
        replaced: Mapping[ActorHandle, ActorHandle] | None = None,
    ) -> None:
        self.options = options
        self.programs = programs
        self._dag = dag
        self._driver = driver
        self._result = result
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
            ValueError: `channel_details` with `"ascii"`.
        """
        from cgc.backend.user_graph import UserGraph

        if format == "ascii" and channel_details:
            raise ValueError("Parameters 'channel_details' are not compatible with 'ascii' format.")
        graph = UserGraph.of(self._dag)
        text = graph.to_text() if format == "ascii" else graph.to_dot(channel_details)
        if format not in ("ascii", "dot"):
            render(text, Path(f"{filename}.{format}"), view)
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
        graph = _compiled(self._dag, self.options, self._replaced_by(replace or {}))
        self._driver.death()  # what pending refs raise, which teardown would hide
        self.teardown()
        return graph

    def _replaced_by(self, replace: Mapping[ActorHandle, ActorHandle]) -> dict[ActorHandle, ActorHandle]:
        """By actor of the DAG the one that takes its place, after one more replacement."""
        bound = _imported(self._dag, self.options).handles.values()
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


def render(dot: str, target: Path, view: bool = False) -> None:
    """
    Let Graphviz draw `dot` to `target`, whose suffix says the format, and perhaps show it.

    Raises:
        FileNotFoundError: The `dot` program is not installed.
    """
    program = shutil.which("dot")
    if program is None:
        raise FileNotFoundError(f"cannot write {target}: Graphviz's `dot` program is not installed")
    subprocess.run([program, f"-T{target.suffix[1:]}", "-o", str(target)], input=dot.encode(), check=True)
    if view:
        webbrowser.open(target.resolve().as_uri())


@dataclass(frozen=True, slots=True)
class _Compilation:
    driver: Driver | AsyncDriver
    result: PipelineResult
    programs: Mapping[str, Program]


def _compiled(dag: DAGNode, options: CompileOptions, replaced: Mapping[ActorHandle, ActorHandle]) -> CompiledGraph:
    """The graph with some of its actors replaced by others."""
    made = _compile_and_start(dag, options, replaced)
    driver: AnyDriver = made.driver
    if options.on_actor_death == "restart":
        driver = _restarting(made.driver, lambda: _compile_and_start(dag, options, replaced).driver, options)
    return CompiledGraph(dag, driver, made.result, made.programs, options, replaced)


def _restarting(
    first: Driver | AsyncDriver, rebuild: Callable[[], Driver | AsyncDriver], options: CompileOptions
) -> RestartingDriver | AsyncRestartingDriver:
    if options.enable_asyncio:
        from cgc.runtime.async_restarting import AsyncRestartingDriver

        return AsyncRestartingDriver(
            cast("AsyncDriver", first), cast("Callable[[], AsyncDriver]", rebuild), idempotent=options.idempotent
        )
    from cgc.runtime.restarting import RestartingDriver

    return RestartingDriver(cast("Driver", first), cast("Callable[[], Driver]", rebuild), idempotent=options.idempotent)


def _compile_and_start(
    dag: DAGNode, options: CompileOptions, replaced: Mapping[ActorHandle, ActorHandle]
) -> _Compilation:
    # Checked before any actor is asked anything: a faulty graph is an error even where no actor answers.
    checked = _run(_imported(dag, options), "verify-graph", options).unit

    from cgc.runtime.hosts import create_host, kill_hosts

    hosts = {node: create_host(function_name(node), node._body, node._bound_options) for node in checked.tasks.values()}
    try:
        return _start(dag, options, {**replaced, **hosts}, checked)
    except BaseException:
        kill_hosts(hosts.values())
        raise


def _start(dag: DAGNode, options: CompileOptions, handles: Mapping[Any, ActorHandle], checked: Unit) -> _Compilation:
    """Compile and start a graph; `handles` has the host of each remote function, and actors in the place of others."""
    from cgc.runtime.cluster import probe
    from cgc.runtime.driver import DriverOptions, start_driver

    bound = {**checked.handles, **checked.tasks}
    found = probe({symbol: handles.get(actor, actor) for symbol, actor in bound.items()})
    infos = {bound[symbol]: info for symbol, info in found.items()}
    unit = _imported(dag, options, {actor: _placed(info, options) for actor, info in infos.items()})
    result = _run(unit, options.pipeline, options, actors_live=True)
    programs = _with_id(result, f"{options.name}-{uuid.uuid4().hex[:12]}")
    actors = {**unit.handles, **unit.tasks}
    driver = start_driver(
        programs,
        {symbol: handles.get(actor, actor) for symbol, actor in actors.items()},
        DriverOptions(
            returns_list=isinstance(dag, MultiOutputNode),
            enable_asyncio=options.enable_asyncio,
            submit_timeout=options.submit_timeout,
            get_timeout=options.get_timeout,
            max_inflight_executions=options.max_inflight_executions,
            max_buffered_results=options.max_buffered_results,
            ignore_surplus_inputs=options.ignore_surplus_inputs,
            max_channel_bytes=options.max_channel_bytes,
            measure=options.measure,
        ),
        {symbol: infos[actor] for symbol, actor in actors.items()},
        hosts=unit.tasks.keys(),
    )
    return _Compilation(driver, result, programs)


def _imported(dag: DAGNode, options: CompileOptions, actors: Mapping[Any, PlacedActor] | None = None) -> Unit:
    if not isinstance(dag, DAGNode):
        raise TypeError(f"a ray.dag node is needed (what `.bind` or MultiOutputNode gives), got {type(dag).__name__}")
    return import_graph(
        dag,
        name=options.name,
        max_inflight=options.max_inflight_executions,
        actors=actors,
        default_communicator=options.default_communicator,
        driver_node=_home(options),
        allow_leaf_nodes=options.allow_leaf_nodes,
        share_hosts=options.share_hosts,
    )


def _placed(info: ProbedActor, options: CompileOptions) -> PlacedActor:
    """What the compiler knows of an actor that answered; `probe` lets only actors of the driver's node pass."""
    devices = tuple(f"{kind.lower()}:{index}" for kind, indices in info.accelerators.items() for index in indices)
    return PlacedActor(info.class_name, node=_home(options), devices=devices, actor_id=info.actor_id)


def _home(options: CompileOptions) -> str:
    """The node of the driver."""
    return options.topology.driver_node if isinstance(options.topology, Topology) else LOCAL_NODE


def _with_id(result: PipelineResult, graph: str) -> dict[str, Program]:
    """The programs under a name of their own: the IR's says what a graph is, not which of its compilations runs."""
    programs = cast("Mapping[str, Program]", result.products["programs"])
    return {symbol: dataclasses.replace(program, graph=graph) for symbol, program in programs.items()}


def _default_pipeline(options: CompileOptions) -> str:
    pipeline = DEFAULT_PIPELINE
    if options.overlap_gpu_communication:
        pipeline = pipeline.replace("overlap-comm", "overlap-comm{streams}")
    if options.buffer_size_bytes not in (None, DAGContext().buffer_size_bytes):
        size = f"{{static-slot-bytes={options.buffer_size_bytes}}}"
        pipeline = pipeline.replace("allocate-channels", f"allocate-channels{size}")
    return pipeline


def _run(unit: Unit, pipeline: str | None, options: CompileOptions, *, actors_live: bool = False) -> PipelineResult:
    """Run the passes; where actors live already, the topology has to agree. `options` have their files read."""
    cost = options.profile if isinstance(options.profile, CostModel) else CostModel()
    if isinstance(options.topology, Topology):
        place_actors(unit.module, options.topology, movable=not actors_live)
        cost = dataclasses.replace(cost, topology=options.topology)
    passes = passes_of(_default_pipeline(options) if pipeline is None else pipeline)
    manager = PassManager(passes, verify_each=options.verify_each, dump_dir=options.dump_dir, cost=cost)
    result = manager.run(unit)
    for text in dict.fromkeys(remark.text for remark in result.remarks if remark.kind == UNKNOWN_TIME):
        warnings.warn(text, stacklevel=_frames_of_cgc())
    return result


def _frames_of_cgc() -> int:
    """How many frames there are up to the user's, as `warnings.warn` counts in the function that calls this."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("cgc."):
        frame, level = frame.f_back, level + 1
    return level
