"""
What has to hold after each round: nobody hangs, nothing is left, survivors answer.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import ray
import ray.actor

from tools.chaos.graphs import Footprint, footprint

RAYS_OWN = ("plasma", "ray", "sem.")
"""Names in `/dev/shm` that Ray gives: the object store, and the semaphores of its own compiled graphs."""

CLEAN_UP = 10.0
"""Seconds that asynchronous clean-up may take on a busy machine."""

ANSWER = 60.0
"""Seconds for a survivor to answer a normal call."""

Found = TypeVar("Found")


def shared_memory_names() -> set[str]:
    """Files in `/dev/shm` that are not the object store's."""
    return {path.name for path in Path("/dev/shm").iterdir() if not path.name.startswith(RAYS_OWN)}


def leftovers_here(names_before: set[str]) -> list[str]:
    """What a graph has left in this process or in `/dev/shm`, after it had time to go."""
    gc.collect()
    here = _wait_for(footprint, lambda found: found.is_clean)
    names = _wait_for(lambda: shared_memory_names() - names_before, lambda found: not found)
    problems = [] if here.is_clean else [f"left in the driver: {here}"]
    return problems + ([f"left in /dev/shm: {sorted(names)}"] if names else [])


def leftovers_of(survivors: Sequence[ray.actor.ActorHandle]) -> list[str]:
    """What a graph has left in actors that live on; an actor that does not answer is a finding too."""
    problems = []
    for survivor in survivors:
        try:
            found = _wait_for(lambda: _look(survivor), lambda found: found.is_clean)
        except ray.exceptions.RayError as error:
            problems.append(f"survivor {survivor} does not answer: {error!r}")
            continue
        if not found.is_clean:
            problems.append(f"left in {survivor}: {found}")
    return problems


def zombies() -> list[str]:
    """Children of this process that have ended and were not waited for."""
    children = psutil.Process().children()
    return [f"zombie {child.pid}" for child in children if child.status() == psutil.STATUS_ZOMBIE]


def _look(actor: ray.actor.ActorHandle) -> Footprint:
    found: Footprint = ray.get(actor.look.remote(), timeout=ANSWER)
    return found


def _wait_for(look: Callable[[], Found], is_good: Callable[[Found], bool]) -> Found:
    """Look until it is good, or time is up; the last look."""
    deadline = time.monotonic() + CLEAN_UP
    found = look()
    while not is_good(found) and time.monotonic() < deadline:
        time.sleep(0.01)  # the interval of polling a condition with a deadline
        found = look()
    return found
