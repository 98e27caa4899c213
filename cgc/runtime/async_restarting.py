"""
The driver of `on_actor_death="restart"` for programs with asyncio: see recovery.py.

An unfinished execution is submitted again by who awaits it first, in the event loop that it belongs to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import ray.exceptions

from cgc.runtime.asyncio_driver import AsyncDriver
from cgc.runtime.futures import GraphFuture
from cgc.runtime.recovery import ENDED, Recovery
from cgc.runtime.task_errors import fresh_copy

CROWDED = 0.01
"""Seconds until an execution that finds no room when it runs again tries once more: others are finishing."""


@dataclass(slots=True)
class _Execution:
    """
    One that has outputs to be awaited, held by its futures alone: it ends with the last of them.

    Attributes:
        driver: Where it runs.
        outputs: Its futures there; None for one that was awaited or given up.
        inputs: What it was submitted with, if it may be submitted again.
        death: What has ended `driver`, once an output has told.
        turn: Held while it is being submitted again.
    """

    driver: AsyncDriver
    outputs: list[GraphFuture | None]
    inputs: tuple[tuple[Any, ...], dict[str, Any]] | None
    death: Exception | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def give_up(self, output: int) -> None:
        """Nobody will await this output any more, or again. May be called by the garbage collector anywhere."""
        self.outputs[output] = None
        if not any(source is not None for source in self.outputs):
            self.inputs = None


class AsyncRestartingDriver(Recovery[AsyncDriver]):
    """Executes a graph like `AsyncDriver`, and restarts it when an actor of it has died."""

    def __init__(self, driver: AsyncDriver, rebuild: Callable[[], AsyncDriver], *, idempotent: bool) -> None:
        super().__init__(driver, rebuild, idempotent=idempotent)
        self._submitted = 0

    def execute(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the graph was compiled for asyncio."""
        raise ValueError("Use execute_async if enable_asyncio=True")

    async def execute_async(self, *args: Any, **kwargs: Any) -> GraphFuture | list[GraphFuture]:
        """Submit one execution, after a recovery if need be. Raises as `AsyncDriver.execute_async`."""
        while True:
            driver = await self._recovered()
            try:
                outputs = _listed(await driver.execute_async(*args, **kwargs))
                break
            except ENDED:
                if not self._recovers_from(driver):
                    raise
        number = self._submitted
        self._submitted += 1
        execution = _Execution(driver, outputs, (args, kwargs) if self._idempotent else None)
        futures = [_Future(self, number, execution, output) for output in range(len(outputs))]
        return list(futures) if self.returns_list else futures[0]

    async def result(self, entry: _Execution, output: int) -> Any:
        """One output, for the future of it."""
        try:
            value = await self._outcome(entry, output)
        except asyncio.CancelledError:  # it can be awaited again
            raise
        except BaseException:
            entry.give_up(output)
            raise
        entry.give_up(output)
        return value

    async def _outcome(self, entry: _Execution, output: int) -> Any:
        """One output, from as many drivers as it takes."""
        while True:
            source, driver = entry.outputs[output], entry.driver
            assert source is not None, "a future is awaited once"
            if entry.death is not None and source.arrival is None:
                await self._run_again(entry)
                continue
            try:
                return await source
            except ENDED as error:
                if isinstance(error, ray.exceptions.RayTaskError):
                    raise
                if entry.driver is driver:
                    entry.death = fresh_copy(error)

    async def _recovered(self) -> AsyncDriver:
        """The present driver, after the recovery that is going on; raises why the graph could not be restarted."""
        driver = self._driver
        if self._recovery is not None:
            driver = await asyncio.get_running_loop().run_in_executor(None, self._wait_for_recovery, None)
        if self._failure is not None:
            raise fresh_copy(self._failure)
        return driver

    async def _run_again(self, entry: _Execution) -> None:
        """After an output has told of a death: raise that, or submit the execution to the driver that comes after."""
        async with entry.turn:
            if entry.death is None:  # another output of the execution was faster
                return
            if not self._recovers_from(entry.driver):
                raise fresh_copy(self._failure or entry.death)
            if entry.inputs is None:
                raise fresh_copy(entry.death)
            args, kwargs = entry.inputs
            while True:
                driver = await self._recovered()
                try:
                    outputs = _listed(await driver.execute_async(*args, **kwargs))
                    break
                except ray.exceptions.RayCgraphCapacityExceeded:
                    await asyncio.sleep(CROWDED)
                except ENDED:
                    if not self._recovers_from(driver):
                        raise
            entry.driver, entry.death = driver, None
            for place, source in enumerate(entry.outputs):
                if source is not None:
                    entry.outputs[place] = outputs[place]


class _Future(GraphFuture):
    """A future of an execution that may run again."""

    def __init__(self, driver: AsyncRestartingDriver, number: int, execution: _Execution, output: int) -> None:
        self._dag: Any = driver
        self._execution_index = number
        self._execution = execution
        self._output = output
        self._channel_index = output if driver.returns_list else None
        self._is_unread = True

    @property
    def arrival(self) -> asyncio.Future[Any] | None:
        """Done when the result, or the news of a death, is there; None once it was handed out."""
        source = self._execution.outputs[self._output] if self._is_unread else None
        return None if source is None else source.arrival

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._is_unread:
            raise ValueError("CompiledDAGFuture can only be awaited upon once, and it has already been awaited upon.")
        self._is_unread = False
        try:
            return (yield from self._dag.result(self._execution, self._output).__await__())
        except asyncio.CancelledError:
            self._is_unread = True
            raise

    def __del__(self) -> None:
        if self._is_unread:
            self._execution.give_up(self._output)


def _listed(futures: GraphFuture | list[GraphFuture]) -> list[GraphFuture | None]:
    return [*futures] if isinstance(futures, list) else [futures]
