"""What `execute` returns: a reference to one output of one execution, which `ray.get` reads."""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

from ray.experimental.compiled_dag_ref import CompiledDAGRef

from cgc.runtime import ray_internals
from cgc.runtime.task_errors import ErrorValue


class Fetches(Protocol):
    """A driver, as refs know it."""

    def fetch(self, execution: int, output: int, timeout: float | None) -> Any:
        """One output, an `ErrorValue` perhaps. Raises as `GraphRef.get`, see there."""

    def has_arrived(self, execution: int, output: int) -> bool:
        """Whether `fetch` can do without actors."""

    def drop(self, execution: int, output: int) -> None:
        """The ref went out of scope unread. May be called by the garbage collector anywhere."""


class GraphRef(CompiledDAGRef):  # type: ignore[misc]
    """
    A `CompiledDAGRef`, so that `ray.get(ref)`, `ray.get([refs])` and type checks treat it as Ray's own.

    A result can be read once. Unlike Ray's, a ref whose `get` ran into a time-out can be read again.
    """

    # Until __init__, which an interrupt may cut short; `__del__` runs even then.
    _dag: Fetches = None  # type: ignore[assignment]
    _output = 0
    _channel_index: int | None = None
    _ray_get_called = False

    def __init__(self, driver: Fetches, execution: int, record: object = None) -> None:
        self._dag = driver  # Ray's methods know these two names
        self._execution_index = execution
        self._record = record  # held until it is read, so that the driver sees whether somebody may claim

    def get(self, timeout: float | None = None) -> Any:
        """
        The result; raises the user's exception if there was one.

        `timeout` in seconds: None is `DAGContext.get_timeout`, 0 does not wait, -1 waits for ever.
        Raises `RayChannelTimeoutError`, `RayCgraphCapacityExceeded`, `ActorDiedError`, `RayChannelError`, and
        ValueError for a second `get`.
        """
        if self._ray_get_called:
            raise ValueError("ray.get() can only be called once on a CompiledDAGRef, and it was already called.")
        value = self._dag.fetch(self._execution_index, self._output, timeout)
        self._ray_get_called = True
        self._record = None
        if type(value) is ErrorValue:
            raise value.to_exception()
        return value

    def take(self, timeout: float | None) -> Any:
        """The same for who passes the result on: an `ErrorValue` is handed out as it is."""
        value = self._dag.fetch(self._execution_index, self._output, timeout)
        self._ray_get_called = True
        self._record = None
        return value

    def has_arrived(self) -> bool:
        """Whether `get` needs no actor any more."""
        return self._dag.has_arrived(self._execution_index, self._output)

    def __del__(self) -> None:
        if not self._ray_get_called and self._dag is not None:
            self._dag.drop(self._execution_index, self._output)

    def __copy__(self) -> NoReturn:
        raise ValueError("CompiledDAGRef cannot be copied.")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise ValueError("CompiledDAGRef cannot be deep copied.")

    def __reduce__(self) -> NoReturn:
        raise ValueError("CompiledDAGRef cannot be pickled.")


class OutputRef(GraphRef):
    """A ref to one of several outputs."""

    def __init__(self, driver: Fetches, execution: int, output: int, record: object = None) -> None:
        self._dag = driver
        self._execution_index = execution
        self._record = record
        self._output = output
        self._channel_index = output


for _class in (GraphRef, OutputRef):
    # Ray prints the class in messages of its own (`ray.wait`), and refuses its own refs by exact class.
    _class.__module__, _class.__qualname__ = CompiledDAGRef.__module__, CompiledDAGRef.__qualname__
    ray_internals.refuse_serialization(_class, "Serialization of CompiledDAGRef is not supported.")
