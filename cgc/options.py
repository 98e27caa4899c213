"""How a graph is compiled and run: the options of `cgc.compile`, `cgc.lower` and `cgc.plan`."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from ray.dag import DAGContext

from cgc.ir import Topology
from cgc.passes.analysis.cost import CostModel

if TYPE_CHECKING:
    from ray.experimental.channel.communicator import Communicator


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """
    How a graph is compiled and run. None takes the value of `ray.dag.DAGContext` when the graph is compiled.

    Attributes:
        name: Name of the graph in the IR and in messages.
        enable_asyncio: Run with `execute_async` instead of `execute`.
        submit_timeout: Seconds that `execute` may wait for room; -1 is for ever, 0 not at all.
        get_timeout: Seconds that reading a result waits by default; -1 is for ever, 0 not at all.
        max_inflight_executions: Executions that may be submitted and not yet read.
        max_buffered_results: Executions whose results may be kept because later ones were read first.
        buffer_size_bytes: First size of a slot for values of static shape; other slots begin small and grow. Ray's
            default, 1 MB, counts as not given: then the shape says how large it is.
        ignore_surplus_inputs: Whether keyword inputs that the graph does not have are ignored, as Ray does it.
        max_channel_bytes: Limit of the graph's shared memory in bytes, 0 for none.
        allow_leaf_nodes: Whether nodes that nobody uses are allowed, for the effect of their calls. Every output of an
            execution waits for them and raises their errors.
        share_hosts: Whether nodes of one remote function, with the same options, run on one actor. By default each node
            has its own, so that they run at the same time.
        overlap_gpu_communication: Whether GPU communication overlaps with computation.
        default_communicator: For tensors and collectives that ask for a communicator and name none: `"create"` for
            one of the accelerator's kind (for collectives of actors without one: shared memory), `"gloo"` for one that
            moves CPU tensors, `"shm"` for shared memory, a communicator, or None to refuse.
        topology: Where actors are and what connects them, or the TOML file of it (`cgc.Topology`).
        profile: Expected times of calls and links, or the file of it, such as `graph.profile(path)` has written.
        measure: Whether the actors note how long each operation takes, for `CompiledGraph.profile`.
        verify_each: Whether the IR is verified after every pass; None for graphs of fewer than 10,000 operations.
        on_actor_death: `"fail"` ends the graph with an actor; `"restart"` compiles it again on the same actors once Ray
            has restarted them (`max_restarts`), for at most a minute.
        idempotent: Whether a restart may run unfinished executions again, with the inputs that they had; the graph
            keeps those meanwhile, without copying them. Otherwise their refs raise `ActorDiedError`.
        dump_dir: Directory for the numbered IR dumps `{nn}_{pass}.mlir`; None for what `CGC_DUMP` says.
        pipeline: The passes to run, with their options, instead of the default ones.
    """

    name: str = "graph"
    enable_asyncio: bool = False
    submit_timeout: float | None = None
    get_timeout: float | None = None
    max_inflight_executions: int | None = None
    max_buffered_results: int | None = None
    buffer_size_bytes: int | None = None
    ignore_surplus_inputs: bool = False
    max_channel_bytes: int = 0
    allow_leaf_nodes: bool = False
    share_hosts: bool = False
    overlap_gpu_communication: bool | None = None
    default_communicator: Communicator | str | None = "create"
    topology: Topology | str | os.PathLike[str] | None = None
    profile: CostModel | str | os.PathLike[str] | None = None
    measure: bool = False
    verify_each: bool | None = None
    on_actor_death: Literal["fail", "restart"] = "fail"
    idempotent: bool = False
    dump_dir: str | None = None
    pipeline: str | None = None

    def __post_init__(self) -> None:
        for option in ("max_inflight_executions", "max_buffered_results", "buffer_size_bytes"):
            value = getattr(self, option)
            if value is not None and not (_is_count(value) and value > 0):
                raise ValueError(f"`{option}` must be a positive integer, found {value!r}")
        if not (_is_count(self.max_channel_bytes) and self.max_channel_bytes >= 0):
            raise ValueError(f"`max_channel_bytes` must be bytes, or 0 for no limit, found {self.max_channel_bytes!r}")
        for option in ("submit_timeout", "get_timeout"):
            value = getattr(self, option)
            if value is not None and not (isinstance(value, int | float) and (value >= 0 or value == -1)):
                raise ValueError(f"{option} must be seconds, or -1 for no time-out, got {value!r}")
        for option in ("name", "pipeline"):
            value = getattr(self, option)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"`{option}` must be a string, found {value!r}")
        if self.pipeline is not None and not self.pipeline.strip():
            raise ValueError(f"`pipeline` must name passes, found {self.pipeline!r}")
        for option, kind in (("topology", Topology), ("profile", CostModel)):
            value = getattr(self, option)
            if not (value is None or isinstance(value, kind) or _is_path(value)):
                raise TypeError(f"`{option}` must be a cgc.{kind.__name__} or the name of its file, found {value!r}")
        _check_communicator(self.default_communicator)
        if self.on_actor_death not in ("fail", "restart"):
            raise ValueError(f"on_actor_death must be 'fail' or 'restart', got {self.on_actor_death!r}")
        if self.idempotent and self.on_actor_death != "restart":
            raise ValueError("idempotent says what a restart may do: it needs on_actor_death='restart'")

    @classmethod
    def of(cls, options: CompileOptions | None, settings: Mapping[str, Any]) -> CompileOptions:
        """
        `options` with `settings` on top.

        Raises:
            TypeError: There is no option of that name; the message names the closest.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; the options are {', '.join(known)}"
                raise TypeError(f"there is no option {name!r}{hint}")
        return dataclasses.replace(options or cls(), **settings)

    def with_context(self) -> CompileOptions:
        """The same with every None that `DAGContext` has a value for replaced by that value."""
        context = DAGContext.get_current()
        shared = {field.name for field in fields(self)} & {field.name for field in fields(context)}
        missing = {name: getattr(context, name) for name in shared if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def with_files(self) -> CompileOptions:
        """
        The same with topology and profile read, if they are names of files.

        Raises:
            SourceError: A file cannot be read, or is wrong.
        """
        return dataclasses.replace(
            self,
            topology=Topology.load(self.topology) if _is_path(self.topology) else self.topology,
            profile=CostModel.load(self.profile) if _is_path(self.profile) else self.profile,
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(value, str | os.PathLike)


def _check_communicator(value: object) -> None:
    from ray.experimental.channel.communicator import Communicator

    if isinstance(value, str):
        if value not in ("create", "gloo", "shm"):
            raise ValueError(
                f"The only allowed string for default_communicator is 'create', got {value} (cgc also takes 'gloo' and"
                " 'shm')"
            )
    elif value is not None and not isinstance(value, Communicator):
        raise ValueError(f"The default_communicator must be None, a string, or a Communicator, got {type(value)}")
