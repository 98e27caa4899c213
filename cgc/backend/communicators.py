"""
The communicators of a graph: as few as serve all transfers and collectives that need one.

A collective has a communicator of exactly its participants, in their order, and a broadcast one of exactly its ends,
which it shares with broadcasts only: they may run beside the collectives. All other tensors of one kind of transport
share one: one of those, if that has all the actors, and else one of their own. A communicator that the user passed is
one communicator wherever it appears.

Participants of a collective tell each other what they bring before they start it, on channels that are added here: one
per participant and communicator. A collective through shared memory has no communicator: there the tensors themselves
are on these channels, which all collectives of the same participants share. Added are also the channels on which the
readers of a channel that lends tell what they have given back: one per channel and reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cgc.ir import (
    ChannelOp,
    CollectiveOp,
    ConstantTable,
    GraphOp,
    OpaqueAttr,
    Operation,
    TensorType,
    TransportAttr,
    WriteOp,
)
from cgc.passes.graph_view import actors_of, channels_of, programs_of
from cgc.runtime.program import ChannelSpec, CommunicatorSpec

HEADER_SLOTS = 2
"""Messages on the channel beside a communicator, whose two ends meet: one being read, and one being written."""

HEADER_BYTES = 1024

SHARED_BYTES = 8192
"""On the channels of a collective through shared memory, which carry the tensors too; larger ones make slots grow."""

RETURN_SLOTS = 1
"""One message in all: the memory in which a reader notes what it has given back."""

RETURN_BYTES = 256

_Key = tuple[object, ...]


@dataclass(frozen=True)
class CommunicatorPlan:
    """
    What the emitter has to know.

    Attributes:
        channels: Every channel of the programs by name, those of the IR first.
        communicators: By name.
    """

    channels: Mapping[str, ChannelSpec]
    communicators: Mapping[str, CommunicatorSpec]
    _names: Mapping[_Key, str]

    def of_collective(self, operation: CollectiveOp) -> str:
        """Name of its communicator; empty for one through shared memory, which needs none."""
        return "" if _is_shared(operation) else self._names[_collective_key(operation)]

    def agreement(self, operation: CollectiveOp) -> tuple[str, ...]:
        """Names of the channels on which its participants tell what they bring; none where one is alone."""
        if len(operation.participant_names) == 1:
            return ()
        group = self._names[_collective_key(operation)]
        return tuple(_agreement_name(group, actor) for actor in operation.participant_names)


def plan_communicators(graph: GraphOp, constants: ConstantTable) -> CommunicatorPlan:
    """The communicators of a graph of level `allocated`, and its channels as programs see them."""
    specs: dict[str, CommunicatorSpec] = {}
    names: dict[_Key, str] = {}
    collectives = list(_operations(graph, CollectiveOp))
    for operation in collectives:
        key = _collective_key(operation)
        if _is_shared(operation):
            names.setdefault(key, f"shm{len(names)}")
        else:
            _declare(specs, names, key, operation.transport, operation.participant_names, constants)
    meeting = [channel for channel in channels_of(graph).values() if channel.transport.is_rendezvous]
    actors = tuple(actors_of(graph))
    for channel in meeting:
        if len(channel.reader_names) > 1:
            key = _channel_key(channel, actors)
            _declare(specs, names, key, channel.transport, _ends([channel], actors), constants)
    for channel in meeting:
        key = _channel_key(channel, actors)
        if key not in names:
            ends = _ends([each for each in meeting if _channel_key(each, actors) == key], actors)
            covering = next((spec for spec in specs.values() if _covers(spec, channel.transport, ends)), None)
            if covering is not None:
                names[key] = covering.name
            else:
                _declare(specs, names, key, channel.transport, ends, constants)
    return CommunicatorPlan(_channels(graph, names, collectives), specs, names)


def _declare(
    specs: dict[str, CommunicatorSpec],
    names: dict[_Key, str],
    key: _Key,
    transport: TransportAttr,
    actors: tuple[str, ...],
    constants: ConstantTable,
) -> None:
    if key in names:
        known = specs[names[key]]  # the user's communicator may serve several collectives of some of its actors
        missing = tuple(actor for actor in actors if actor not in known.actors)
        specs[known.name] = CommunicatorSpec(known.name, known.kind, known.actors + missing, known.custom)
        return
    kind = transport.kind.data
    name = f"{kind}{sum(spec.kind == kind for spec in specs.values())}"
    names[key] = name
    specs[name] = CommunicatorSpec(name, kind, actors, _custom(transport, constants))


def _custom(transport: TransportAttr, constants: ConstantTable) -> Any:
    """The user's communicator; None for the other kinds, and in a graph that was read from text."""
    opaque = transport.communicator
    if not isinstance(opaque, OpaqueAttr) or opaque.index.data >= len(constants):
        return None
    return constants.value(opaque)


def _covers(spec: CommunicatorSpec, transport: TransportAttr, ends: tuple[str, ...]) -> bool:
    return spec.kind == transport.kind.data != "custom" and set(ends) <= set(spec.actors)


def _is_shared(operation: CollectiveOp) -> bool:
    return operation.transport.kind.data == "shm"


def _collective_key(operation: CollectiveOp) -> _Key:
    if operation.transport.kind.data == "custom":
        return _shared_key(operation.transport)
    return (*_shared_key(operation.transport), operation.participant_names)


def _shared_key(transport: TransportAttr) -> _Key:
    opaque = transport.communicator
    return (transport.kind.data, opaque.index.data if isinstance(opaque, OpaqueAttr) else None)


def _channel_key(channel: ChannelOp, actors: tuple[str, ...]) -> _Key:
    key = _shared_key(channel.transport)
    return key if len(channel.reader_names) == 1 else (*key, "broadcast", _ends([channel], actors))


def _ends(channels: Iterable[ChannelOp], actors: tuple[str, ...]) -> tuple[str, ...]:
    """Who writes or reads one of the channels, in the order of the graph."""
    ends = {end for channel in channels for end in (channel.writer_name, *channel.reader_names)}
    return tuple(actor for actor in actors if actor in ends)


def _channels(graph: GraphOp, names: Mapping[_Key, str], collectives: list[CollectiveOp]) -> dict[str, ChannelSpec]:
    actors = tuple(actors_of(graph))
    value_types = {write.channel_name: write.values[0].type for write in _operations(graph, WriteOp)}
    channels = {
        name: _channel(index, channel, names.get(_channel_key(channel, actors), ""), value_types.get(name))
        for index, (name, channel) in enumerate(channels_of(graph).items())
    }
    for lending in [channel for channel in channels.values() if channel.returns]:
        for name, reader in zip(lending.returns, lending.readers, strict=True):
            back = ChannelSpec(name, len(channels), "shm", reader, (lending.writer,), RETURN_SLOTS, RETURN_BYTES)
            channels[name] = back
    for operation in collectives:
        participants = operation.participant_names
        for actor in participants:
            name = _agreement_name(names[_collective_key(operation)], actor)
            others = tuple(other for other in participants if other != actor)
            if others and name not in channels:
                size = SHARED_BYTES if _is_shared(operation) else HEADER_BYTES
                channels[name] = ChannelSpec(name, len(channels), "shm", actor, others, HEADER_SLOTS, size)
    return channels


def _channel(index: int, channel: ChannelOp, communicator: str, value_type: Any) -> ChannelSpec:
    name, meets = channel.sym_name.data, channel.transport.is_rendezvous
    tensor = value_type if isinstance(value_type, TensorType) else None
    return ChannelSpec(
        name=name,
        index=index,
        kind=channel.transport.kind.data,
        writer=channel.writer_name,
        readers=channel.reader_names,
        slots=max(channel.slots.data, HEADER_SLOTS) if meets else channel.slots.data,
        slot_bytes=max(channel.slot_bytes.data, HEADER_BYTES) if meets else channel.slot_bytes.data,
        communicator=communicator,
        static=meets and tensor is not None and tensor.static,
        direct=meets and tensor is not None and tensor.direct,
        returns=tuple(f"{name}.{reader}" for reader in channel.reader_names) if channel.transport.lends else (),
    )


def _agreement_name(communicator: str, actor: str) -> str:
    return f"{communicator}.{actor}"


def _operations(graph: GraphOp, kind: type[Any]) -> Iterator[Any]:
    """All operations of a kind in all programs, in order."""
    for program in programs_of(graph).values():
        operations: Iterator[Operation] = program.walk()
        yield from (operation for operation in operations if isinstance(operation, kind))
