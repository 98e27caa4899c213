"""
What goes wrong in a round, and which errors may be seen then.

Value faults spoil one execution: a method raises, or gives a value that cannot be sent or read. System faults end the
graph (a process dies, the graph is torn down in the middle) or hold it up (a process is stopped, Ctrl-C is pressed).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import ray
import ray.actor
import ray.exceptions

from tools.chaos.graphs import Bad, ChaosError

VALUE_FAULTS = ("raise", "raise", "unpicklable", "unreadable", "huge")
"""Faults that a plan gives to a call, each spoiling one execution."""

DEATHS_BY_PLAN = ("exit", "sys_exit", "leave")
"""Faults that a plan gives to a call, each ending the actor's process from within."""

DEATHS_FROM_OUTSIDE = ("kill", "ray_kill", "stop_kill", "segv")

SYSTEM_FAULTS = (*DEATHS_BY_PLAN, *DEATHS_FROM_OUTSIDE, "stop", "teardown", "interrupt")

ENDED = (ray.exceptions.ActorDiedError, ray.exceptions.RayChannelError)
"""What a graph that has ended raises."""


@dataclass(frozen=True)
class Victim:
    """An actor that a system fault is aimed at."""

    handle: ray.actor.ActorHandle
    pid: int

    @property
    def actor_id(self) -> str:
        """As Ray's errors print it."""
        return str(self.handle._actor_id.hex())


def strike(fault: str, victim: Victim) -> None:
    """Apply a fault from outside to an actor's process."""
    if fault == "ray_kill":
        ray.kill(victim.handle)
        return
    signals = {
        "kill": (signal.SIGKILL,),
        "segv": (signal.SIGSEGV,),
        "stop": (signal.SIGSTOP,),
        "stop_kill": (signal.SIGSTOP, signal.SIGKILL),
    }
    for number in signals[fault]:
        os.kill(victim.pid, number)


def resume(victim: Victim) -> None:
    """End a stop."""
    os.kill(victim.pid, signal.SIGCONT)


def later(random: Random, action: Callable[[], Any]) -> threading.Timer:
    """Do something at a random moment of the next few milliseconds, in another thread."""
    timer = threading.Timer(random.uniform(0, 0.02), action)
    timer.start()
    return timer


def press_ctrl_c() -> None:
    """SIGINT to the main thread of this process."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def explains(error: BaseException, expected: str) -> bool:
    """Whether an error is that of the value fault with this tag."""
    if isinstance(error, MemoryError):
        return "shared memory" in str(error) or "cannot be sent" in str(error)
    return isinstance(error, ray.exceptions.RayTaskError | ChaosError | TypeError) and expected in str(error)


def unpicklable_input(execution: int) -> Bad:
    """An input that `execute` has to refuse."""
    return Bad("unpicklable", f"input-{execution}.")
