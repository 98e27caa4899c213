"""
The worker side: an actor that takes part in a graph runs its program in a thread of its own.

`start_worker` runs on the actor, beside its methods, so that normal calls keep working and one actor can serve many
graphs. The thread ends when the graph's arena is closed: by the driver's teardown, by the death of the driver or of
another actor, or by a failure of cgc or of a communicator, whose traceback the driver fetches with `take_failure`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayChannelError

from cgc.runtime import _core, protocol, ray_internals
from cgc.runtime.accelerators import base
from cgc.runtime.alloc import Home
from cgc.runtime.arguments import Step
from cgc.runtime.link import ActorExitRequest, link
from cgc.runtime.measure import Recorder, Sample
from cgc.runtime.process_watch import NO_WATCH, watcher
from cgc.runtime.program import Collective, Program

if TYPE_CHECKING:
    from cgc.runtime.communicators.groups import JoinOrder, WorkerGroups

DEATH_NEWS_TIMEOUT = 1.0
"""Seconds in which the driver tells who died, after a communicator has failed; then the failure itself is told."""

CGC_FAILED = "cgc failed"
"""What has failed, if it was no communicator."""

MAX_KEPT_FAILURES = 16
"""Tracebacks of failed graphs that nobody fetched."""

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_threads: dict[str, threading.Thread] = {}
_failures: dict[str, tuple[str, str]] = {}
_recorders: dict[str, Recorder] = {}


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """
    What an actor is told when a graph starts.

    Attributes:
        program: What to do once per execution.
        participant: The actor's number in the graph; the driver is 0.
        arena: Where the graph's memory is.
        driver_pid: Process whose end ends the graph.
        groups: The communicators to join, by their names in the program.
        measure: Whether to note when each operation starts and ends.
    """

    program: Program
    participant: int
    arena: _core.ArenaHandle
    driver_pid: int
    groups: Mapping[str, JoinOrder] = field(default_factory=dict)
    measure: bool = False


def start_worker(instance: Any, order: WorkerOrder) -> int:
    """
    Attach to the graph's memory, link the program and start its thread; returns this process's id.

    Communicators are joined by the thread, so that the actor can be called meanwhile; then its state is RUNNING.

    Raises AttributeError for a method that the actor does not have, ImportError where communicators need a library,
    OSError and `ChannelCorrupt` where the memory of the driver cannot be attached to. After an error nothing is left.
    """
    graph = order.program.graph
    arena = _core.Arena.attach(order.arena)
    groups = _groups(order, arena)
    writers: dict[str, _core.Writer] = {}
    recorder = Recorder(len(order.program.operations)) if order.measure else None
    noting = None if recorder is None else recorder.noting
    endings: list[Step] = []
    steps = link(order.program, instance, arena, groups, writers=writers, noting=noting, endings=endings)
    home = Home(order.program, writers, arena.progress(order.participant))
    thread = threading.Thread(
        target=_serve,
        args=(graph, steps, endings, arena, order, groups, home),
        name=f"cgc-{graph}-{order.program.actor}",
        daemon=True,
    )
    with _lock:
        if graph in _threads:
            raise RuntimeError(f"graph {graph} runs in this process already")
        _threads[graph] = thread
        if recorder is not None:
            _recorders[graph] = recorder
    thread.start()
    return os.getpid()


def take_failure(_instance: Any, graph: str) -> tuple[str, str]:
    """What has failed and so closed the graph, and the traceback, perhaps empty; asking forgets it."""
    with _lock:
        return _failures.pop(graph, (CGC_FAILED, ""))


def measurements(_instance: Any, graph: str) -> list[list[Sample]]:
    """
    When each operation of the actor's program ran in the last executions, of a graph that measures.

    Raises RuntimeError if it does not, or has ended.
    """
    with _lock:
        recorder = _recorders.get(graph)
    if recorder is None:
        raise RuntimeError(f"graph {graph} does not measure here, or has ended")
    return recorder.samples()


def running_graphs(_instance: Any = None) -> list[str]:
    """Ids of the graphs that have a thread in this process."""
    with _lock:
        return sorted(_threads)


def thread_of(graph: str) -> threading.Thread | None:
    """The thread that runs the program of a graph in this process; None if there is none."""
    with _lock:
        return _threads.get(graph)


def _groups(order: WorkerOrder, arena: _core.Arena) -> WorkerGroups | None:
    if not order.groups and not any(isinstance(operation, Collective) for operation in order.program.operations):
        return None
    from cgc.runtime.communicators.groups import WorkerGroups

    accelerator = base.find(order.program.device or "cpu")
    return WorkerGroups(order.groups, order.program.actor, accelerator, lambda error: _fail(order, arena, error))


def _serve(
    graph: str,
    steps: list[Step],
    endings: list[Step],
    arena: _core.Arena,
    order: WorkerOrder,
    groups: WorkerGroups | None,
    home: Home,
) -> None:
    """The thread: run until the arena is closed, then leave nothing behind."""
    participant = order.participant
    watch = NO_WATCH
    leaving_because = ""
    try:
        watch = watcher.watch(
            order.driver_pid,
            lambda: _ignore(arena.close(protocol.CLOSED_BY_DRIVER_DEATH, protocol.DRIVER_PARTICIPANT)),
        )
        if groups is not None:
            groups.join(arena, participant)
        arena.set_state(participant, protocol.STATE_RUNNING)
        home.enter()
        run = _recorders[graph].run if order.measure else _run
        run(steps, arena.progress(participant))
    except _core.ChannelClosed:
        pass
    except ActorExitRequest as request:
        logger.info("graph %s: the actor leaves: %s", graph, request)
        arena.close(protocol.CLOSED_BY_ACTOR_EXIT, participant)
        leaving_because = str(request)
    except BaseException as error:
        _fail(order, arena, error)
    finally:
        watcher.forget(watch)
        steps.clear()
        _finish(graph, endings)
        if groups is not None:
            groups.leave()
        with _lock:
            _threads.pop(graph, None)
            _recorders.pop(graph, None)
        arena.set_state(participant, protocol.STATE_EXITED)
    if leaving_because:
        ray_internals.terminate_this_actor(leaving_because)


def _fail(order: WorkerOrder, arena: _core.Arena, error: BaseException) -> None:
    """End the graph because of what the actor's thread, or one of its streams, has raised."""
    if isinstance(error, _core.ChannelClosed):
        return
    what, details = CGC_FAILED, "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if isinstance(error, RayChannelError):
        if _is_closed_within(arena, DEATH_NEWS_TIMEOUT):
            return
        what, details = getattr(error, "what", "a communicator failed"), getattr(error, "details", details)
    graph, actor = order.program.graph, order.program.actor
    logger.error("graph %s: %s in the worker of @%s", graph, what, actor, exc_info=error)
    _keep_failure(graph, what, details)
    arena.close(protocol.CLOSED_BY_WORKER_FAILURE, order.participant)


def _run(steps: list[Step], progress: memoryview) -> None:
    """The loop: what a time-out reports of this actor is written here, before each operation."""
    now = time.monotonic_ns
    numbered_steps = list(enumerate(steps))
    execution = 0
    while True:
        execution += 1
        progress[0] = execution
        for number, step in numbered_steps:
            progress[1] = number
            progress[2] = now()
            step()


def _finish(graph: str, endings: list[Step]) -> None:
    """What steps have left to be done; a device that has failed does not stop the others from being told."""
    for end in endings:
        try:
            end()
        except Exception:
            logger.exception("graph %s: the device has failed", graph)
    endings.clear()


def _is_closed_within(arena: _core.Arena, timeout: float) -> bool:
    """Wait for somebody else to close the arena: after a peer's death a communicator fails before the driver knows."""
    deadline = time.monotonic() + timeout
    while arena.closed is None and time.monotonic() < deadline:
        time.sleep(0.001)
    return arena.closed is not None


def _keep_failure(graph: str, what: str, details: str) -> None:
    with _lock:
        while len(_failures) >= MAX_KEPT_FAILURES:
            _failures.pop(next(iter(_failures)))
        _failures[graph] = what, details


def _ignore(_: object) -> None:
    """Make a callback's result None."""
