"""
The communicators of one graph: planned by the driver, joined and left by the workers.

`plan_groups` says who joins what as which rank. A worker joins in its own thread, before its first execution, and has a
*guard* while the graph runs: a thread that aborts the communicators when the graph's arena is closed, because an
operation of a communicator does not see that, and that ends the graph when one says that it has failed, because then
what is queued on a device may never run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
import ray.actor
from ray.experimental.channel.communicator import Communicator

from cgc.runtime import _core, protocol, ray_internals
from cgc.runtime.accelerators import base
from cgc.runtime.accelerators.interface import Accelerator, Event
from cgc.runtime.accelerators.transfers import Transfers
from cgc.runtime.communicators.comm_thread import CommunicationThread
from cgc.runtime.communicators.custom import CustomCommunicator, is_custom, lacks
from cgc.runtime.communicators.gloo import GlooCommunicator
from cgc.runtime.communicators.registry import REGISTRY
from cgc.runtime.lost_values import ValueNames, on_actor
from cgc.runtime.program import Collective, CommunicatorSpec, Program, Write
from cgc.runtime.program import Group as Together

if TYPE_CHECKING:
    from cgc.runtime.communicators.landing import LandingPool

GUARD_INTERVAL = 0.05
"""Seconds after which whoever is inside a communicator hears of the end of the graph, and the graph of its failure."""

Failed = Callable[[BaseException], None]
"""Is told, in any thread, why a communicator has failed."""

STREAM_STOP_TIMEOUT = 5.0
"""Seconds; a stream's thread ends at once when the graph has ended."""

METHODS = {"allreduce": "allreduce", "allgather": "allgather", "reduce_scatter": "reducescatter"}
"""What collectives are called in Ray's interface."""


@dataclass(frozen=True, slots=True)
class JoinOrder:
    """
    What an actor is told about a communicator.

    Attributes:
        key: The communicator's key in the registry of each process, unique to the graph.
        communicator: To be initialised.
        ranks: By symbol of the graph's actors.
    """

    key: str
    communicator: Communicator
    ranks: Mapping[str, int]


def plan_groups(
    programs: Iterable[Program], actors: Mapping[str, ray.actor.ActorHandle]
) -> dict[str, dict[str, JoinOrder]]:
    """
    Who joins what: orders by symbol of the actor, then by name of the communicator, in the same sequence for all.

    Raises `ValueError` for a communicator that does not fit the graph.
    """
    programs = list(programs)
    specs = {spec.name: spec for program in programs for spec in program.communicators}
    devices = {program.actor: program.device for program in programs}
    plan: dict[str, dict[str, JoinOrder]] = {}
    for name, spec in sorted(specs.items()):
        key = f"{programs[0].graph}/{name}"
        custom = spec.kind == "custom"
        if custom:
            _check_methods(spec, programs)
        order = _custom_order(key, spec, actors) if custom else _own_order(key, spec, actors, devices)
        for symbol in order.ranks:
            plan.setdefault(symbol, {})[name] = order
    return plan


class Group:
    """
    A communicator as the steps of a worker see it. `communicator` exists from the joining on.

    Attributes:
        accelerator: Where the tensors that it moves are: the actor's own, or the host.
        is_custom: Whether nothing is known of it but that it has Ray's interface: then one thread uses it at a time.
        is_interruptible: Whether its operations are woken by `abort`.
        may_wait_unheard: Whether they may wait for hours too, so that an actor can enter them before it knows that its
            peers will: a time-out would run meanwhile.
        transfers: For communicators that queue their operations on streams of the device; None for others.
    """

    __slots__ = (
        "_landing",
        "accelerator",
        "actor",
        "communicator",
        "is_custom",
        "is_interruptible",
        "may_wait_unheard",
        "own_rank",
        "ranks",
        "transfers",
    )

    def __init__(self, order: JoinOrder, actor: str, accelerator: Accelerator, landing: LandingPool) -> None:
        self.actor = actor
        self.ranks = order.ranks
        self.own_rank = order.ranks[actor]
        self.communicator: Any = None
        self.is_custom = is_custom(order.communicator)
        self.is_interruptible = isinstance(order.communicator, GlooCommunicator)
        self.may_wait_unheard = self.is_interruptible and order.communicator.timeout is None
        self.accelerator = base.find("cpu") if self.is_interruptible else accelerator
        self.transfers = Transfers(self.accelerator) if hasattr(order.communicator, "queue_send") else None
        self._landing = landing
        _support(self.accelerator)

    @property
    def device_type(self) -> str:
        """The accelerator's name, as in `torch.device`."""
        return self.accelerator.name

    @property
    def can_broadcast(self) -> bool:
        """Whether the communicator has what Ray's interface lacks; else the root sends to one after the other."""
        return hasattr(self.communicator, "broadcast")

    @property
    def can_group(self) -> bool:
        """Whether it can begin sends and receives together, which Ray's interface lacks, too."""
        names = ("start_send", "start_recv") if self.transfers is None else ("grouped",)
        return all(hasattr(self.communicator, name) for name in names)

    def allocator(self) -> Callable[[Sequence[int], Any], Any]:
        """A function that makes tensors without values where the communicator receives; for one operation."""
        return self._landing.register() if self.device_type == "cpu" else self.accelerator.empty

    def check(self) -> None:
        """Raise `RayChannelError` if operations that are queued have failed: what they have brought is not valid."""
        check = getattr(self.communicator, "check", None) if self.transfers is not None else None
        if check is not None:
            check()

    def ready(self) -> Event | None:
        """The point of the current stream up to which values have been computed; None where nothing is queued."""
        return None if self.transfers is None else self.accelerator.current_stream().record_event()


def _support(accelerator: Accelerator) -> None:
    from cgc.runtime.communicators import tensors  # needs torch, which a driver need not have

    tensors.support(accelerator.array_type, partial(base.find, accelerator.name))


class WorkerGroups:
    """
    All communicators that one actor uses in one graph; there may be none.

    Attributes:
        groups: By name.
        landing: Memory for what arrives on the host.
    """

    def __init__(
        self,
        orders: Mapping[str, JoinOrder],
        actor: str,
        accelerator: Accelerator,
        on_failure: Failed,
    ) -> None:
        """
        `accelerator` is the actor's own, or the host; `on_failure` hears what the streams' tasks raise, and once what a
        communicator's `check` does.
        """
        from cgc.runtime.communicators.landing import LandingPool  # needs torch, which a driver need not have

        self._orders = orders
        self._on_failure = on_failure
        self.landing = LandingPool()
        self.groups = {name: Group(order, actor, accelerator, self.landing) for name, order in orders.items()}
        self._acquired: list[str] = []
        self._streams: dict[int, CommunicationThread] = {}

    def stream(self, number: int) -> CommunicationThread:
        """The thread that is this actor's stream of that number."""
        if number not in self._streams:
            self._streams[number] = CommunicationThread(f"cgc-stream-{number}", self._on_failure)
        return self._streams[number]

    def check(self) -> None:
        """Raise `RayChannelError` if a communicator says that what it has brought is not valid."""
        for group in self.groups.values():
            group.check()

    @property
    def can_fail_unheard(self) -> bool:
        """Whether only `check` tells of failures: a communicator that waits for its operations raises instead."""
        return any(group.transfers is not None for group in self.groups.values())

    def join(self, arena: _core.Arena, participant: int) -> None:
        """
        Join them all, and start the guard. Blocks until all have joined.

        Raises what a communicator's `initialize` raises; then `leave` is still needed.
        """
        if not self._orders:
            return
        guard = _Guard(arena, self.groups, {name: order.key for name, order in self._orders.items()}, self._on_failure)
        threading.Thread(target=guard.run, args=(participant,), name="cgc-guard", daemon=True).start()
        for name, order in self._orders.items():
            group = self.groups[name]
            joining: Any = CustomCommunicator(order.communicator) if group.is_custom else order.communicator
            group.communicator = REGISTRY.acquire(order.key, joining, group.own_rank)
            self._acquired.append(order.key)

    def leave(self) -> None:
        """Give up all communicators, of which each last user destroys it, and end the streams. Idempotent."""
        while self._acquired:
            REGISTRY.release(self._acquired.pop())
        while self._streams:
            self._streams.popitem()[1].stop(STREAM_STOP_TIMEOUT)


class _Guard:
    """See the module; `keys` are those of the registry, by the names of the groups."""

    def __init__(
        self, arena: _core.Arena, groups: Mapping[str, Group], keys: Mapping[str, str], failed: Failed
    ) -> None:
        self._arena = arena
        self._groups = groups
        self._keys = keys
        self._failed = failed
        self._has_failed = False

    def run(self, participant: int) -> None:
        """Until the worker has left: it may be about to join the next communicator when the graph ends."""
        while not self._arena.wait_state(participant, protocol.STATE_EXITED, GUARD_INTERVAL):
            if self._arena.closed is not None:
                self._abort("the graph has ended")
            elif not self._has_failed:
                self._check()

    def _check(self) -> None:
        for name, group in self._groups.items():
            try:
                group.check()
            except Exception as error:
                self._has_failed = True
                self._abort(str(error), last=name)
                self._failed(error)
                return

    def _abort(self, reason: str, last: str = "") -> None:
        """What waits for `last` goes on with wrong numbers when that is aborted, and must not send them on."""
        for name in sorted(self._keys, key=lambda name: name == last):
            REGISTRY.abort(self._keys[name], reason)


def _own_order(
    key: str, spec: CommunicatorSpec, actors: Mapping[str, ray.actor.ActorHandle], devices: Mapping[str, str]
) -> JoinOrder:
    """A communicator of our own. `nccl` stands for that of the actors' devices, whatever it is."""
    members = [actors[symbol] for symbol in spec.actors]
    kinds = {devices[symbol] for symbol in spec.actors}
    if spec.kind == "gloo":
        communicator: Communicator = GlooCommunicator(members)
    elif spec.kind != "nccl":
        raise ValueError(f"there are no communicators of kind {spec.kind!r}")
    elif len(kinds) > 1:
        raise ValueError(f"actors with different kinds of devices ({', '.join(sorted(kinds))}) have no communicator")
    else:
        communicator = base.make_communicator(kinds.pop(), members)
    return JoinOrder(key, communicator, {symbol: rank for rank, symbol in enumerate(spec.actors)})


def _check_methods(spec: CommunicatorSpec, programs: Sequence[Program]) -> None:
    """Raise `ValueError` if a user's communicator lacks a method of Ray's interface that the graph will call."""
    communicator: Any = spec.custom
    if not is_custom(communicator):
        return
    for user, methods in _uses(spec, programs):
        for method in methods:
            if lacks(communicator, method):
                raise ValueError(
                    f"{user} needs {' and '.join(methods)} of the communicator {type(communicator).__name__}, which"
                    f" does not implement {method}: override it, or use another transport"
                )


def _uses(spec: CommunicatorSpec, programs: Sequence[Program]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What uses a communicator, for a message, and the methods that it needs."""
    for program in programs:
        names = ValueNames(program)
        through = {channel.name for channel in program.channels if channel.communicator == spec.name}
        operations = [
            part for each in program.operations for part in (each.operations if isinstance(each, Together) else (each,))
        ]
        for operation in operations:
            if isinstance(operation, Write) and operation.channel in through:
                yield f"the result of {names.of(operation.values[0], operation)}", ("send", "recv")
            elif isinstance(operation, Collective) and operation.communicator == spec.name:
                yield f"{operation.kind}{on_actor(operation, program.actor)}", (METHODS[operation.kind],)


def _custom_order(key: str, spec: CommunicatorSpec, actors: Mapping[str, ray.actor.ActorHandle]) -> JoinOrder:
    """The ranks that the user's communicator gives to the graph's actors, all of which have to join it."""
    communicator: Any = spec.custom
    what = f"the communicator {type(communicator).__name__}"
    symbol_of = {ray_internals.actor_id(handle): symbol for symbol, handle in actors.items()}
    ranks: dict[str, int] = {}
    handles = list(communicator.get_actor_handles())
    strange = [handle for handle in handles if not isinstance(handle, ray.actor.ActorHandle)]
    if strange:
        raise ValueError(f"{what} has {strange[0]!r} among its actors, which is no actor handle")
    for handle in handles:
        symbol = symbol_of.get(ray_internals.actor_id(handle))
        if symbol is None:
            raise ValueError(
                f"{what} has {handle}, which is no actor of this graph: all of its actors have to join, so create one "
                "for actors of the graph only"
            )
        ranks[symbol] = communicator.get_rank(handle)
    for symbol in spec.actors:
        if symbol not in ranks:
            raise ValueError(
                f"{what} is the transport of a tensor of @{symbol}, which does not belong to it: the passed-in "
                "communicator must include all of the actors"
            )
    if set(ranks.values()) != set(range(len(ranks))):
        raise ValueError(f"{what} must give its {len(ranks)} actors the ranks from 0 on, and gives {ranks}")
    if isinstance(communicator, GlooCommunicator):
        communicator = communicator.renewed()
    return JoinOrder(key, communicator, dict(sorted(ranks.items(), key=lambda entry: entry[1])))
