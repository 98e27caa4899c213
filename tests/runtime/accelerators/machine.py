"""
Graphs of the zoo on adversarial devices, in one process: the workers' own steps, each actor in a thread of its own.

The compiler makes the programs, `link` makes the steps, messages go through a real arena; only the devices, and the
communicator that queues meetings on their streams, are the adversary's. What the methods compute is arithmetic that
tells every path through the graph from every other one, so that a value that is late, early or of another execution
changes the result.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ray.dag import MultiOutputNode
from ray.experimental.collective import allgather, allreduce, reducescatter
from ray.experimental.util.types import ReduceOp

from cgc.ir import (
    AllGatherOp,
    AllReduceOp,
    CallOp,
    CollectiveOp,
    GraphOp,
    InputOp,
    OutputOp,
    Placement,
    TensorType,
    Topology,
    Unit,
    graphs_of,
    place_actors,
)
from cgc.ir.importer import import_graph
from cgc.passes.graph_view import actors_of, body_of, set_type
from cgc.passes.manager import PassManager
from cgc.passes.registry import PASSES, passes_of
from cgc.runtime import _core, protocol
from cgc.runtime.accelerators import base
from cgc.runtime.accelerators.crossing import support
from cgc.runtime.accelerators.keeper import KEEPER
from cgc.runtime.communicators.groups import JoinOrder, WorkerGroups
from cgc.runtime.inlets import Inlets
from cgc.runtime.link import link
from cgc.runtime.outlets import Outlets
from cgc.runtime.program import DRIVER, Call, Group, Program
from cgc.runtime.task_errors import ErrorValue
from tests.runtime.accelerators.adversary import AdversarialArray, AdversarialDevice
from tests.runtime.accelerators.combining import gathered, reduced, scattered
from tests.runtime.accelerators.sharing import SharingDevice
from tests.runtime.accelerators.world import World
from tests.runtime.helpers import eventually

ZOO_FILE = Path(__file__).parents[3] / "tools" / "zoo" / "graphs.py"
EXECUTIONS = 3
SHAPES = [(2, 300), (2, 3), (2, 300)]
"""Of each execution's arrays: large ones lie in segments of a channel, small ones in its slots."""

DEADLINE = 30.0


def load_zoo() -> dict[str, Callable[[], Any]]:
    """The zoo's graphs by name."""
    spec = importlib.util.spec_from_file_location("zoo_graphs", ZOO_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo_graphs"] = module
    spec.loader.exec_module(module)
    zoo: dict[str, Callable[[], Any]] = module.ZOO
    return zoo


def collectives(ranks: int = 3, layers: int = 2) -> Any:
    """Tensor-parallel layers with all three collectives, work beside them, and messages between the layers."""
    zoo = sys.modules["zoo_graphs"]
    shards = zoo._actors(ranks, "Shard")
    with zoo.InputNode() as inp:
        values = [shard.embed.bind(inp) for shard in shards]
        for _ in range(layers):
            sums = allreduce.bind([shard.column.bind(value) for shard, value in zip(shards, values, strict=True)])
            beside = [shard.beside.bind(value) for shard, value in zip(shards, values, strict=True)]
            values = [shard.row.bind(*each) for shard, *each in zip(shards, sums, beside, strict=True)]
            whole = allgather.bind(values)
            beside = [shard.mean.bind(value) for shard, value in zip(shards, values, strict=True)]
            values = [shard.gate.bind(value) for shard, value in zip(shards, whole, strict=True)]
            values = reducescatter.bind(values, op=ReduceOp.MAX)
            values = [shard.join.bind(*each) for shard, *each in zip(shards, values, beside, strict=True)]
            sent = zoo._nccl(shards[0].tell.bind(values[0]))
            values = [values[0], *(s.hear.bind(v, sent) for s, v in zip(shards[1:], values[1:], strict=True))]
        return MultiOutputNode([shard.end.bind(value) for shard, value in zip(shards, values, strict=True)])


ZOO = {**load_zoo(), "collectives": collectives}


def compute(actor: str, method: str, count: int, values: Sequence[Any]) -> Any:
    """What a method makes of its arguments, arrays of NumPy or of a device: depends on everything, and on its order."""
    total = values[0] * 3 + float(sum(map(ord, actor + method)) % 7)
    for number, value in enumerate(values[1:], start=2):
        total = total * 0.5 + value * float(number)
    results = tuple(total * 0.25 + float(number) for number in range(count))
    return results[0] if count == 1 else results


@cache
def compiled(name: str, streams: bool, broadcast: bool = False, lent: bool = False) -> dict[str, Program]:
    """The programs of a graph of the zoo, whose input goes to the devices; `lent`: its actors share one device."""
    unit = import_graph(ZOO[name]())
    (graph,) = graphs_of(unit.module)
    if lent:
        _share_a_device(unit, graph)
    for operation in body_of(graph).body.block.ops:
        if isinstance(operation, InputOp):
            set_type(operation.results[0], TensorType.of("gpu", request="auto"))
    options = {"overlap-comm": "{streams}" if streams else "", "pair-comm": "{broadcast}" if broadcast else ""}
    text = ",".join(each + options.get(each, "") for each in PASSES)
    programs: dict[str, Program] = PassManager(passes_of(text)).run(unit).products["programs"]
    return programs


def _share_a_device(unit: Unit, graph: GraphOp) -> None:
    """Put all actors on one device, and leave to the compiler how values travel."""
    place_actors(unit.module, Topology(actors=dict.fromkeys(actors_of(graph), Placement("n0", ("gpu:0",)))))
    for operation in body_of(graph).body.block.ops:
        for value in operation.results:
            if isinstance(value.type, TensorType):
                set_type(value, TensorType.of(request="auto"))


def has_broadcasts(name: str) -> bool:
    """Whether a graph of the zoo has broadcasts if they are allowed."""
    programs = compiled(name, streams=False, broadcast=True).values()
    channels = [channel for program in programs for channel in program.channels if channel.communicator]
    return any(len(channel.readers) > 1 for channel in channels)


def has_groups(name: str) -> bool:
    """Whether a graph of the zoo has messages that cross as one group."""
    operations = [each for program in compiled(name, streams=False).values() for each in program.operations]
    return any(isinstance(operation, Group) for operation in operations)


@cache
def expected(name: str) -> list[list[np.ndarray]]:
    """The outputs of each execution, computed one call after the other with NumPy."""
    unit = import_graph(ZOO[name]())
    (graph,) = graphs_of(unit.module)
    executions = []
    for execution in range(EXECUTIONS):
        of: dict[Any, Any] = {}
        for operation in body_of(graph).body.block.ops:
            if isinstance(operation, InputOp):
                of[operation.results[0]] = input_of(execution)
            elif isinstance(operation, CallOp):
                arguments = [of[value] for value in operation.operands]
                made = compute(operation.actor, operation.method, len(operation.results), arguments)
                of.update(zip(operation.results, made if isinstance(made, tuple) else (made,), strict=True))
            elif isinstance(operation, CollectiveOp):
                brought = [of[value] for value in operation.operands]
                of.update(zip(operation.results, _combined(operation, brought), strict=True))
            elif isinstance(operation, OutputOp):
                executions.append([of[value] for value in operation.operands])
    return executions


def _combined(operation: CollectiveOp, brought: Sequence[np.ndarray]) -> list[np.ndarray]:
    if isinstance(operation, AllGatherOp):
        return [gathered(brought)] * len(brought)
    op = ReduceOp[operation.reduce.data.upper()]  # type: ignore[union-attr]
    if isinstance(operation, AllReduceOp):
        return [reduced(op)(brought)] * len(brought)
    return [scattered(op, rank)(brought) for rank in range(len(brought))]


def input_of(execution: int) -> np.ndarray:
    shape = SHAPES[execution % len(SHAPES)]
    return np.arange(shape[0] * shape[1], dtype=np.float64).reshape(shape) + 10.0 * execution


class QueuedCommunicator:
    """What a device's own communicator is to the steps: it queues meetings on the current stream."""

    def __init__(self, device: AdversarialDevice, members: Sequence[int]) -> None:
        self._device = device
        self._members = members

    def initialize(self, rank: int) -> None:
        assert rank == self._device.number

    def queue_send(self, array: AdversarialArray, peer: int) -> None:
        self._device.send(array, peer)

    def queue_recv(self, into: AdversarialArray, peer: int) -> None:
        self._device.receive(into, peer)

    def grouped(self) -> AbstractContextManager[None]:
        return self._device.grouped()

    def broadcast(self, array: AdversarialArray, root: int) -> None:
        """To all members, one after the other."""
        if root != self._device.number:
            self._device.receive(array, root)
            return
        for peer in self._members:
            if peer != root:
                self._device.send(array, peer)

    def allgather(self, send_buf: AdversarialArray, recv_buf: AdversarialArray) -> None:
        self._device.exchange(send_buf, recv_buf, self._members, gathered)

    def allreduce(self, send_buf: AdversarialArray, recv_buf: AdversarialArray, op: ReduceOp) -> None:
        self._device.exchange(send_buf, recv_buf, self._members, reduced(op))

    def reducescatter(self, send_buf: AdversarialArray, recv_buf: AdversarialArray, op: ReduceOp) -> None:
        rank = list(self._members).index(self._device.number)
        self._device.exchange(send_buf, recv_buf, self._members, scattered(op, rank))

    def destroy(self) -> None: ...


class Machine:
    """The actors of one graph in one world; `run` executes the graph some times and checks its numbers."""

    def __init__(self, name: str, world: World, streams: bool, *, broadcast: bool = False, lent: bool = False) -> None:
        self.name = name
        self.world = world
        self.lent = lent
        self.programs = compiled(name, streams, broadcast, lent)
        self.actors = [actor for actor in self.programs if actor != DRIVER]
        world.hosts = len(self.actors) + 1
        self.failures: list[BaseException] = []
        self.ended = threading.Event()
        channels = {channel.index: channel for program in self.programs.values() for channel in program.channels}
        rings = [(len(channel.readers), channel.slots, channel.slot_bytes) for _, channel in sorted(channels.items())]
        self.arena = _core.Arena.create(rings, len(self.actors) + 1)

    def run(self) -> None:
        threads = [threading.Thread(target=self._serve, args=(rank,), daemon=True) for rank in range(len(self.actors))]
        program = self.programs[DRIVER]
        inlets = Inlets(program, self.arena, dict.fromkeys(self.actors))  # type: ignore[arg-type]
        outlets = Outlets(program, self.arena, EXECUTIONS)
        for thread in threads:
            thread.start()
        try:
            for execution in range(EXECUTIONS):
                outlets.records[execution] = outlets.blank_record.copy()
                inlets.submit((input_of(execution),), {}, DEADLINE)
            for execution, wanted in enumerate(expected(self.name)):
                for output, value in enumerate(wanted):
                    np.testing.assert_array_equal(self._value(outlets, execution, output), value)
        finally:
            self.arena.close(protocol.CLOSED_BY_TEARDOWN, 0)
            self.ended.set()
            self.world.stopped = True
            for thread in threads:
                thread.join(DEADLINE)
            self.world.drain()  # as devices go on, whoever waits for them
        if self.lent:
            eventually(lambda: not KEEPER.unfinished, "everything that was lent has come back")
        assert not self.failures, self.failures
        assert not self.world.violations, self.world.violations

    def _value(self, outlets: Outlets, execution: int, output: int) -> Any:
        try:
            value = outlets.claim(execution, output, DEADLINE)
        except _core.ChannelClosed:
            raise AssertionError(f"a worker failed: {self.failures}") from None
        assert type(value) is not ErrorValue, value.to_exception()
        return value

    def _serve(self, rank: int) -> None:
        actor = self.actors[rank]
        program = self.programs[actor]
        support(AdversarialArray, partial(base.find, AdversarialDevice.name))
        device = SharingDevice(self.world, rank) if self.lent else AdversarialDevice(self.world, rank)
        ranks = {symbol: number for number, symbol in enumerate(self.actors)}
        orders = {
            spec.name: JoinOrder(
                f"{id(self)}/{spec.name}/{actor}",
                QueuedCommunicator(device, [ranks[member] for member in spec.actors]),  # type: ignore[arg-type]
                ranks,
            )
            for spec in program.communicators
        }
        groups = WorkerGroups(orders, actor, device, self._note_failure) if orders else None
        endings: list[Callable[[], None]] = []
        try:
            arena = _core.Arena.attach(self.arena.handle)  # mappings of its own, as in a process of its own
            steps = link(program, _instance(actor, program), arena, groups, device, endings=endings)
            if groups is not None:
                groups.join(self.arena, rank + 1)
            for _ in range(EXECUTIONS):
                for step in steps:
                    step()
        except _core.ChannelClosed:
            pass
        except BaseException as error:
            self.failures.append(error)
            self.arena.close(protocol.CLOSED_BY_WORKER_FAILURE, rank + 1)
        finally:
            if groups is not None:
                groups.leave()
            self.ended.wait(DEADLINE)  # what is lent is held for readers that have not begun until the graph has ended
            for end in endings:
                end()
            self.arena.set_state(rank + 1, protocol.STATE_EXITED)

    def _note_failure(self, error: BaseException) -> None:
        if not isinstance(error, _core.ChannelClosed):
            self.failures.append(error)


def _instance(actor: str, program: Program) -> Any:
    """An object with the methods that a program calls."""
    counts = {call.method: len(call.into) for call in program.operations if isinstance(call, Call)}
    methods = {method: _method(actor, method, count) for method, count in counts.items()}
    return type("Actor", (), methods)()


def _method(actor: str, name: str, count: int) -> Callable[..., Any]:
    def method(self: Any, *values: Any) -> Any:
        return compute(actor, name, count, values)

    return method
