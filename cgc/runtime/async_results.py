"""
How results come to event loops: one thread per channel to the driver takes them and hands them to the futures.

A thread per channel, so that an output never waits for another one's actor; a graph has as many as it has actors with
outputs. Results that arrive close together wake a loop once.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cgc.runtime import _core
from cgc.runtime.futures import GraphFailure
from cgc.runtime.outlets import Outlet, Outlets
from cgc.runtime.session import Session
from cgc.runtime.task_errors import ErrorValue

Future = asyncio.Future[Any]


@dataclass(slots=True)
class Expected:
    """An execution whose results have not all arrived: its futures, None for dropped ones."""

    futures: list[Future | None]
    gate: _Gate | None


class Results:
    """Takes results off the channels and hands them to event loops. Holds no driver, so that that can go."""

    def __init__(self, outlets: Outlets, session: Session) -> None:
        self._outlets = outlets.outlets
        self._outputs = outlets.outputs
        self._effects = len(outlets.effects)
        self._session = session
        self._waiting: list[dict[int, Expected]] = [{} for _ in self._outlets]
        """For each outlet the executions of which it has not brought its part; only its thread removes them."""
        self._outlet_of = {
            place: number for number, outlet in enumerate(self._outlets) for places in outlet.places for place in places
        }
        self._inboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Inbox] = weakref.WeakKeyDictionary()

    def start(self, name: str) -> None:
        """Start the threads."""
        for number, (outlet, waiting) in enumerate(zip(self._outlets, self._waiting, strict=True)):
            threading.Thread(target=self._run, args=(outlet, waiting), name=f"{name}-{number}", daemon=True).start()

    def expect(self, execution: int, futures: Sequence[Future]) -> Expected:
        """To be called before the execution's inputs are published; `futures` are those of the outputs, in order."""
        self._inbox_of(futures[0])
        expected = Expected(list(futures), _Gate(self._effects, self._put) if self._effects else None)
        for waiting in self._waiting:
            waiting[execution] = expected
        return expected

    def forget(self, execution: int) -> None:
        """Nothing of the execution was published."""
        for waiting in self._waiting:
            waiting.pop(execution, None)

    def give_up(self, execution: int, output: int) -> None:
        """Nobody waits for this output any more."""
        number = self._outlet_of.get(output)
        expected = None if number is None else self._waiting[number].get(execution)
        if expected is not None:
            expected.futures[output] = None

    def pass_on(self, expected: Expected, output: int, value: Any) -> None:
        """Hand over an output that is an input."""
        future = expected.futures[output]
        if future is not None:
            self._deliver(expected.gate, future, value)

    def _run(self, outlet: Outlet, waiting: dict[int, Expected]) -> None:
        try:
            while True:
                self._take(outlet, waiting)
        except _core.ChannelClosed:
            failure = GraphFailure(self._session.failure())
        except BaseException as error:  # a defect of cgc: nobody may wait for ever
            self._session.close()
            failure = GraphFailure(RuntimeError(f"cgc failed while reading results: {error!r}"))
        for execution in sorted(waiting):
            expected = waiting.pop(execution)
            for places in outlet.places:
                self._arrive(expected, places, failure)

    def _take(self, outlet: Outlet, waiting: dict[int, Expected]) -> None:
        message = outlet.read(-1.0)
        expected = waiting.get(outlet.next)
        if expected is not None and self._is_wanted(outlet, expected):
            for value, places in zip(outlet.decode(message), outlet.places, strict=True):
                self._arrive(expected, places, value)
        waiting.pop(outlet.next, None)
        outlet.next += 1

    def _is_wanted(self, outlet: Outlet, expected: Expected) -> bool:
        return expected.gate is not None or any(
            expected.futures[place] is not None for places in outlet.places for place in places
        )

    def _arrive(self, expected: Expected, places: Sequence[int], value: Any) -> None:
        for place in places:
            future = expected.futures[place] if place < self._outputs else None
            if future is not None:
                self._deliver(expected.gate, future, value)
            elif place >= self._outputs and expected.gate is not None:
                expected.gate.open_for(value)

    def _deliver(self, gate: _Gate | None, future: Future, value: Any) -> None:
        if gate is None:
            self._put(future, value)
        else:
            gate.pass_through(future, value)

    def _put(self, future: Future, value: Any) -> None:
        self._inbox_of(future).put(future, value)

    def _inbox_of(self, future: Future) -> _Inbox:
        loop = future.get_loop()
        inbox = self._inboxes.get(loop)
        if inbox is None:
            inbox = self._inboxes[loop] = _Inbox(loop.call_soon_threadsafe)
        return inbox


class _Gate:
    """Holds the outputs of one execution back until its effects are known; several threads come here."""

    def __init__(self, effects: int, put: Callable[[Future, Any], None]) -> None:
        self._missing = effects
        self._put = put
        self._error: ErrorValue | GraphFailure | None = None
        self._held: list[tuple[Future, Any]] = []
        self._lock = threading.Lock()

    def open_for(self, outcome: ErrorValue | GraphFailure | None) -> None:
        """One more effect is known: None if all is well."""
        with self._lock:
            self._missing -= 1
            self._error = self._error or outcome
            if self._missing:
                return
            held, self._held = self._held, []
        for future, value in held:
            self._put(future, self._outcome(value))

    def pass_through(self, future: Future, value: Any) -> None:
        """Hand the output over, now or when the effects are known."""
        with self._lock:
            if self._missing:
                self._held.append((future, value))
                return
        self._put(future, self._outcome(value))

    def _outcome(self, value: Any) -> Any:
        return value if self._error is None or isinstance(value, ErrorValue | GraphFailure) else self._error


class _Inbox:
    """Results on their way to one event loop, which is woken once for all that have gathered."""

    def __init__(self, call_soon: Callable[..., Any]) -> None:
        self._call_soon = call_soon
        self._results: deque[tuple[Future, Any]] = deque()
        self._is_scheduled = False

    def put(self, future: Future, value: Any) -> None:
        self._results.append((future, value))
        if self._is_scheduled:
            return
        self._is_scheduled = True
        try:
            self._call_soon(self._empty)
        except RuntimeError:  # the loop is closed: nobody awaits there any more
            self._results.clear()

    def _empty(self) -> None:
        self._is_scheduled = False
        while self._results:
            future, value = self._results.popleft()
            if not future.done():
                future.set_result(value)
