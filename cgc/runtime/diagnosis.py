"""
What a late actor is doing, line by line: the Python stack of the thread that runs its program.

It is asked for by a call beside the actor's own methods, which a method that computes, sleeps or waits does not hinder.
What hinders it, C code that keeps the interpreter's lock or a stopped process, is told instead of the stack.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.actor
import ray.exceptions

from cgc.runtime import ray_internals, worker
from cgc.runtime.process_watch import process_state

STACK_TIMEOUT = 0.5
"""Seconds that actors have to send their stacks; an idle machine takes two milliseconds."""

SHORTEST_WAIT = 0.5
"""Seconds of time-out from which its error has stacks: who polls with short ones does not want to wait for them."""

logger = logging.getLogger(__name__)

_STATES = {
    "T": "its process is stopped (SIGSTOP, or a debugger)",
    "t": "its process is stopped by a debugger",
    "D": "its process waits in the kernel, for a disk or a network file system perhaps",
    "R": "its process computes: C code may be keeping the interpreter's lock",
    "": "its process has ended",
    "Z": "its process has ended",
}

_NOT_THE_USERS = (str(Path(__file__).parent), str(Path(ray.__file__).parent), threading.__file__)
"""Where the frames between the thread's start and the user's method come from."""


def patience_after(timeout: float) -> float:
    """Seconds to wait for stacks after a time-out of that many seconds: 0 is not to ask."""
    return min(STACK_TIMEOUT, timeout / 20) if timeout >= SHORTEST_WAIT else 0.0


def fetch_stacks(
    graph: str, actors: Mapping[str, ray.actor.ActorHandle], pids: Mapping[str, int], timeout: float
) -> dict[str, str]:
    """The stacks of the actors' threads for `graph`, by the keys of `actors`; why there is none, in parentheses."""
    if not actors:
        return {}
    try:
        refs = {key: ray_internals.call_on_actor(actor, read_stack, graph) for key, actor in actors.items()}
        ray.wait(list(refs.values()), num_returns=len(refs), timeout=timeout)
        return {key: _receive(ref, pids[key], timeout) for key, ref in refs.items()}
    except Exception:  # Ray is shut down, say: the error that the stacks were to explain must be told all the same
        logger.debug("graph %s: no stacks", graph, exc_info=True)
        return {}


def read_stack(_instance: Any, graph: str) -> str:
    """Runs on the actor: the stack of the graph's thread, innermost frame last, from the user's first frame on."""
    thread = worker.thread_of(graph)
    frame = None if thread is None else sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "(the actor has no thread for the graph any more)"
    frames = traceback.extract_stack(frame)
    first = next((i for i, each in enumerate(frames) if not each.filename.startswith(_NOT_THE_USERS)), 0)
    return "".join(traceback.format_list(frames[first:]))


def _receive(ref: ray.ObjectRef[Any], pid: int, timeout: float) -> str:
    try:
        text: str = ray.get(ref, timeout=0)
    except ray.exceptions.GetTimeoutError:
        state = _STATES.get(process_state(pid), "")
        return f"(no stack: no answer within {timeout:.2g} s{f'; {state}' if state else ''})"
    except ray.exceptions.RayError as error:
        return f"(no stack: {type(error).__name__})"
    return text.rstrip("\n")
