"""
From a DAG and options to a graph that runs on its actors: what `cgc.compile`, `cgc.lower` and recompilations share.

The order matters: the graph is verified before any actor is asked anything, and actors are asked only where they live
and what they have until the last pass has verified the whole schedule; then memory is allocated and loops are started.
"""

from __future__ import annotations

import dataclasses
import sys
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ray.actor import ActorHandle
from ray.dag import DAGContext, DAGNode, MultiOutputNode

from cgc.ir import Topology, Unit, place_actors
from cgc.ir.importer import import_graph
from cgc.ir.ray_nodes import function_name
from cgc.ir.topology import LOCAL_NODE
from cgc.ir.topology import ActorInfo as PlacedActor
from cgc.options import CompileOptions
from cgc.passes.analysis.cost import CostModel
from cgc.passes.manager import PassManager, PipelineResult
from cgc.passes.registry import PASSES, passes_of
from cgc.runtime.program import Program

if TYPE_CHECKING:
    from cgc.runtime.async_restarting import AsyncRestartingDriver
    from cgc.runtime.asyncio_driver import AsyncDriver
    from cgc.runtime.cluster import ActorInfo as ProbedActor
    from cgc.runtime.driver import Driver
    from cgc.runtime.restarting import RestartingDriver

    AnyDriver = Driver | AsyncDriver | RestartingDriver | AsyncRestartingDriver

DEFAULT_PIPELINE = ",".join(PASSES)


@dataclass(frozen=True, slots=True)
class Compilation:
    """
    A graph that runs.

    Attributes:
        driver: Executes it.
        result: What the passes have made of it.
        programs: What each participant runs, by symbol.
    """

    driver: AnyDriver
    result: PipelineResult
    programs: Mapping[str, Program]


def compile_and_start(
    dag: DAGNode, options: CompileOptions, replaced: Mapping[ActorHandle, ActorHandle]
) -> Compilation:
    """
    Run all passes and start the programs on the graph's actors, or on those that take their places in `replaced`.

    Errors are those of `cgc.compile`; after one nothing is left on any actor.
    """
    made = _compile_once(dag, options, replaced)
    if options.on_actor_death != "restart":
        return made
    driver = _restarting(made.driver, lambda: _compile_once(dag, options, replaced).driver, options)
    return dataclasses.replace(made, driver=driver)


def import_dag(dag: DAGNode, options: CompileOptions, actors: Mapping[Any, PlacedActor] | None = None) -> Unit:
    """
    The IR of level `graph`; `actors` tells of those that have answered.

    Raises TypeError for what is no node of `ray.dag`, and `GraphError`.
    """
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


def run_passes(
    unit: Unit, options: CompileOptions, pipeline: str | None = None, *, actors_live: bool = False
) -> PipelineResult:
    """
    Run the passes of `pipeline`, or those that the options, which have their files read, ask for.

    Where actors live already, the topology has to agree; otherwise it places them. Raises `CgcError`.
    """
    cost = options.profile if isinstance(options.profile, CostModel) else CostModel()
    if isinstance(options.topology, Topology):
        place_actors(unit.module, options.topology, movable=not actors_live)
        cost = dataclasses.replace(cost, topology=options.topology)
    passes = passes_of(pipeline or options.pipeline or default_pipeline(options))
    manager = PassManager(passes, verify_each=options.verify_each, dump_dir=options.dump_dir, cost=cost)
    result = manager.run(unit)
    for text in result.warnings:
        warnings.warn(text, stacklevel=_frames_of_cgc())
    return result


def default_pipeline(options: CompileOptions) -> str:
    """The passes with what the options say to them."""
    pipeline = DEFAULT_PIPELINE
    if options.overlap_gpu_communication:
        pipeline = pipeline.replace("overlap-comm", "overlap-comm{streams}")
    if options.buffer_size_bytes not in (None, DAGContext().buffer_size_bytes):
        size = f"{{static-slot-bytes={options.buffer_size_bytes}}}"
        pipeline = pipeline.replace("allocate-channels", f"allocate-channels{size}")
    return pipeline


def _restarting(
    first: AnyDriver, rebuild: Callable[[], AnyDriver], options: CompileOptions
) -> RestartingDriver | AsyncRestartingDriver:
    if options.enable_asyncio:
        from cgc.runtime.async_restarting import AsyncRestartingDriver

        return AsyncRestartingDriver(
            cast("AsyncDriver", first), cast("Callable[[], AsyncDriver]", rebuild), idempotent=options.idempotent
        )
    from cgc.runtime.restarting import RestartingDriver

    return RestartingDriver(cast("Driver", first), cast("Callable[[], Driver]", rebuild), idempotent=options.idempotent)


def _compile_once(dag: DAGNode, options: CompileOptions, replaced: Mapping[ActorHandle, ActorHandle]) -> Compilation:
    # Checked before any actor is asked anything: a faulty graph is an error even where no actor answers.
    checked = run_passes(import_dag(dag, options), options, "verify-graph").unit

    from cgc.runtime.hosts import create_host, kill_hosts

    hosts = {node: create_host(function_name(node), node._body, node._bound_options) for node in checked.tasks.values()}
    try:
        return _start(dag, options, {**replaced, **hosts}, checked)
    except BaseException:
        kill_hosts(hosts.values())
        raise


def _start(dag: DAGNode, options: CompileOptions, handles: Mapping[Any, ActorHandle], checked: Unit) -> Compilation:
    """Compile and start a graph; `handles` has the host of each remote function, and actors in the place of others."""
    from cgc.runtime.base_driver import DriverOptions
    from cgc.runtime.cluster import probe
    from cgc.runtime.driver import start_driver

    bound = {**checked.handles, **checked.tasks}
    found = probe({symbol: handles.get(actor, actor) for symbol, actor in bound.items()})
    infos = {bound[symbol]: info for symbol, info in found.items()}
    unit = import_dag(dag, options, {actor: _placed(info, options) for actor, info in infos.items()})
    result = run_passes(unit, options, actors_live=True)
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
    return Compilation(driver, result, programs)


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


def _frames_of_cgc() -> int:
    """How many frames there are up to the user's, as `warnings.warn` counts in the function that calls this."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("cgc."):
        frame, level = frame.f_back, level + 1
    return level
