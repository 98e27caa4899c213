"""
How a worker calls the methods of its actor.

A plain method runs in the worker's thread. An `async def` method runs where Ray runs it: as a task on the event loop of
the actor (of its concurrency group, if it has one), beside the actor's other coroutines, while the worker waits. So the
calls of a graph keep their order, and what the coroutine shares with others is touched by the loop's thread alone.
Which of the two a method is, is found out when the graph starts; calling a plain one costs nothing more.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cgc.runtime import ray_internals
from cgc.runtime.program import Call


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """
    A method as a step calls it.

    Attributes:
        name: For messages: `Worker.fwd`, or `preprocess` for a remote function.
        call: Takes the method's arguments, returns its result or raises what it raises.
    """

    name: str
    call: Callable[..., Any]


def bind_method(instance: Any, operation: Call) -> BoundMethod:
    """
    The method of `instance` that an operation calls.

    Raises AttributeError if there is none, and TypeError for one that has no single result.
    """
    class_name = type(instance).__name__
    # A host has its function's name, and so has its method.
    name = operation.method if operation.method == class_name else f"{class_name}.{operation.method}"
    method = getattr(instance, operation.method)
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(
            f"{_at(operation)}{name} is a generator, which has no one result; return a list of what it yields"
        )
    if not inspect.iscoroutinefunction(method):
        return BoundMethod(name, method)
    loop = ray_internals.event_loop_of(instance, operation.method)
    if loop is None:
        raise TypeError(
            f"{_at(operation)}{name} is an async method, but Ray gave its actor no event loop, which it does only for"
            " classes that have async methods; define the method in the class"
        )
    return BoundMethod(name, functools.partial(_call_on_loop, loop, method))


def _call_on_loop(loop: asyncio.AbstractEventLoop, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    result, error = asyncio.run_coroutine_threadsafe(_outcome(method, args, kwargs), loop).result()
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # its traceback leads to this frame: a cycle would keep the arguments until the next collection


async def _outcome(
    method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, BaseException | None]:
    """The result or the exception as values: SystemExit, raised in a task, would end the actor's event loop."""
    try:
        return await method(*args, **kwargs), None
    except BaseException as error:
        return None, error


def _at(operation: Call) -> str:
    return f"{operation.location}: " if operation.location else ""
