"""The driver of `on_actor_death="restart"` for programs without asyncio: see recovery.py."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from cgc.runtime.driver import Driver
from cgc.runtime.recovery import ENDED, Recovery
from cgc.runtime.refs import GraphRef, OutputRef
from cgc.runtime.task_errors import fresh_copy


@dataclass(eq=False)
class _Execution:
    """
    One that has outputs to be claimed, held by its refs alone: it ends with the last of them.

    So no place is lost to a KeyboardInterrupt that comes in a ref's destructor, where Python swallows it, and with it
    the rest of the destructor.

    Attributes:
        outputs: Where each comes from; None for one that was claimed or given up.
        inputs: What it was submitted with, if it may be submitted again.
        failure: Why its outputs that have not arrived never will.
    """

    outputs: list[GraphRef | None]
    inputs: tuple[tuple[Any, ...], dict[str, Any]] | None
    failure: Exception | None = None

    def give_up(self, output: int) -> None:
        """Nobody will claim this output any more, or again. May be called by the garbage collector anywhere."""
        self.outputs[output] = None
        if not any(source is not None for source in self.outputs):
            self.inputs = None


class RestartingDriver(Recovery[Driver]):
    """Executes a graph like `Driver`, and restarts it when an actor of it has died. Thread-safe."""

    def __init__(self, driver: Driver, rebuild: Callable[[], Driver], *, idempotent: bool) -> None:
        super().__init__(driver, rebuild, idempotent=idempotent)
        self._executions: weakref.WeakValueDictionary[int, _Execution] = weakref.WeakValueDictionary()
        self._submitted = 0
        self._submit_lock = threading.Lock()

    def execute(self, *args: Any, **kwargs: Any) -> GraphRef | list[GraphRef]:
        """Submit one execution, after a recovery if need be. Raises as `Driver.execute`, or why it cannot recover."""
        deadline = _deadline(self._driver.submit_timeout)
        while True:
            driver = self._wait_for_recovery(deadline)
            if self._failure is not None:
                raise fresh_copy(self._failure)
            try:
                with self._submit_lock:
                    execution = self._submitted
                    refs = driver.execute(*args, **kwargs)
                    outputs: list[Any] = refs if isinstance(refs, list) else [refs]
                    inputs = (args, kwargs) if self._idempotent else None
                    self._executions[execution] = entry = _Execution(outputs, inputs)
                    self._submitted = execution + 1
            except ENDED:
                if not self._recovers_from(driver):
                    raise
                continue
            if self.returns_list:
                return [OutputRef(self, execution, output, entry) for output in range(len(outputs))]
            return GraphRef(self, execution, entry)

    async def execute_async(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the graph was not compiled for asyncio."""
        raise ValueError("Use execute if enable_asyncio=False")

    def fetch(self, execution: int, output: int, timeout: float | None) -> Any:
        """One output, an `ErrorValue` perhaps. For `GraphRef.get`, see there."""
        deadline = _deadline(self._driver.get_timeout if timeout is None else timeout)
        while True:
            driver = self._wait_for_recovery(deadline)
            entry = self._executions.get(execution)
            source = None if entry is None else entry.outputs[output]
            if entry is None or source is None:
                raise RuntimeError("the result was handed out before, to a get that an exception interrupted")
            try:
                value = source.take(_remaining(deadline))
            except ENDED:
                failure = entry.failure or self._failure
                if failure is not None:
                    raise fresh_copy(failure) from None
                if entry.outputs[output] is source and not self._recovers_from(driver):
                    raise
                continue
            entry.give_up(output)
            return value

    def has_arrived(self, execution: int, output: int) -> bool:
        """Whether an output is here, or was handed out."""
        entry = self._executions.get(execution)
        return entry is None or not _is_missing(entry.outputs[output])

    def drop(self, execution: int, output: int) -> None:
        """A ref went out of scope unread. May be called by the garbage collector anywhere, so it takes no lock."""
        entry = self._executions.get(execution)
        if entry is not None:
            entry.give_up(output)

    def _submit_again(self, driver: Driver, death: Exception) -> None:
        """
        Executions with outputs that have not arrived run again, or fail; in the order of their submission.

        They find room: no more of them than `max_inflight_executions` can be unfinished.
        """
        with self._submit_lock:
            for entry in list(self._executions.values()):
                missing = [place for place, source in enumerate(entry.outputs) if _is_missing(source)]
                if missing and entry.failure is None:
                    self._run_again(driver, entry, missing, death)

    def _run_again(self, driver: Driver, entry: _Execution, missing: list[int], death: Exception) -> None:
        if entry.inputs is None:
            entry.failure = fresh_copy(death)
            return
        args, kwargs = entry.inputs
        refs = driver.execute(*args, **kwargs)
        outputs = refs if isinstance(refs, list) else [refs]
        for place in missing:
            entry.outputs[place] = outputs[place]


def _is_missing(source: GraphRef | None) -> bool:
    return source is not None and not source.has_arrived()


def _deadline(timeout: float) -> float | None:
    return None if timeout < 0 else time.monotonic() + timeout


def _remaining(deadline: float | None) -> float:
    return -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
