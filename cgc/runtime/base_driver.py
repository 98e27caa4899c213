"""What the drivers for threads and for event loops share: options, inputs, limits, failure and end of a graph."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import ray.actor
import ray.exceptions
from ray.dag import DAGContext

from cgc.runtime import _core, ray_internals
from cgc.runtime.alloc import Shape
from cgc.runtime.cluster import PROBE_TIMEOUT, ActorInfo
from cgc.runtime.diagnosis import STACK_TIMEOUT, patience_after
from cgc.runtime.inlets import Inlets
from cgc.runtime.measure import Sample
from cgc.runtime.outlets import Outlets
from cgc.runtime.program import Program
from cgc.runtime.session import Session
from cgc.runtime.status import ParticipantStatus, explain_lateness

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RELEASE_TIMEOUT = 1.0
"""Seconds that `teardown` waits for others to notice the end, before it leaves the memory to them."""


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """
    How a graph runs. None takes the value of `ray.dag.DAGContext` when the graph is started.

    Attributes:
        returns_list: Whether `execute` returns a list of refs (the graph ends in a MultiOutputNode).
        enable_asyncio: Run with `execute_async` instead of `execute`.
        submit_timeout: Seconds that `execute` may wait for room; -1 is for ever, 0 not at all.
        get_timeout: Seconds that `get` waits by default; -1 is for ever, 0 not at all.
        max_inflight_executions: Executions that may be submitted and not yet read.
        max_buffered_results: Executions whose results may be kept because later ones were read first.
        ignore_surplus_inputs: Whether keyword inputs that the graph does not have are ignored, as Ray does.
        max_channel_bytes: Limit of the graph's shared memory, 0 for none.
        measure: Whether the actors note when each operation starts and ends.
        spin_us: Microseconds that a waiting party polls before it sleeps, negative for the native core's default.
        probe_timeout: Seconds for all actors to be alive at the start.
    """

    returns_list: bool = False
    enable_asyncio: bool = False
    submit_timeout: float | None = None
    get_timeout: float | None = None
    max_inflight_executions: int | None = None
    max_buffered_results: int | None = None
    ignore_surplus_inputs: bool = False
    max_channel_bytes: int = 0
    measure: bool = False
    spin_us: int = -1
    probe_timeout: float = PROBE_TIMEOUT


class GraphEndedError(ray.exceptions.ActorDiedError, ray.exceptions.RayChannelError):  # type: ignore[misc]
    """
    Executing a graph that the death of an actor has ended.

    Ray raises a `RayChannelError` there, which does not say why; as an `ActorDiedError` this one does.
    """

    @classmethod
    def of(cls, death: ray.exceptions.ActorDiedError) -> GraphEndedError:
        """The same message, actor and cause."""
        ended = cls.__new__(cls, *death.args)
        ended.__dict__.update(death.__dict__)
        return ended


class BaseDriver:
    """What synchronous and asyncio drivers share: inputs, limits, failure and end."""

    def __init__(self, program: Program, session: Session, options: DriverOptions) -> None:
        context = DAGContext.get_current()
        self._session = session
        self._graph = program.graph
        self.returns_list = options.returns_list
        self.submit_timeout: float = _default(options.submit_timeout, context.submit_timeout)
        self.get_timeout: float = _default(options.get_timeout, context.get_timeout)
        self._max_inflight: int = _default(options.max_inflight_executions, context.max_inflight_executions)
        actors = {member.symbol: member.handle for member in session.members}
        self._inlets = Inlets(program, session.arena, actors, options.ignore_surplus_inputs)
        self._outlets = Outlets(
            program, session.arena, _default(options.max_buffered_results, context.max_buffered_results)
        )
        self._submit_lock = threading.Lock()
        self._hook = _ShutdownHook(session)
        ray_internals.register_for_shutdown(program.graph, self._hook)
        self._finalizer = weakref.finalize(self, session.close)

    @property
    def is_teardown(self) -> bool:
        """Whether the graph was torn down."""
        return self._session.is_down

    @property
    def has_died(self) -> bool:
        """Whether the death of an actor has ended the graph."""
        return self._session.has_died

    def death(self) -> Exception | None:
        """The error that tells of it; None if there was no death. Asks Ray, see `Session.failure`."""
        return self._session.failure() if self.has_died else None

    def wait_for_the_dead(self, timeout: float) -> None:
        """Wait until the processes of the dead actors have ended, at most `timeout` seconds."""
        self._session.wait_for_the_dead(timeout)

    @property
    def actors(self) -> Mapping[str, ray.actor.ActorHandle]:
        """The user's actors by symbol; not the hosts, which end with the graph."""
        return {member.symbol: member.handle for member in self._session.members if not member.is_host}

    @property
    def infos(self) -> Mapping[str, ActorInfo]:
        """What the actors said of themselves at the start, by symbol."""
        return {member.symbol: member.info for member in self._session.members}

    @property
    def start_refs(self) -> Mapping[ray.actor.ActorHandle, ray.ObjectRef[Any]]:
        """By actor the call that started its loop."""
        return self._session.start_refs

    def get_id(self) -> str:
        """The graph's id."""
        return self._graph

    def status(self, stacks: bool = False) -> list[ParticipantStatus]:
        """What each actor is doing now, with the stacks of those who compute if asked for."""
        return self._session.status(STACK_TIMEOUT if stacks else 0.0)

    def measurements(self) -> dict[str, list[list[Sample]]]:
        """By actor, (execution, start, end) of each of its operations, if the graph measures."""
        return self._session.measurements()

    def alloc(
        self, shape: Shape, dtype: npt.DTypeLike = "float64", input: int | str | None = None
    ) -> np.ndarray[Any, Any]:
        """See `CompiledGraph.alloc`."""
        try:
            with self._submit_lock:
                return self._inlets.source_of(input).array(shape, dtype)
        except _core.ChannelClosed:
            raise self._session.failure() from None

    def teardown(self, kill_actors: bool = False) -> None:
        """
        End the graph: after this its actors serve other calls and graphs. Idempotent.

        Waits for the actors' loops at most `DAGContext.teardown_timeout` seconds; names the late ones in a warning.
        """
        self._finalizer.detach()
        self._session.teardown(kill_actors)
        self._release()

    def _release(self) -> None:
        """
        Give the graph's memory back, which a driver object that the user keeps would hold otherwise.

        Not at any price: a teardown in a signal handler may have interrupted the holder of a lock.
        """
        if self._submit_lock.acquire(timeout=RELEASE_TIMEOUT):
            self._inlets.release()
            self._submit_lock.release()
        self._session.release()

    def _raise_if_too_many_inflight(self, inflight: int) -> None:
        if inflight >= self._max_inflight:
            if self._session.ended_told:  # nothing that the user could read would make room
                raise self._ended_error()
            raise ray.exceptions.RayCgraphCapacityExceeded(
                f"The compiled graph can't have more than {self._max_inflight} in-flight executions, and you currently "
                f"have {inflight} in-flight executions. Retrieve an output using ray.get before submitting more "
                "requests or increase `_max_inflight_executions`. "
                "`dag.experimental_compile(_max_inflight_executions=...)`"
            )

    def _raise_buffer_full(self, kept: int) -> NoReturn:
        raise ray.exceptions.RayCgraphCapacityExceeded(
            f"The compiled graph can't have more than {self._outlets.max_records} buffered results, and you currently "
            f"have {kept} buffered results. Call `ray.get()` on CompiledDAGRef's (or await on CompiledDAGFuture's) to "
            "retrieve results, or increase `_max_buffered_results` if buffering is desired, note that this will "
            "increase driver memory usage."
        ) from None

    def _ended_error(self) -> Exception:
        """Why nothing can be submitted any more."""
        failure = self._session.failure()
        return GraphEndedError.of(failure) if isinstance(failure, ray.exceptions.ActorDiedError) else failure

    def _submit_timeout_error(self, error: _core.ChannelTimeout) -> ray.exceptions.RayChannelTimeoutError:
        return ray.exceptions.RayChannelTimeoutError(
            "If the execution is expected to take a long time, increase RAY_CGRAPH_submit_timeout which is currently "
            f"{self.submit_timeout} seconds. Otherwise, this may indicate that execution is hanging. "
            + self._explain_lateness(self.submit_timeout)
        )

    def _get_timeout_error(self, timeout: float) -> ray.exceptions.RayChannelTimeoutError:
        return ray.exceptions.RayChannelTimeoutError(
            "If the execution is expected to take a long time, increase RAY_CGRAPH_get_timeout which is currently "
            f"{self.get_timeout} seconds. Otherwise, this may indicate that the execution is hanging. "
            + self._explain_lateness(timeout)
        )

    def _explain_lateness(self, timeout: float) -> str:
        return explain_lateness(self._session.status(patience_after(timeout)))


class _ShutdownHook:
    """Ends the graph at `ray.shutdown()`; Ray ends the actors itself."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def teardown(self, kill_actors: bool = False) -> None:
        self._session.close()


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value
