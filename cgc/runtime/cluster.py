"""What the driver must know of the actors before a graph starts: where they are, and that they can take part."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.actor
import ray.exceptions

import cgc
from cgc.runtime import ray_internals
from cgc.runtime.accelerators.base import assigned as assigned_accelerators
from cgc.runtime.program import PROGRAM_VERSION, Program

PROBE_TIMEOUT = 60.0
"""Seconds for all actors to be alive and answer, by default: an actor may still be starting."""

EARLY_LOOK = 1.0
"""Seconds after which the actors that have answered are looked at, while others are still waited for."""


@dataclass(frozen=True, slots=True)
class Machine:
    """
    Where processes of one user can share memory and watch one another: a running system, and a view of its processes.

    Not a Ray node: one machine may run several of those, and a container is a machine of its own.
    """

    boot_id: str
    pid_namespace: str
    user_namespace: str
    user_id: int

    @classmethod
    def here(cls) -> Machine:
        """The one of this process."""
        return cls(
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
            pid_namespace=os.readlink("/proc/self/ns/pid"),
            user_namespace=os.readlink("/proc/self/ns/user"),
            user_id=os.geteuid(),
        )

    def difference(self, other: Machine) -> str:
        """Why memory cannot be shared with a process over there; empty if it can."""
        if self.boot_id != other.boot_id:
            return "on another machine"
        if (self.pid_namespace, self.user_namespace) != (other.pid_namespace, other.user_namespace):
            return "in another container of this machine"
        return "" if self.user_id == other.user_id else f"of another user (uid {other.user_id})"


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """
    An actor that answered.

    Attributes:
        pid: Its process.
        raylet_pid: The process whose end is that of its node; 0 where that is not known.
        node_id: Hex id of its node.
        node_ip: Address of its node.
        name: Its name in Ray, or an empty string.
        actor_id: Its hex id.
        class_name: Name of its class.
        accelerators: Ids of the accelerators that Ray ("GPU") or the actor itself assigned, by kind.
        versions: cgc's version and that of the programs that it runs.
        machine: Where it can share memory.
    """

    pid: int
    raylet_pid: int
    node_id: str
    node_ip: str
    name: str
    actor_id: str
    class_name: str
    accelerators: Mapping[str, tuple[str, ...]]
    versions: tuple[str, int]
    machine: Machine

    def describe(self, symbol: str) -> str:
        """For messages: `@b (Worker "name", actor 8f…, pid 71)`."""
        name = f' "{self.name}"' if self.name else ""
        return f"@{symbol} ({self.class_name}{name}, actor {self.actor_id}, pid {self.pid})"


@dataclass(frozen=True, slots=True)
class Member:
    """An actor of a graph: `number` is its participant number, from 1; a host belongs to the graph."""

    number: int
    symbol: str
    handle: ray.actor.ActorHandle
    info: ActorInfo
    program: Program
    is_host: bool = False

    def __str__(self) -> str:
        return self.info.describe(self.symbol)


def probe(actors: Mapping[str, ray.actor.ActorHandle], timeout: float = PROBE_TIMEOUT) -> dict[str, ActorInfo]:
    """
    Ask all actors at once who and where they are; keys are the actors' symbols.

    Raises `ActorDiedError` for a dead actor, `GetTimeoutError` for one that is not alive in time, `ValueError` for one
    that cannot take part: on another machine, or with another version of cgc. Each names the actor.
    """
    refs = {symbol: ray_internals.call_on_actor(actor, _describe) for symbol, actor in actors.items()}
    infos: dict[str, ActorInfo] = {}
    deadline = time.monotonic() + timeout
    for patience in (min(EARLY_LOOK, timeout), timeout):  # a dead actor is reported before a slow one is waited for
        waited_for = {ref: symbol for symbol, ref in refs.items() if symbol not in infos}
        if not waited_for:
            break
        remaining = max(0.0, min(patience, deadline - time.monotonic()))
        arrived, _ = ray.wait(list(waited_for), num_returns=len(waited_for), timeout=remaining)
        for ref in arrived:
            symbol = waited_for[ref]
            infos[symbol] = _receive(ref, describe_handle(symbol, actors[symbol]))
    missing = [describe_handle(symbol, actors[symbol]) for symbol in refs if symbol not in infos]
    if missing:
        raise ray.exceptions.GetTimeoutError(
            f"not alive after {timeout:g} s: {', '.join(missing)}: an actor may wait for resources, or its "
            "constructor or a method may still be running"
        )
    _require_same_machine(infos)
    _require_same_version(infos)
    return {symbol: infos[symbol] for symbol in actors}


def describe_handle(symbol: str, actor: ray.actor.ActorHandle) -> str:
    """For messages about an actor that has not answered: `@b (Worker, actor 8f…)`."""
    return f"@{symbol} ({ray_internals.actor_class_name(actor)}, actor {ray_internals.actor_id(actor)})"


def _describe(instance: Any) -> ActorInfo:
    """Runs on the actor."""
    context = ray.get_runtime_context()
    return ActorInfo(
        pid=os.getpid(),
        raylet_pid=ray_internals.raylet_pid(),
        node_id=context.get_node_id(),
        node_ip=ray.util.get_node_ip_address(),
        name=context.get_actor_name() or "",
        actor_id=context.get_actor_id() or "",
        class_name=type(instance).__name__,
        accelerators={
            **{kind: tuple(ids) for kind, ids in context.get_accelerator_ids().items() if ids},
            **assigned_accelerators(),
        },
        versions=(cgc.__version__, PROGRAM_VERSION),
        machine=Machine.here(),
    )


def _receive(ref: ray.ObjectRef[Any], label: str) -> ActorInfo:
    try:
        info: ActorInfo = ray.get(ref)
    except ray.exceptions.RayActorError as error:
        raise ray_internals.prefix_actor_error(error, f"Actor {label} cannot take part in a graph. ") from None
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ImportError):
            raise ValueError(f"actor {label} cannot import cgc: install it in the actors' environment too") from error
        raise
    return info


def _require_same_machine(infos: Mapping[str, ActorInfo]) -> None:
    here = Machine.here()
    elsewhere = [
        f"{info.describe(symbol)} on {info.node_ip}, {difference}"
        for symbol, info in infos.items()
        if (difference := here.difference(info.machine))
    ]
    if elsewhere:
        raise ValueError(
            f"not yet supported: actors on another node than the driver: {'; '.join(elsewhere)}. Place them with "
            "NodeAffinitySchedulingStrategy, or run the driver there"
        )


def _require_same_version(infos: Mapping[str, ActorInfo]) -> None:
    here = (cgc.__version__, PROGRAM_VERSION)
    other = [
        f"{info.describe(symbol)} has cgc {info.versions[0]} (programs v{info.versions[1]})"
        for symbol, info in infos.items()
        if info.versions != here
    ]
    if other:
        raise ValueError(f"the driver has cgc {here[0]} (programs v{here[1]}), but " + ", ".join(other))
