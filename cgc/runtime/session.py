"""
What a running graph holds beside the driver's own state: its memory, its actors, and what became of them.

A `Session` starts the workers, notices deaths, says why a graph has ended, and ends it. It knows nothing of executions
and refs. Threads that serve a graph hold its session and never its driver, so that a driver that is no longer
referenced is collected and its session closed.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray
import ray.actor
import ray.exceptions
from ray.dag import DAGContext

from cgc.runtime import _core, protocol, ray_internals, worker
from cgc.runtime.cluster import ActorInfo, Member
from cgc.runtime.diagnosis import fetch_stacks
from cgc.runtime.hosts import kill_hosts
from cgc.runtime.inspection import description
from cgc.runtime.measure import Sample
from cgc.runtime.obituary import KILL_TIMEOUT, REASON_TIMEOUT, Obituary
from cgc.runtime.process_watch import is_running, wait_until_ended, watcher
from cgc.runtime.program import Program
from cgc.runtime.status import ParticipantStatus, read_status
from cgc.runtime.task_errors import fresh_copy

if TYPE_CHECKING:
    from cgc.runtime.communicators.groups import JoinOrder

RayChannelError: type[Exception] = ray.exceptions.RayChannelError

FAILURE_TIMEOUT = 4.5
"""Seconds for a worker to hand over the traceback of a failure."""

JOIN_POLL = 0.05
"""Seconds between two looks whether the graph has failed, while actors join communicators."""

MEASUREMENT_TIMEOUT = 30.0
"""Seconds for all actors to say what they have measured."""

START_TIMEOUT = 60.0
"""Seconds for all actors to start their loops."""

logger = logging.getLogger(__name__)


class Session:
    """
    The shared memory and the workers of one graph, from start to teardown. Thread-safe.

    Attributes:
        members: The actors, by participant number minus one.
        start_refs: By actor the call that started its loop.
    """

    def __init__(self, graph: str, arena: _core.Arena, members: Sequence[Member]) -> None:
        self.graph = graph
        self._arena: _core.Arena | None = arena
        self._owner = os.getpid()
        self.members = tuple(members)
        self.start_refs: dict[ray.actor.ActorHandle, ray.ObjectRef[Any]] = {}
        self._dead: set[int] = set()
        self._killed: set[int] = set()
        """Those of `_dead` that the user has killed from this process."""
        self._dead_raylets: set[int] = set()
        self._obituary: Obituary | None = None
        self._lock = threading.Lock()
        self._failure: Exception | None = None
        self._is_down = False
        self._watches = [
            watcher.watch(member.info.pid, lambda number=member.number: self._on_death(number))  # type: ignore[misc]
            for member in members
        ]
        self._watches += [
            watcher.watch(pid, lambda pid=pid: self._on_node_death(pid))  # type: ignore[misc]
            for pid in {member.info.raylet_pid for member in members} - {0}
        ]
        _sessions.add(self)

    @classmethod
    def start(
        cls,
        programs: Mapping[str, Program],
        actors: Mapping[str, ray.actor.ActorHandle],
        infos: Mapping[str, ActorInfo],
        *,
        max_bytes: int = 0,
        spin_us: int = -1,
        measure: bool = False,
        hosts: Collection[str] = (),
    ) -> Session:
        """
        Allocate the graph's memory and start a worker on each actor; `hosts` are those that end with the graph.

        If one cannot start, the others are stopped, nothing is left, and the error names the actor.
        """
        graph = next(iter(programs.values())).graph
        groups = _groups(programs.values(), actors)
        members = [
            Member(number, symbol, handle, infos[symbol], programs[symbol], symbol in hosts)
            for number, (symbol, handle) in enumerate(actors.items(), start=1)
        ]
        rings = _rings(programs.values())
        about = description(graph, os.getpid(), [(str(member), member.info.pid, member.program) for member in members])
        arena = _core.Arena.create([*rings, (1, 1, len(about))], len(actors) + 1, max_bytes, spin_us)
        arena.writer(len(rings)).write(0, about)
        session = cls(graph, arena, members)
        try:
            session._start_workers(groups, measure)
        except BaseException:
            session.close()
            raise
        finally:
            arena.release_handle()
        return session

    @property
    def arena(self) -> _core.Arena:
        """The graph's memory; RuntimeError after `release`."""
        if self._arena is None:
            raise RuntimeError(f"graph {self.graph} was torn down and its memory released")
        return self._arena

    @property
    def is_down(self) -> bool:
        """Whether the graph was torn down, by the user or because the driver is gone."""
        return self._is_down

    @property
    def ended_untold(self) -> bool:
        """Whether an actor or a failure has ended the graph, and nobody has asked for the reason yet."""
        return self._failure is None and not self._is_down and self.arena.closed is not None

    @property
    def has_died(self) -> bool:
        """Whether the death of an actor has ended the graph, before anybody tore it down."""
        if self._failure is not None:
            return isinstance(self._failure, ray.exceptions.ActorDiedError)
        closed = None if self._arena is None else self._arena.closed
        return closed is not None and closed[0] in (protocol.CLOSED_BY_ACTOR_DEATH, protocol.CLOSED_BY_ACTOR_EXIT)

    @property
    def ended_told(self) -> bool:
        """Whether the graph has ended, and the user knows: by teardown, or by an error that said why."""
        return self._is_down or self._failure is not None

    def status(self, stack_timeout: float = 0.0) -> list[ParticipantStatus]:
        """
        What each actor is doing now; nothing after `release`.

        Those who do not just wait for a message are asked for their stacks if `stack_timeout`, in seconds, is positive.
        """
        if self._arena is None:
            return []
        now = time.monotonic_ns()
        statuses = [
            read_status(str(member), member.program, self.arena.progress(member.number), now) for member in self.members
        ]
        if stack_timeout <= 0:
            return statuses
        late = {
            status.actor: member
            for member, status in zip(self.members, statuses, strict=True)
            if status.activity != "waiting"
        }
        stacks = fetch_stacks(
            self.graph,
            {actor: member.handle for actor, member in late.items()},
            {actor: member.info.pid for actor, member in late.items()},
            stack_timeout,
        )
        return [dataclasses.replace(status, stack=stacks.get(status.actor, "")) for status in statuses]

    def measurements(self) -> dict[str, list[list[Sample]]]:
        """
        By actor, when each operation of its program ran; see `worker.measurements`.

        Raises `GetTimeoutError` if an actor does not answer in time, RuntimeError if the graph does not measure.
        """
        refs = {
            member.symbol: ray_internals.call_on_actor(member.handle, worker.measurements, self.graph)
            for member in self.members
        }
        found = ray.get(list(refs.values()), timeout=MEASUREMENT_TIMEOUT)
        return dict(zip(refs, found, strict=True))

    def failure(self) -> Exception:
        """
        Why the closed graph has ended, as the exception to raise.

        Takes up to `REASON_TIMEOUT` seconds the first time; for a death, later ones may know more.
        """
        with self._lock:
            if self._is_down:  # perhaps by ray.shutdown: Ray is not asked any more
                return self._torn_down() if self._failure is None else fresh_copy(self._failure)
            if self._failure is None:
                self._failure = fresh_copy(self._find_reason())
            elif self._obituary is not None and not self._obituary.is_complete:
                self._failure = fresh_copy(self._obituary.error())
            return fresh_copy(self._failure)

    def close(self) -> None:
        """End the graph without waiting for anybody: the workers' loops end by themselves. Idempotent, any thread."""
        if os.getpid() != self._owner:  # a fork of the driver ends: the graph is not its own
            return
        self._is_down = True
        if self._arena is not None:
            self._arena.close(protocol.CLOSED_BY_TEARDOWN, protocol.DRIVER_PARTICIPANT)
        for watch in self._watches:
            watcher.forget(watch)

    def release(self) -> None:
        """Let go of the graph's memory, after `close`. What users hold of it stays."""
        self._arena = None

    def on_kill(self, actor_id: str) -> None:
        """The user has killed an actor, perhaps one of the graph: it ends now, not when the process does."""
        for member in self.members:
            if member.info.actor_id == actor_id:
                self._killed.add(member.number)
                self._on_death(member.number)

    def wait_for_the_dead(self, timeout: float) -> None:
        """
        Wait until the processes of dead actors have ended, at most `timeout` seconds.

        Those that were killed, or whose raylet was, may still answer for a while.
        """
        deadline = time.monotonic() + timeout
        for member in self.members:
            if member.number in self._dead or member.info.raylet_pid in self._dead_raylets:
                wait_until_ended(member.info.pid, max(0.0, deadline - time.monotonic()))

    def teardown(self, kill_actors: bool = False) -> None:
        """
        End the graph and wait for the workers' loops, at most `DAGContext.teardown_timeout` seconds. Idempotent.

        With `kill_actors` also wait, at most as long, until their processes have ended: `ray.kill` returns before, and
        an actor may still answer then.
        """
        timeout = DAGContext.get_current().teardown_timeout
        if not self._is_down:
            self.close()
            self._wait_for_workers(timeout)
            kill_hosts(member.handle for member in self.members if member.is_host)
        if kill_actors:
            for member in self.members:
                ray.kill(member.handle)
            deadline = time.monotonic() + timeout
            for member in self.members:
                wait_until_ended(member.info.pid, max(0.0, deadline - time.monotonic()))

    def _start_workers(self, groups: Mapping[str, Mapping[str, JoinOrder]], measure: bool) -> None:
        refs = {
            member.symbol: ray_internals.call_on_actor(
                member.handle,
                worker.start_worker,
                worker.WorkerOrder(
                    member.program,
                    member.number,
                    self.arena.handle,
                    os.getpid(),
                    groups.get(member.symbol, {}),
                    measure,
                ),
            )
            for member in self.members
        }
        self.start_refs = {member.handle: refs[member.symbol] for member in self.members}
        ray.wait(list(refs.values()), num_returns=len(refs), timeout=START_TIMEOUT) if refs else None
        for member in self.members:
            try:
                ray.get(refs[member.symbol], timeout=0)
            except ray.exceptions.GetTimeoutError:
                raise ray.exceptions.GetTimeoutError(
                    f"actor {member} did not start its loop within {START_TIMEOUT:g} s"
                ) from None
            except ray.exceptions.RayActorError as error:
                raise ray_internals.prefix_actor_error(error, f"Actor {member} died at the graph's start. ") from None
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", error)
                raise RuntimeError(f"actor {member} cannot take part in the graph: {cause}") from error
        for member in self.members:
            if member.symbol in groups:
                self._wait_until_joined(member)

    def _wait_until_joined(self, member: Member) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self.arena.wait_state(member.number, protocol.STATE_RUNNING, JOIN_POLL):
            if self.arena.closed is not None:
                raise self.failure()
            if time.monotonic() > deadline:
                raise ray.exceptions.GetTimeoutError(
                    f"actor {member} did not join its communicators within {START_TIMEOUT:g} s"
                )
        if self.arena.closed is not None:  # whoever has left has been past RUNNING, or could not join
            raise self.failure()

    def _on_death(self, number: int) -> None:
        self._dead.add(number)
        if self._arena is not None:
            self._arena.close(protocol.CLOSED_BY_ACTOR_DEATH, number)

    def _on_node_death(self, raylet_pid: int) -> None:
        """Without its raylet a node is dead; Ray's workers notice it within a second or so, and end."""
        self._dead_raylets.add(raylet_pid)
        if self._arena is not None:
            first = next(member.number for member in self.members if member.info.raylet_pid == raylet_pid)
            self._arena.close(protocol.CLOSED_BY_ACTOR_DEATH, first)

    def _find_reason(self) -> Exception:
        code, culprit = self.arena.closed or (0, 0)
        if code == protocol.CLOSED_BY_TEARDOWN or not 1 <= culprit <= len(self.members):
            return self._torn_down()
        member = self.members[culprit - 1]
        if code == protocol.CLOSED_BY_WORKER_FAILURE:
            return self._worker_failure(member)
        self._obituary = self._write_obituary(member, left_by_itself=code == protocol.CLOSED_BY_ACTOR_EXIT)
        return self._obituary.error()

    def _write_obituary(self, member: Member, left_by_itself: bool) -> Obituary:
        if left_by_itself:
            return Obituary(member, self.graph, "exit_actor() was called in a method", may_answer=False)
        if member.number in self._killed:
            return Obituary(member, self.graph, "it was killed by `ray.kill`", patience=KILL_TIMEOUT)
        raylet = member.info.raylet_pid
        if raylet in self._dead_raylets:
            patience = REASON_TIMEOUT if member.number in self._dead else 0.0
            return Obituary(member, self.graph, f"its node's raylet, process {raylet}, has ended", patience=patience)
        return Obituary(member, self.graph, "its process ended")

    def _torn_down(self) -> Exception:
        return RayChannelError(f"Channel closed. Graph {self.graph} was torn down.")

    def _worker_failure(self, member: Member) -> Exception:
        try:
            ref = ray_internals.call_on_actor(member.handle, worker.take_failure, self.graph)
            what, details = ray.get(ref, timeout=FAILURE_TIMEOUT)
        except Exception as error:
            what, details = worker.CGC_FAILED, f"(its traceback cannot be had: {error})"
        return RayChannelError(f"{what} in the worker of actor {member}:\n{details}")

    def _wait_for_workers(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for member in self.members:
            while member.number not in self._dead:
                remaining = deadline - time.monotonic()
                if self.arena.wait_state(member.number, protocol.STATE_EXITED, max(0.0, min(remaining, 0.1))):
                    break
                if not is_running(member.info.pid):
                    self._dead.add(member.number)
                elif remaining <= 0:
                    logger.warning(
                        "graph %s: %s after teardown_timeout (%g s) of teardown(); the actor's loop ends when the "
                        "method returns. Use teardown(kill_actors=True) to end the actor.",
                        self.graph,
                        self.status()[member.number - 1],
                        timeout,
                    )
                    break


def _on_kill(actor_id: str) -> None:
    for session in list(_sessions):
        session.on_kill(actor_id)


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()

ray_internals.observe_kills(_on_kill)


def _groups(
    programs: Iterable[Program], actors: Mapping[str, ray.actor.ActorHandle]
) -> dict[str, dict[str, JoinOrder]]:
    """The communicators of each actor. Raises `ValueError` for one that does not fit the graph."""
    programs = list(programs)
    if not any(program.communicators for program in programs):
        return {}
    from cgc.runtime.communicators.groups import plan_groups

    return plan_groups(programs, actors)


def _rings(programs: Iterable[Program]) -> list[tuple[int, int, int]]:
    """(readers, slots, slot bytes) of each channel of the graph, by the channel's index."""
    channels = {channel.index: channel for program in programs for channel in program.channels}
    unknown = sorted(
        {channel.kind for channel in channels.values() if not (channel.communicator or channel.returns)} - {"shm"}
    )
    if unknown:
        raise ValueError(f"not yet supported: channels of kind {', '.join(unknown)}")
    if sorted(channels) != list(range(len(channels))):
        raise ValueError(f"the channels' indices are not 0 to {len(channels) - 1}: {sorted(channels)}")
    return [(len(channel.readers), channel.slots, channel.slot_bytes) for _, channel in sorted(channels.items())]
