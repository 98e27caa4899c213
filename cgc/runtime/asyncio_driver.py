"""
The driver of a graph that was compiled with `enable_asyncio`: no call of it ever blocks an event loop.

Submitting writes straight into the channels where there is room, which is always so within the in-flight limit;
large inputs, and the rare submission that must wait, go through one helper thread, in order. Threads take the results
and hand them to the loops that wait for them (async_results.py).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import weakref
from collections import deque
from typing import Any, NoReturn

from cgc.runtime import _core
from cgc.runtime.async_results import Results
from cgc.runtime.base_driver import BaseDriver, DriverOptions
from cgc.runtime.futures import GraphFailure, GraphFuture, Place
from cgc.runtime.program import Program
from cgc.runtime.session import Session

LARGE_INPUT = 1 << 20
"""Bytes from which an input is copied by the helper thread: about 100 µs of the loop's time."""


class AsyncDriver(BaseDriver):
    """Executes a graph for event loops; several loops, in several threads, may use it."""

    def __init__(self, program: Program, session: Session, options: DriverOptions) -> None:
        super().__init__(program, session, options)
        self._results = Results(self._outlets, session)
        self._places: weakref.WeakValueDictionary[int, Place] = weakref.WeakValueDictionary()
        """Of the executions in flight: no output was awaited, and somebody still holds a future of one."""
        self._dropped: deque[tuple[int, int]] = deque()
        """Outputs that nobody waits for, to be told to `Results` by who submits next."""
        self._queued: dict[concurrent.futures.Future[int], None] = {}
        """Submissions that the helper thread has not finished."""
        self._helper = concurrent.futures.ThreadPoolExecutor(1, f"cgc-{program.graph}-submit")
        self._results.start(f"cgc-{program.graph}-results")

    def execute(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the graph was compiled for asyncio."""
        raise ValueError("Use execute_async if enable_asyncio=True")

    async def execute_async(self, *args: Any, **kwargs: Any) -> GraphFuture | list[GraphFuture]:
        """
        Submit one execution; returns a future, or one per output.

        Raises as `Driver.execute`, but for the submit time-out, which there is none, and for the death of an actor, of
        which the future tells.
        """
        self._inlets.check(args, kwargs)
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(self._outlets.outputs)]
        place = Place()
        try:
            execution = self._submit_at_once(futures, place, args, kwargs)
            if execution is None:
                execution = await self._submit_by_helper(futures, place, args, kwargs)
        except _core.ChannelClosed:
            failure = await loop.run_in_executor(None, self._session.failure)
            if self._session.is_down:
                raise failure from None
            execution = self._inlets.submitted
            for future in futures:  # the news of a death comes with a result, also if the death came before
                future.set_result(GraphFailure(failure))
        if self.returns_list:
            return [
                GraphFuture(self, execution, output, output, future, place) for output, future in enumerate(futures)
            ]
        return GraphFuture(self, execution, 0, None, futures[0], place)

    def claimed(self, execution: int) -> None:
        """An output of the execution was awaited: it is in flight no more."""
        self._places.pop(execution, None)

    def drop(self, execution: int, output: int) -> None:
        """A future went out of scope unread. May be called by the garbage collector anywhere, so it takes no lock."""
        self._dropped.append((execution, output))

    def teardown(self, kill_actors: bool = False) -> None:
        super().teardown(kill_actors)
        self._helper.shutdown(wait=False)
        self._outlets.release(keep_results=False)

    def _submit_at_once(
        self, futures: list[asyncio.Future[Any]], place: Place, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int | None:
        """Submit in the loop's own thread; None if that would make it wait."""
        if self._queued or _is_large(args) or _is_large(kwargs.values()) or not self._submit_lock.acquire(False):
            return None
        try:
            return self._submit(futures, place, args, kwargs, 0.0)
        except _core.ChannelTimeout:
            return None
        finally:
            self._submit_lock.release()

    async def _submit_by_helper(
        self, futures: list[asyncio.Future[Any]], place: Place, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        """Submit in the helper thread; what that submits after a cancellation, nobody waits for."""
        try:
            turn = self._helper.submit(self._submit_in_turn, futures, place, args, kwargs)
        except RuntimeError:  # the thread has ended, with the graph
            if self._session.is_down:
                raise _core.ChannelClosed from None
            raise
        self._queued[turn] = None
        turn.add_done_callback(self._queued.pop)
        try:
            return await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            turn.add_done_callback(self._drop_all)
            raise

    def _drop_all(self, turn: concurrent.futures.Future[int]) -> None:
        """Give up all outputs of what was submitted, if it was."""
        if not turn.cancelled() and turn.exception() is None:
            self._dropped.extend((turn.result(), output) for output in range(self._outlets.outputs))

    def _submit_in_turn(
        self, futures: list[asyncio.Future[Any]], place: Place, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        """Submit in the helper thread, after those that came before."""
        with self._submit_lock:
            return self._submit(futures, place, args, kwargs, -1.0)

    def _submit(
        self,
        futures: list[asyncio.Future[Any]],
        place: Place,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float,
    ) -> int:
        while self._dropped:
            self._results.give_up(*self._dropped.popleft())
        if len(self._places) >= self._max_inflight:  # an interrupted weak reference leaves a key
            self._raise_if_too_many_inflight(sum(1 for _ in self._places.values()))
        execution = self._inlets.submitted
        expected = self._results.expect(execution, futures)
        try:
            self._inlets.submit(args, kwargs, timeout)
        except BaseException:
            self._results.forget(execution)
            raise
        self._places[execution] = place
        for output, value in self._inlets.passed_on(args, kwargs):
            self._results.pass_on(expected, output, value)
        return execution


def _is_large(values: Any) -> bool:
    return any(
        (len(value) if isinstance(value, bytes | bytearray | str) else getattr(value, "nbytes", 0)) >= LARGE_INPUT
        for value in values
    )
