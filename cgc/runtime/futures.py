"""What `execute_async` returns: an awaitable of one output of one execution."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, NoReturn, Protocol

from ray.experimental.compiled_dag_ref import CompiledDAGFuture

from cgc.runtime.task_errors import ErrorValue, fresh_copy


class Awaited(Protocol):
    """A driver, as futures know it."""

    def claimed(self, execution: int) -> None:
        """An output of the execution was awaited: it is in flight no more."""

    def drop(self, execution: int, output: int) -> None:
        """The future went out of scope unread. May be called by the garbage collector anywhere."""


class GraphFailure:
    """
    Takes the place of a result when the graph has ended.

    A result rather than a future's exception, of which asyncio would complain when nobody awaits it.
    """

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Place:
    """
    One execution among those in flight, held by its futures alone.

    So what makes room is that they are gone, not that their destructors have run: Python swallows a KeyboardInterrupt
    that comes in one, and with it the rest of the destructor.
    """

    __slots__ = ("__weakref__",)


class GraphFuture(CompiledDAGFuture):  # type: ignore[misc]
    """A `CompiledDAGFuture`. It can be awaited once; unlike Ray's, again after an await that was cancelled."""

    def __init__(
        self,
        driver: Awaited,
        execution: int,
        output: int,
        channel_index: int | None,
        future: asyncio.Future[Any],
        place: Place,
    ) -> None:
        self._dag = driver  # this name is what Ray's methods know
        self._execution_index = execution
        self._output = output
        self._channel_index = channel_index
        self._fut: asyncio.Future[Any] | None = future
        self._place = place

    @property
    def arrival(self) -> asyncio.Future[Any] | None:
        """Done when the result is there; None once that was handed out."""
        return self._fut

    def __await__(self) -> Generator[Any, None, Any]:
        """The result; raises the user's exception, or why the graph has ended: `ActorDiedError`, `RayChannelError`."""
        future = self._fut
        if future is None:
            raise ValueError("CompiledDAGFuture can only be awaited upon once, and it has already been awaited upon.")
        self._fut = None  # the value lives only as long as the user keeps it
        try:
            value = yield from asyncio.shield(future).__await__() if not future.done() else future.__await__()
        except asyncio.CancelledError:
            self._fut = future
            raise
        self._dag.claimed(self._execution_index)
        if type(value) is ErrorValue:
            raise value.to_exception()
        if type(value) is GraphFailure:
            raise fresh_copy(value.error)
        return value

    def __del__(self) -> None:
        if self._fut is not None:
            self._dag.drop(self._execution_index, self._output)

    def __copy__(self) -> NoReturn:
        raise ValueError("CompiledDAGFuture cannot be copied.")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise ValueError("CompiledDAGFuture cannot be deep copied.")

    def __reduce__(self) -> NoReturn:
        raise ValueError("CompiledDAGFuture cannot be pickled.")


# Ray prints the class in messages of its own (`ray.get`).
GraphFuture.__module__, GraphFuture.__qualname__ = CompiledDAGFuture.__module__, CompiledDAGFuture.__qualname__
