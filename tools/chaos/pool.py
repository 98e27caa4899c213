"""The actors that rounds play with: named, so that another driver finds them, and replaced when they have died."""

from __future__ import annotations

import itertools
import time
from collections import deque
from random import Random

import ray
import ray.actor

from cgc.runtime.process_watch import is_running
from tools.chaos.faults import Victim
from tools.chaos.graphs import MemberActor

NAMESPACE = "chaos"

SPARES = 3
"""Actors that are being started while rounds are played: starting one takes longer than a round."""

DYING = 60.0
"""Seconds that a process may take to end on a busy machine."""


class Pool:
    """
    A fixed number of live actors.

    Attributes:
        replaced: Actors that have died and were replaced.
    """

    def __init__(self, size: int) -> None:
        self.replaced = 0
        self._serial = itertools.count()
        self._names: dict[str, Victim] = {}
        self._spares: deque[tuple[str, ray.actor.ActorHandle, ray.ObjectRef[int]]] = deque()
        self._add(size)

    def borrow(self, random: Random, count: int) -> list[Victim]:
        """Some of the actors, in random order."""
        return random.sample(list(self._names.values()), count)

    def names_of(self, members: list[Victim]) -> list[str]:
        """The actors' names, for `ray.get_actor`."""
        by_pid = {member.pid: name for name, member in self._names.items()}
        return [by_pid[member.pid] for member in members]

    def renew(self, dying: Victim | None) -> list[str]:
        """
        Replace those whose process has ended, after `dying` had time to end; returns what went wrong.

        An actor that leaves by itself, or that `ray.kill` ends, takes a while to be gone.
        """
        deadline = time.monotonic() + DYING
        while dying is not None and is_running(dying.pid) and time.monotonic() < deadline:
            time.sleep(0.01)  # the interval of polling a condition with a deadline
        problems = [f"{dying} is alive"] if dying is not None and is_running(dying.pid) else []
        dead = [name for name, member in self._names.items() if member is dying or not is_running(member.pid)]
        self.replaced += len(dead)
        for name in dead:
            del self._names[name]
        self._add(len(dead))
        return problems

    @property
    def members(self) -> list[Victim]:
        return list(self._names.values())

    def _add(self, count: int) -> None:
        while len(self._spares) < count + SPARES:
            name = f"member-{next(self._serial)}"
            handle = MemberActor.options(name=name, num_cpus=0).remote()
            self._spares.append((name, handle, handle.pid.remote()))
        for _ in range(count):
            name, handle, pid = self._spares.popleft()
            self._names[name] = Victim(handle, ray.get(pid))
