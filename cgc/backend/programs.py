"""
From IR of level `allocated` to the programs that the runtime executes, one per participant.

Values become registers, numbered in order of definition and written once an execution, as SSA values are: whoever reads
a program, or names a value in an error, needs no liveness. What counts is that a register is dropped after its last
use, and every operation says which. The whole input gets a register only where somebody uses it whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cgc.backend.communicators import CommunicatorPlan, plan_communicators
from cgc.errors import PassError
from cgc.ir import (
    Bound,
    CallOp,
    CollectiveOp,
    ConstantTable,
    CopyOp,
    GraphOp,
    GroupOp,
    InputAttrOp,
    InputOp,
    Nest,
    OpaqueAttr,
    Operation,
    OutputOp,
    ProgramOp,
    ReadOp,
    ReadStartOp,
    SSAValue,
    TensorType,
    TriggerOp,
    WaitOp,
    WriteOp,
    YieldOp,
    location_text,
)
from cgc.ir import (
    Constant as ConstantAttr,
)
from cgc.passes.graph_view import actors_of, device_kind, programs_of
from cgc.runtime import program as runtime

PASS_NAME = "emit-programs"


def emit_programs(graph: GraphOp, constants: ConstantTable) -> dict[str, runtime.Program]:
    """
    The program of each participant, by its symbol, in the order of the graph.

    Constants that `constants` does not have (those of parsed text) become `runtime.Unspelled`.

    Raises:
        PassError: An operation cannot be executed yet.
    """
    plan = plan_communicators(graph, constants)
    actors = actors_of(graph)
    return {
        name: _Emitter(program, plan, constants, device_kind(actors[name])).program(graph.sym_name.data)
        for name, program in programs_of(graph).items()
    }


class _Emitter:
    """Makes one program: knows the register of every value, and where it is used last."""

    def __init__(self, program: ProgramOp, plan: CommunicatorPlan, constants: ConstantTable, device: str) -> None:
        self.actor = program.actor_name
        self.device = device
        self.plan = plan
        self.constants = constants
        # Inputs first: the driver takes the user's arguments apart, or refuses them, before it writes any.
        self.source = sorted(
            (op for op in program.body.block.ops if not _is_unused_input(op)),
            key=lambda operation: not isinstance(operation, InputOp | InputAttrOp),
        )
        self.last_use = {value: op for op in self.source for value in _used(op)}
        self.register_of: dict[SSAValue, int] = {}
        self.registers = 0
        self.unused: list[int] = []
        self.under_way: dict[SSAValue, str] = {}
        self.used_channels: dict[str, runtime.ChannelSpec] = {}
        self.used_communicators: set[str] = set()

    def program(self, graph: str) -> runtime.Program:
        emitted = [each for source in self.source for each in (*self._waits(source), self._operation(source))]
        operations = tuple(operation for operation in emitted if operation is not None)
        channels = tuple(sorted(self.used_channels.values(), key=lambda spec: spec.index))
        communicators = tuple(self.plan.communicators[name] for name in sorted(self.used_communicators))
        return runtime.Program(
            graph, self.actor, self.registers, channels, operations, communicators=communicators, device=self.device
        )

    def _waits(self, operation: Operation) -> list[runtime.Wait]:
        """What has to be waited for before an operation: results of collectives on streams that it is first to use."""
        waits = []
        for value in _used(operation):
            if value in self.under_way:
                waits.append(runtime.Wait(self.register_of[value], self.registers, self.under_way.pop(value)))
                self.register_of[value] = self.registers
                self.registers += 1
        return waits

    def _operation(self, operation: Operation) -> runtime.Operation | None:
        """The operation of the program; None for a trigger, whose register is empty and stays so."""
        location = location_text(operation)
        if isinstance(operation, CallOp):
            return self._call(operation, location)
        if isinstance(operation, ReadOp):
            return runtime.Read(self._channel(operation.channel_name), self._define(operation), location)
        if isinstance(operation, WriteOp):
            values = tuple(self.register_of[value] for value in operation.operands)
            stream = None if operation.stream is None else operation.stream.data
            return runtime.Write(self._channel(operation.channel_name), values, self._drop(operation), location, stream)
        if isinstance(operation, ReadStartOp) and operation.stream is not None:
            channel = self._channel(operation.channel_name)
            return runtime.ReadStart(channel, self._define(operation)[0], operation.stream.data, location)
        if isinstance(operation, WaitOp):
            return runtime.Wait(self.register_of[operation.operands[0]], self._define(operation)[0], location)
        if isinstance(operation, GroupOp):
            return self._group(operation, location)
        if isinstance(operation, CollectiveOp):
            return self._collective(operation, location)
        if isinstance(operation, CopyOp):
            device = operation.result.type.device.data if isinstance(operation.result.type, TensorType) else "cpu"
            value, drop = self.register_of[operation.value], self._drop(operation)
            return runtime.Copy(value, self._define(operation)[0], device, drop, location)
        if isinstance(operation, InputOp):
            return runtime.Input(self._define(operation)[0], location=location)
        if isinstance(operation, InputAttrOp):
            accessor = "__getattr__" if operation.accessor.data == "attr" else "__getitem__"
            return runtime.Input(self._define(operation)[0], operation.key_value, accessor, location)
        if isinstance(operation, TriggerOp):
            self._define(operation)
            return None
        if isinstance(operation, OutputOp):
            outputs = tuple(self.register_of[value] for value in operation.outputs)
            return runtime.Output(outputs, location, tuple(self.register_of[value] for value in operation.effects))
        place = f"{location}: " if location else ""
        raise PassError(f"{place}{operation.name} on @{self.actor} cannot be executed yet", PASS_NAME, operation.name)

    def _call(self, operation: CallOp, location: str) -> runtime.Call:
        args, kwargs = operation.bound
        positional = tuple(self._argument(argument) for argument in args)
        named = tuple((keyword, self._argument(argument)) for keyword, argument in kwargs.items())
        drop = self._drop(operation)
        effect = operation.effect is not None
        return runtime.Call(operation.method, positional, named, self._define(operation), drop, location, effect)

    def _group(self, group: GroupOp, location: str) -> runtime.Group:
        *parts, last = group.body.block.ops
        assert isinstance(last, YieldOp), "a group ends with cgc.yield"
        operations: list[runtime.Read | runtime.Write] = []
        for part in parts:
            where = location_text(part)
            if isinstance(part, ReadOp):
                self.register_of[part.results[0]] = self.registers
                operations.append(runtime.Read(self._channel(part.channel_name), (self.registers,), where))
                self.registers += 1
            elif isinstance(part, WriteOp):
                value = self.register_of[part.operands[0]]
                operations.append(runtime.Write(self._channel(part.channel_name), (value,), location=where))
        drop = self._drop(group)
        self.register_of.update(
            (result, self.register_of[value]) for result, value in zip(group.results, last.operands, strict=True)
        )
        self.unused += [self.register_of[result] for result in group.results if result not in self.last_use]
        return runtime.Group(tuple(operations), drop, location)

    def _collective(self, operation: CollectiveOp, location: str) -> runtime.Collective:
        communicator = self.plan.of_collective(operation)
        if communicator:
            self.used_communicators.add(communicator)
        stream = None if operation.stream is None else operation.stream.data
        if stream is not None:
            used = [value for value in operation.results if value in self.last_use]
            self.under_way.update(dict.fromkeys(used, location))
        return runtime.Collective(
            kind=operation.name.removeprefix("cgc."),
            reduce=None if operation.reduce is None else operation.reduce.data,
            communicator=communicator,
            channels=tuple(self._channel(name) for name in self.plan.agreement(operation)),
            values=tuple(self.register_of[value] for value in operation.operands),
            drop=self._drop(operation),
            into=self._define(operation),
            location=location,
            stream=stream,
        )

    def _argument(self, argument: Bound) -> runtime.Argument:
        if isinstance(argument, SSAValue):
            return runtime.Register(self.register_of[argument])
        if not isinstance(argument, Nest):
            return runtime.Constant(self._constant(argument))
        items = tuple(self._argument(item) for item in argument.items)
        keys = tuple(self._constant(key) for key in argument.keys)
        like = None if argument.like is None else self._constant(argument.like)
        return runtime.Container(argument.kind, items, keys, like)

    def _constant(self, constant: ConstantAttr) -> Any:
        if isinstance(constant, OpaqueAttr) and constant.index.data >= len(self.constants):
            return runtime.Unspelled(constant.summary.data)
        return self.constants.value(constant)

    def _channel(self, name: str) -> str:
        channel = self.used_channels[name] = self.plan.channels[name]
        if channel.communicator:
            self.used_communicators.add(channel.communicator)
        for back, reader in zip(channel.returns, channel.readers, strict=bool(channel.returns)):
            if self.actor in (channel.writer, reader):
                self.used_channels[back] = self.plan.channels[back]
        return name

    def _define(self, operation: Operation) -> tuple[int, ...]:
        """Registers for the results; those of results that nobody uses are dropped by the next operation that can."""
        first = self.registers
        for value in operation.results:
            if value not in self.last_use:
                self.unused.append(self.registers)
            self.register_of[value] = self.registers
            self.registers += 1
        return tuple(range(first, self.registers))

    def _drop(self, operation: Operation) -> tuple[int, ...]:
        """Registers whose values nobody needs after `operation`."""
        ends = {self.register_of[value] for value in _used(operation) if self.last_use[value] is operation}
        dropped = tuple(sorted({*ends, *self.unused}))
        self.unused.clear()
        return dropped


def _used(operation: Operation) -> Sequence[SSAValue]:
    """The values that an operation takes from those before it; a group takes what is sent in it."""
    if not isinstance(operation, GroupOp):
        return operation.operands
    return [value for part in operation.body.block.ops if isinstance(part, WriteOp) for value in part.operands]


def _is_unused_input(operation: Operation) -> bool:
    """True for a whole input that is used in parts only: the driver takes the parts from the user's arguments."""
    return isinstance(operation, InputOp) and all(
        isinstance(use.operation, InputAttrOp) for use in operation.result.uses
    )
