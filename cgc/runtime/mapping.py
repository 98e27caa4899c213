"""
`graph.map`: run a graph over the items of iterables, pipelined, with a bound on the executions in flight.

    for result in graph.map(batches, progress=True): ...
    async for result in graph.map(batches): ...          # a graph of enable_asyncio; `batches` may be asynchronous

Results come in the order of the items. Items are taken as executions find room, so inputs may be endless, and at most
`max_inflight` of them have been taken for which there is no result yet.

An item whose execution fails raises where its result would come; the iteration can go on behind it. When an iterable
raises, the results of the items before come first, then its exception, then the end. When the graph has ended, each
item in flight raises the reason, and so does the next; then comes the end. What is in flight when the iterator is no
longer used (`break`) is given up, as with refs that go out of scope.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from ray.exceptions import RayActorError, RayCgraphCapacityExceeded, RayChannelError, RayChannelTimeoutError
from typing_extensions import Self

from cgc.runtime.futures import GraphFuture
from cgc.runtime.refs import GraphRef

_NO_ROOM: tuple[type[Exception], ...] = (RayCgraphCapacityExceeded, RayChannelTimeoutError)
"""What `execute` raises when others use the graph, too: the item is tried again once a result of ours was taken."""

_ENDED: tuple[type[Exception], ...] = (RayChannelError, RayActorError)


class _Item:
    """One execution in flight: its refs or futures, and what was read of them; or why it was not submitted."""

    __slots__ = ("error", "is_list", "sources", "values")

    def __init__(self, submitted: Any = None, error: Exception | None = None) -> None:
        self.is_list = isinstance(submitted, list)
        self.sources: list[Any] = submitted if self.is_list else [submitted]
        self.values: list[Any] = []
        self.error = error

    @property
    def next_source(self) -> Any:
        """The ref or future to read next; None if all were read."""
        if self.error is not None:
            raise self.error
        return None if len(self.values) == len(self.sources) else self.sources[len(self.values)]

    @property
    def result(self) -> Any:
        return self.values if self.is_list else self.values[0]


class _Feed:
    """What both iterators share: items in flight, and what the input has left."""

    def __init__(self, limit: int, bar: ProgressBar | None) -> None:
        self.limit = limit
        self.bar = bar
        self.inflight: deque[_Item] = deque()
        self.has_more = True
        self.unsubmitted: tuple[Any, ...] | None = None
        """An item for which there was no room."""

    @property
    def wants_items(self) -> bool:
        return self.has_more and len(self.inflight) < self.limit

    def fail(self, error: Exception) -> None:
        """The input ends with an exception."""
        self.has_more = False
        self.inflight.append(_Item(error=error))

    def refused(self, item: tuple[Any, ...], error: Exception) -> bool:
        """`execute` has raised: True if the item waits for room, else it fails in its place."""
        if isinstance(error, _NO_ROOM):
            if not self.inflight:
                self.unsubmitted = item
                raise error
            self.unsubmitted = item
            return True
        self.inflight.append(_Item(error=error))
        if isinstance(error, _ENDED):
            self.has_more = False
        return False

    def finished(self, item: _Item) -> None:
        """The oldest item has its result, or has failed."""
        if self.inflight and self.inflight[0] is item:
            self.inflight.popleft()
        if self.bar is not None:
            self.bar.advance()

    def close(self) -> None:
        self.has_more = False
        self.unsubmitted = None
        self.inflight.clear()
        if self.bar is not None:
            self.bar.stop()


class GraphMap(Iterator[Any]):
    """The results of a graph for each item, in order; see the top of this file."""

    def __init__(
        self,
        execute: Callable[..., GraphRef | list[GraphRef]],
        iterables: Sequence[Iterable[Any]],
        limit: int,
        timeout: float | None = None,
        bar: ProgressBar | None = None,
    ) -> None:
        self._feed = _Feed(limit, bar)
        self._execute = execute
        self._items = zip(*iterables)  # like `map`: the shortest one ends it
        self._timeout = timeout

    def __next__(self) -> Any:
        """
        The next result.

        Raises the item's exception, or `RayChannelTimeoutError`, after which the same result can be waited for again.
        """
        feed = self._feed
        self._fill()
        if not feed.inflight:
            self.close()
            raise StopIteration
        item = feed.inflight[0]
        try:
            while (ref := item.next_source) is not None:
                item.values.append(ref.get(self._timeout))
        except RayChannelTimeoutError:
            if item.error is not None:
                feed.finished(item)
            raise
        except Exception:
            feed.finished(item)
            raise
        feed.finished(item)
        return item.result

    def close(self) -> None:
        """Give up what is in flight, and end. Idempotent."""
        self._feed.close()

    def _fill(self) -> None:
        feed = self._feed
        while feed.wants_items:
            item, feed.unsubmitted = feed.unsubmitted, None
            try:
                item = item or next(self._items)
            except StopIteration:
                feed.has_more = False
                break
            except Exception as error:
                feed.fail(error)
                break
            try:
                feed.inflight.append(_Item(self._execute(*item)))
            except Exception as error:
                if feed.refused(item, error):
                    break

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AsyncGraphMap(AsyncIterator[Any]):
    """The same for `async for`. A result that is there is not held back by an input that is not."""

    def __init__(
        self,
        execute_async: Callable[..., Awaitable[GraphFuture | list[GraphFuture]]],
        iterables: Sequence[Iterable[Any] | AsyncIterable[Any]],
        limit: int,
        timeout: float | None = None,
        bar: ProgressBar | None = None,
    ) -> None:
        self._feed = _Feed(limit, bar)
        self._taking: asyncio.Task[tuple[Any, ...]] | None = None
        """Waits for the next item of the input."""
        self._execute = execute_async
        self._sources = [aiter_of(iterable) for iterable in iterables]
        self._timeout = timeout

    async def __anext__(self) -> Any:
        """As `GraphMap.__next__`; TimeoutError instead of `RayChannelTimeoutError`."""
        feed = self._feed
        await self._fill()
        if not feed.inflight:
            await self.aclose()
            raise StopAsyncIteration
        item = feed.inflight[0]
        try:
            while (future := item.next_source) is not None:
                item.values.append(await asyncio.wait_for(_awaited(future), self._timeout))
        except asyncio.TimeoutError:
            if item.error is not None or not _is_pending(item):
                feed.finished(item)
            raise
        except Exception:
            feed.finished(item)
            raise
        feed.finished(item)
        return item.result

    async def aclose(self) -> None:
        """Give up what is in flight, and end. Idempotent."""
        self._feed.close()
        self._cancel_taking()

    async def _fill(self) -> None:
        feed = self._feed
        while feed.wants_items:
            item, feed.unsubmitted = feed.unsubmitted, None
            if item is None and not await self._has_next():
                break
            try:
                item = item or self._take()
            except StopAsyncIteration:
                feed.has_more = False
                break
            except Exception as error:
                feed.fail(error)
                break
            try:
                feed.inflight.append(_Item(await self._execute(*item)))
            except Exception as error:
                if feed.refused(item, error):
                    break

    async def _has_next(self) -> bool:
        """Wait for the input's next item; False if the oldest result is there before."""
        if self._taking is None:
            self._taking = asyncio.ensure_future(_next_of_all(self._sources))
        while not self._taking.done():
            oldest = self._feed.inflight[0] if self._feed.inflight else None
            arrivals = [] if oldest is None else _arrivals(oldest)
            if oldest is not None and not arrivals:
                return False
            await asyncio.wait([self._taking, *arrivals], return_when=asyncio.FIRST_COMPLETED)
        return True

    def _take(self) -> tuple[Any, ...]:
        taking, self._taking = self._taking, None
        assert taking is not None, "_has_next has waited for it"
        return taking.result()

    def _cancel_taking(self) -> None:
        taking, self._taking = self._taking, None
        if taking is not None and not taking.done():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                taking.get_loop().call_soon_threadsafe(taking.cancel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._feed.close()
        self._cancel_taking()


class ProgressBar:
    """Shows on the standard error stream how many items are done, from the first result on."""

    def __init__(self, name: str, iterables: Sequence[object]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        lengths = [len(iterable) for iterable in iterables if hasattr(iterable, "__len__")]
        self._task = self._progress.add_task(name, total=min(lengths, default=None))

    def advance(self) -> None:
        """One more item is done."""
        self._progress.start()
        self._progress.advance(self._task)

    def stop(self) -> None:
        """Leave what is shown. Idempotent."""
        self._progress.stop()


def aiter_of(iterable: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """An asynchronous iterator over either kind of iterable."""
    return iterable.__aiter__() if isinstance(iterable, AsyncIterable) else _each(iter(iterable))


async def _each(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def _next_of_all(sources: Sequence[AsyncIterator[Any]]) -> tuple[Any, ...]:
    return tuple([await source.__anext__() for source in sources])


async def _awaited(future: GraphFuture) -> Any:
    return await future


def _arrivals(item: _Item) -> list[asyncio.Future[Any]]:
    """What must still arrive of an item."""
    if item.error is not None:
        return []
    futures = [source.arrival for source in item.sources[len(item.values) :]]
    return [future for future in futures if future is not None and not future.done()]


def _is_pending(item: _Item) -> bool:
    """Whether a time-out came while the result was waited for, rather than as the result."""
    future = item.next_source
    return future is not None and future.arrival is not None
