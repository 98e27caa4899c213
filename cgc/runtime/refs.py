"""What `execute` returns: a reference to one output of one execution, which `ray.get` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ray.experimental.compiled_dag_ref import CompiledDAGRef

from cgc.runtime.task_errors import ErrorValue

if TYPE_CHECKING:
    from cgc.runtime.driver import Driver


class GraphRef(CompiledDAGRef):  # type: ignore[misc]
    """
    A `CompiledDAGRef`, so that `ray.get(ref)`, `ray.get([refs])` and type checks treat it as Ray's own.

    A result can be read once. Unlike Ray's, a ref whose `get` ran into a time-out can be read again.
    """

    def __init__(self, driver: Driver, execution: int, output: int, channel_index: int | None) -> None:
        self._dag = driver  # this name is what Ray's methods know
        self._execution_index = execution
        self._output = output
        self._channel_index = channel_index
        self._ray_get_called = False

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
        if type(value) is ErrorValue:
            raise value.to_exception()
        return value

    def __del__(self) -> None:
        if not self._ray_get_called:
            self._dag.drop(self._execution_index, self._output)

    def __copy__(self) -> NoReturn:
        raise ValueError("CompiledDAGRef cannot be copied.")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise ValueError("CompiledDAGRef cannot be deep copied.")

    def __reduce__(self) -> NoReturn:
        raise ValueError("CompiledDAGRef cannot be pickled.")
