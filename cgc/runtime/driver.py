"""
The driver side: a compiled graph is started, executed, and torn down here.

    driver = start_driver(programs, actors, DriverOptions())
    ref = driver.execute("hello")            # a GraphRef, or a list of them with returns_list
    ray.get(ref)
    driver.teardown()

`programs` holds the emitted programs by symbol, `"driver"` among them; `actors` the live handles by the same symbols.
With `enable_asyncio` the driver is an `AsyncDriver` (asyncio_driver.py) whose `execute_async` returns futures.

The semantics are those of Ray's CompiledDAG, error texts included, with these differences: a ref can be read again
after a time-out; an output waits only for its own actor; an error spoils only the outputs that depend on it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import ray.actor

from cgc.runtime import _core
from cgc.runtime.asyncio_driver import AsyncDriver
from cgc.runtime.base_driver import RELEASE_TIMEOUT, BaseDriver, DriverOptions
from cgc.runtime.cluster import ActorInfo, probe
from cgc.runtime.outlets import BufferFullError
from cgc.runtime.program import DRIVER, Program
from cgc.runtime.refs import GraphRef, OutputRef
from cgc.runtime.session import Session


def start_driver(
    programs: Mapping[str, Program],
    actors: Mapping[str, ray.actor.ActorHandle],
    options: DriverOptions | None = None,
    infos: Mapping[str, ActorInfo] | None = None,
    hosts: Collection[str] = (),
) -> Driver | AsyncDriver:
    """
    Start a graph: probe the actors (unless `infos` is their `probe`), allocate memory, start the loops.

    `hosts` are the symbols of the actors that teardown kills.

    Raises `ActorDiedError` for an actor that is dead or dies meanwhile, `GetTimeoutError` for one that is not alive in
    time, `ValueError` for one that cannot take part, `MemoryError` where there is no shared memory. After an error
    nothing is left, on no actor.
    """
    options = options or DriverOptions()
    actors = {symbol: actors[symbol] for symbol in programs if symbol != DRIVER}
    infos = infos or probe(actors, options.probe_timeout)
    workers = {symbol: program for symbol, program in programs.items() if symbol != DRIVER}
    session = Session.start(
        workers | {DRIVER: programs[DRIVER]},
        actors,
        infos,
        max_bytes=options.max_channel_bytes,
        spin_us=options.spin_us,
        measure=options.measure,
        hosts=hosts,
    )
    try:
        if options.enable_asyncio:
            return AsyncDriver(programs[DRIVER], session, options)
        return Driver(programs[DRIVER], session, options)
    except BaseException:
        session.close()
        raise


class Driver(BaseDriver):
    """Executes a graph and reads its results in the calling thread. Thread-safe."""

    def __init__(self, program: Program, session: Session, options: DriverOptions) -> None:
        super().__init__(program, session, options)
        self._submit = self._inlets.submit_plain if self._inlets.is_plain else self._inlets.submit
        self._room_until = self._max_inflight
        """The first execution for which it must be found out whether there is room."""
        self._fetch_lock = threading.Lock()
        self._dropped: deque[tuple[int, int]] = deque()
        """Refs that went out of scope unread, to be given up by who holds the fetch lock next."""

    def execute(self, *args: Any, **kwargs: Any) -> GraphRef | list[GraphRef]:
        """
        Submit one execution; returns a ref, or one per output.

        Raises ValueError for wrong inputs, TypeError for one that cannot be sent, `RayCgraphCapacityExceeded`,
        `RayChannelTimeoutError` if there is no room within the submit time-out, `RayChannelError` after `teardown`,
        and `GraphEndedError` after a `ray.get` has told that the graph has ended.
        """
        inlets, outlets = self._inlets, self._outlets
        if kwargs or len(args) != inlets.positional or inlets.keywords:
            inlets.check(args, kwargs)
        submitted = -1
        try:
            with self._submit_lock:  # not acquire() and release(): KeyboardInterrupt may come in between
                execution = inlets.submitted
                if execution >= self._room_until:
                    self._make_room(execution)
                outlets.records[execution] = record = outlets.blank_record.copy()
                try:
                    self._submit(args, kwargs, self.submit_timeout)
                except BaseException as error:
                    # The first news of a death comes from `ray.get`, also if the death came before `execute`.
                    if not (isinstance(error, _core.ChannelClosed) and self._session.ended_untold):
                        outlets.records.pop(execution, None)
                        self._raise_submission_error(error)
                    inlets.submitted = execution + 1  # the next one gets a record of its own
                submitted = execution
                if inlets.passes_on:
                    for output, value in inlets.passed_on(args, kwargs):
                        record[output] = value
            if self.returns_list:
                return [OutputRef(self, execution, output, record) for output in range(outlets.outputs)]
            return GraphRef(self, execution, record)
        except BaseException:  # KeyboardInterrupt perhaps, between the submission and the refs
            if submitted >= 0:
                self._dropped.extend((submitted, output) for output in range(outlets.outputs))
            raise

    async def execute_async(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the graph was not compiled for asyncio."""
        raise ValueError("Use execute if enable_asyncio=False")

    def fetch(self, execution: int, output: int, timeout: float | None) -> Any:
        """One output, an `ErrorValue` perhaps. For `GraphRef.get`, see there."""
        if timeout is None:
            timeout = self.get_timeout
        elif timeout < 0 and timeout != -1:
            raise AssertionError("Timeout must be non-negative or -1.")  # which is what Ray raises
        lock = self._fetch_lock
        if lock.locked():
            timeout = self._wait_for_other_reader(timeout)
        try:
            with lock:
                if self._dropped:
                    self._give_up_dropped()
                return self._outlets.claim(execution, output, timeout)
        except _core.ChannelTimeout:
            raise self._get_timeout_error(timeout) from None
        except _core.ChannelClosed:
            raise self._session.failure() from None
        except BufferFullError as full:
            self._raise_buffer_full(full.kept)
        except KeyError:
            raise RuntimeError("the result was handed out before, to a get that an exception interrupted") from None

    def has_arrived(self, execution: int, output: int) -> bool:
        """Whether an output is here, or was handed out: whether `fetch` can do without actors."""
        return self._outlets.has_arrived(execution, output)

    def drop(self, execution: int, output: int) -> None:
        """A ref went out of scope unread. May be called by the garbage collector anywhere, so it only leaves a note."""
        self._dropped.append((execution, output))

    def _release(self) -> None:
        if self._fetch_lock.acquire(timeout=RELEASE_TIMEOUT):
            self._give_up_dropped()
            self._outlets.release()
            self._fetch_lock.release()
        super()._release()

    def _wait_for_other_reader(self, timeout: float) -> float:
        """Wait while another thread waits for a result; returns what is left of the time-out."""
        begin = time.monotonic()
        if not self._fetch_lock.acquire(timeout=timeout if timeout >= 0 else -1):
            raise self._get_timeout_error(timeout)
        self._fetch_lock.release()
        return max(0.0, timeout - (time.monotonic() - begin)) if timeout > 0 else timeout

    def _make_room(self, execution: int) -> None:
        """Discard what nobody can read any more; raise if there are too many executions in flight after that."""
        outlets = self._outlets
        self._room_until = outlets.slowest + self._max_inflight
        if execution < self._room_until:
            return
        if self._fetch_lock.locked():
            self._wait_for_other_reader(self.submit_timeout)
        try:
            with self._fetch_lock:
                self._give_up_dropped()
                while execution - outlets.finished >= self._max_inflight:
                    if not (outlets.discard_oldest(self.get_timeout) or outlets.forget_unclaimable()):
                        self._raise_if_too_many_inflight(execution - outlets.finished)
                outlets.catch_up(execution - self._max_inflight, self.get_timeout)
                self._room_until = outlets.slowest + self._max_inflight
        except _core.ChannelTimeout:
            raise self._get_timeout_error(self.get_timeout) from None
        except _core.ChannelClosed:
            raise self._session.failure() from None

    def _give_up_dropped(self) -> None:
        while self._dropped:
            self._outlets.give_up(*self._dropped.popleft())

    def _raise_submission_error(self, error: BaseException) -> NoReturn:
        if isinstance(error, _core.ChannelTimeout):
            raise self._submit_timeout_error(error) from None
        if isinstance(error, _core.ChannelClosed):
            raise self._ended_error() from None
        raise error
