"""The actors that rounds play with: named, so that another driver finds them, and replaced when they have died."""

from __future__ import annotations

import itertools
import os
from random import Random

import ray
import ray.exceptions

from tools.chaos.faults import Victim
from tools.chaos.graphs import MemberActor

NAMESPACE = "chaos"


class Pool:
    """A fixed number of live actors."""

    def __init__(self, size: int) -> None:
        self._serial = itertools.count()
        self._names: dict[str, Victim] = {}
        self._add(size)

    def borrow(self, random: Random, count: int) -> list[Victim]:
        """Some of the actors, in random order."""
        return random.sample(list(self._names.values()), count)

    def names_of(self, members: list[Victim]) -> list[str]:
        """The actors' names, for `ray.get_actor`."""
        by_pid = {member.pid: name for name, member in self._names.items()}
        return [by_pid[member.pid] for member in members]

    def renew(self) -> int:
        """Replace those whose process has ended; returns how many."""
        dead = [name for name, member in self._names.items() if not _is_alive(member.pid)]
        for name in dead:
            del self._names[name]
        self._add(len(dead))
        return len(dead)

    @property
    def members(self) -> list[Victim]:
        return list(self._names.values())

    def _add(self, count: int) -> None:
        names = [f"member-{next(self._serial)}" for _ in range(count)]
        handles = [MemberActor.options(name=name, num_cpus=0).remote() for name in names]
        pids = ray.get([handle.pid.remote() for handle in handles])
        self._names |= {name: Victim(*pair) for name, pair in zip(names, zip(handles, pids, strict=True), strict=True)}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0] not in "ZX"
