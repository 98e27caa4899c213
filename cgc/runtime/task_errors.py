"""
User exceptions as values: they travel through channels to the outputs that depend on them, and nowhere else.

An `ErrorValue` stays in its encoded form on its way, so that an actor in the middle needs neither the exception's class
nor the time to decode it; only the driver makes it an exception again.
"""

from __future__ import annotations

import functools
import os
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
import ray.cloudpickle
from ray.exceptions import RayTaskError

import cgc
from cgc.runtime import ray_internals

_OURS = tuple(str(Path(file).parent) + os.sep for file in (cgc.__file__, ray.cloudpickle.__file__))
"""Directories of the code through which cgc calls and pickles what users give it."""


class ErrorValue:
    """Takes the place of a value that could not be computed, sent or received."""

    __slots__ = ("blob",)

    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    @classmethod
    def from_exception(cls, error: BaseException, where: str, *, note: str = "", instance: Any = None) -> ErrorValue:
        """
        Wrap `error` like Ray wraps a task's: with its traceback from the user's first frame on, process and actor.

        Args:
            error: What was raised. Not an `Exception` (KeyboardInterrupt, say): it travels as a RuntimeError, so that
                it is an error of that execution, not a signal to the driver's process.
            where: Name of the operation, for the error's head line: `A.fwd`.
            note: One more line, for example the node and its source line.
            instance: The actor's instance.
        """
        text = _format_traceback(error)
        if note:
            # In front of the frames: programs look at the end of the text for what was raised, as they do with Ray.
            head = "Traceback (most recent call last):\n"
            text = f"{head}  {note}\n{text.removeprefix(head)}"
        cause = error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
        task_error = RayTaskError(
            function_name=where,
            traceback_str=text,
            cause=cause,
            proctitle=f"ray::{where}",
            pid=os.getpid(),
            ip=_node_ip(),
            actor_repr=None if instance is None else _safe_repr(instance),
            actor_id=None if instance is None else _own_actor_id(),
        )
        return cls(ray_internals.dump_task_error(task_error))

    def to_exception(self) -> Exception:
        """The exception to raise: an instance of RayTaskError and, where possible, of the user's class."""
        error = ray_internals.load_task_error(self.blob)
        if isinstance(error, RayTaskError):
            error = error.as_instanceof_cause()
        return error


def fresh_copy(error: Exception) -> Exception:
    """
    The same error, to be raised: one that is raised again and again collects frames, and they what users hold there.
    """
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__, copy.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copy


def _format_traceback(error: BaseException) -> str:
    """Without the frames that lead to the user's code, which tell the user nothing."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _safe_repr(instance: Any) -> str:
    try:
        return repr(instance)
    except Exception:
        return f"<{type(instance).__name__}>"


@functools.cache
def _node_ip() -> str:
    return str(ray.util.get_node_ip_address())


@functools.cache
def _own_actor_id() -> str | None:
    own: str | None = ray.get_runtime_context().get_actor_id()
    return own
