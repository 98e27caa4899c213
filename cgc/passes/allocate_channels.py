"""
allocate-channels: messages travel on channels, as few as possible, copied as rarely as possible.

Requires: level `scheduled`.
Guarantees: level `allocated`. One channel has one writer and any number of readers on its node, so that a value is
written once however many read it. Values that go from one writer to the same readers share a message where that
delays nobody (see `_bundles`). A channel has as many slots as executions may be in flight, so that no writer within
that limit ever waits for a slot. Orders are numbered anew: first what the driver sends, last what it gets.

    cgc.send %1 message 1 to [@b, @c] via shm order 2        cgc.channel @c1 shm from @a to [@b, @c] slots 10 …
    cgc.send %2 message 2 to [@b, @c] via shm order 3   ->   cgc.write @c1(%1, %2) messages [1, 2] order 2
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cgc.ir import (
    ChannelOp,
    GraphOp,
    GroupOp,
    IntAttr,
    Operation,
    ProgramOp,
    ReadOp,
    ReadStartOp,
    ReceiveOp,
    RecvStartOp,
    SendOp,
    TensorType,
    WriteOp,
)
from cgc.passes.analysis.expected import static_bytes
from cgc.passes.analysis.lifetimes import Clock, clocks_of_sends
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import communication, driver_of, inflight_of, order_of, programs_of, set_level

DEFAULT_SLOT_BYTES = 4096
RING_BYTES = 256 * 1024
LEAST_SLOT_BYTES = 256
"""A ring of very many slots has smaller ones: not more than `RING_BYTES` in all, not less than this each."""

STATIC_SLOT_LIMIT = 64 * 1024
"""Larger static messages use the default slot: they lie in memory of their own anyway."""

MESSAGE_OVERHEAD = 1024
"""Bytes of a message besides its tensors, at most: their headers and the pickled rest."""


@dataclass(slots=True)
class _Bundle:
    """
    Messages that one write carries.

    Attributes:
        writer: Name of the participant that sends them.
        sends: In the order of their values.
        at_last: True if the write takes the place of the last send, False for the first.
    """

    writer: str
    sends: list[SendOp]
    at_last: bool = False


def allocate(
    graph: GraphOp, slot_bytes: int = DEFAULT_SLOT_BYTES, static_slot_bytes: int = 0, *, share: bool = True
) -> list[ChannelOp]:
    """Replace sends and recvs by writes and reads on new channels, which are returned."""
    driver, programs = driver_of(graph), programs_of(graph)
    slots = inflight_of(graph)
    slot_bytes = min(slot_bytes, max(LEAST_SLOT_BYTES, RING_BYTES // slots // 64 * 64))
    recvs = _recvs(programs)
    bundles = [bundle for name, program in programs.items() for bundle in _bundles(name, program, driver, recvs)]
    bundles.sort(key=lambda bundle: bundle.sends[0].order.data)
    clocks = clocks_of_sends(programs) if share else {}
    channels = []
    for number, ring in enumerate(_rings(bundles, recvs, clocks, driver)):
        channel = _channel(f"c{number}", ring, slots, slot_bytes, static_slot_bytes)
        for bundle in ring:
            _replace_sends(channel, bundle)
            for reader in channel.reader_names:
                _replace_recvs(channel, [recvs[send.message.data, reader] for send in bundle.sends])
        channels.append(channel)
    _renumber(programs, driver)
    graph.body.block.insert_ops_before(channels, next(iter(programs.values())))
    return channels


def _recvs(programs: Mapping[str, ProgramOp]) -> dict[tuple[int, str], ReceiveOp]:
    """Every recv by message and receiver."""
    return {
        (operation.message.data, name): operation
        for name, program in programs.items()
        for operation in communication(program.body.block)
        if isinstance(operation, ReceiveOp)
    }


def _bundles(writer: str, program: ProgramOp, driver: str, recvs: Mapping[tuple[int, str], ReceiveOp]) -> list[_Bundle]:
    """
    The sends of a program, those together that can share a message.

    They can if they have the same receivers and buffered transport, and

    * the driver makes them: it knows all inputs at the start, so that nothing lies between;
    * or the driver alone gets them: it takes results when all are there, so that none comes later than without;
    * or nothing but sends lies between: then the later value exists already when the earlier one goes.
    """
    bundles: dict[object, _Bundle] = {}
    run = 0
    for operation in program.body.block.ops:
        if not isinstance(operation, SendOp):
            run += 1
            for send in communication(operation):
                if isinstance(send, SendOp):
                    bundles[send] = _Bundle(writer, [send])
            continue
        ends_at_driver = writer == driver or operation.receiver_names == (driver,)
        shares = not operation.transport.is_rendezvous and not _is_started(operation, recvs)
        key = (operation.receivers, operation.transport, -1 if ends_at_driver else run) if shares else operation
        bundles.setdefault(key, _Bundle(writer, [], at_last=ends_at_driver)).sends.append(operation)
    return list(bundles.values())


def _is_started(send: SendOp, recvs: Mapping[tuple[int, str], ReceiveOp]) -> bool:
    """True if somebody receives the message in two halves."""
    return any(isinstance(recvs[send.message.data, name], RecvStartOp) for name in send.receiver_names)


def _rings(
    bundles: Sequence[_Bundle],
    recvs: Mapping[tuple[int, str], ReceiveOp],
    clocks: Mapping[int, Clock],
    driver: str,
) -> list[list[_Bundle]]:
    """
    The bundles that take turns on a channel, each after the one before has been taken by all its readers.

    A bundle goes to the channel of its kind that was used longest ago, if that is sure to be empty by then: where
    messages are taken in the order in which they are sent, no other is empty either. The driver's have channels of
    their own: it has one for each set of readers already, and takes results out of turn.
    """
    rings: list[list[_Bundle]] = []
    kinds: dict[object, deque[list[_Bundle]]] = {}
    for bundle in bundles:
        kind = _kind(bundle, recvs, driver) if clocks else None
        if kind is None:
            rings.append([bundle])
            continue
        alike = kinds.setdefault(kind, deque())
        if alike and _is_taken(alike[0][-1], recvs, clocks[bundle.sends[0].message.data]):
            ring = alike.popleft()
            ring.append(bundle)
        else:
            rings.append(ring := [bundle])
        alike.append(ring)
    return rings


def _kind(bundle: _Bundle, recvs: Mapping[tuple[int, str], ReceiveOp], driver: str) -> object:
    """What bundles have to have in common to share a channel; None if this one has to have its own."""
    first = bundle.sends[0]
    if first.transport.is_rendezvous or driver in (bundle.writer, *first.receiver_names):
        return None
    if first.stream is not None or _is_started(first, recvs) or isinstance(first.parent_op(), GroupOp):
        return None
    static = all(_is_static(send) for send in bundle.sends)
    types = tuple(send.value.type for send in bundle.sends) if static else None
    return bundle.writer, first.receiver_names, first.transport.kind.data, types


def _is_taken(bundle: _Bundle, recvs: Mapping[tuple[int, str], ReceiveOp], known: Clock) -> bool:
    """True if all readers are known to have read the bundle, which they do at the first of its recvs."""
    return all(
        known.get(name, -1) >= min(order_of(recvs[send.message.data, name]) for send in bundle.sends)
        for name in bundle.sends[0].receiver_names
    )


def _channel(name: str, ring: Sequence[_Bundle], slots: int, slot_bytes: int, static_slot_bytes: int) -> ChannelOp:
    """The channel on which all bundles of a ring take turns: they are of one kind, and static ones of one size."""
    first = ring[0].sends[0]
    sizes = [static_bytes(send.value.type) for send in ring[0].sends]
    known = [size for size in sizes if size is not None]
    promised = all(_is_static(send) for send in ring[0].sends)
    static = promised and len(known) == len(sizes)
    exact = MESSAGE_OVERHEAD + (0 if first.transport.lends else sum(known))
    if promised and static_slot_bytes:
        slot_bytes = -(-static_slot_bytes // 64) * 64
    elif static and exact <= STATIC_SLOT_LIMIT:
        slot_bytes = -(-exact // 64) * 64
    return ChannelOp(
        name,
        first.transport,
        ring[0].writer,
        first.receivers.data,
        slots=slots,
        slot_bytes=slot_bytes,
        static=static,
        shared=len(ring) if len(ring) > 1 else None,
        location=first.location,
    )


def _is_static(send: SendOp) -> bool:
    return isinstance(send.value.type, TensorType) and send.value.type.static


def _replace_sends(channel: ChannelOp, bundle: _Bundle) -> None:
    place = bundle.sends[-1 if bundle.at_last else 0]
    write = WriteOp(
        channel.sym_name.data,
        [send.value for send in bundle.sends],
        [send.message.data for send in bundle.sends],
        place.order.data,
        stream=None if place.stream is None else place.stream.data,
        location=place.location,
    )
    _replace(bundle.sends, place, write)


def _replace_recvs(channel: ChannelOp, recvs: Sequence[ReceiveOp]) -> None:
    place = min(recvs, key=lambda recv: recv.order.data)
    made = ReadStartOp if isinstance(place, RecvStartOp) else ReadOp
    read = made(
        channel.sym_name.data,
        [recv.message.data for recv in recvs],
        place.order.data,
        [recv.results[0].type for recv in recvs],
        stream=None if place.stream is None else place.stream.data,
        location=place.location,
    )
    for recv, result in zip(recvs, read.results, strict=True):
        recv.results[0].replace_all_uses_with(result)
    _replace(recvs, place, read)


def _replace(old: Sequence[Operation], place: Operation, new: Operation) -> None:
    block = place.parent_block()
    assert block is not None, "communication lies in a block"
    block.insert_ops_before([new], place)
    for operation in old:
        block.erase_op(operation)


def _renumber(programs: Mapping[str, ProgramOp], driver: str) -> None:
    """
    Number the line of communication anew, without gaps.

    What the driver writes waits for nothing, and for what it reads waits nothing in the same execution: both can go to
    the ends of the line, which is what writes at the place of their last value need.
    """
    keys: dict[Operation, tuple[int, int]] = {}
    for name, program in programs.items():
        for operation in communication(program.body.block):
            phase = 1 if name != driver else 0 if isinstance(operation, WriteOp) else 2
            keys[operation] = (phase, order_of(operation))
    number = {key: position for position, key in enumerate(sorted(set(keys.values())))}
    for numbered, key in keys.items():
        numbered.properties["order"] = IntAttr(number[key])


@dataclass(frozen=True)
class AllocateChannelsPass(Pass):
    """
    See the top of this file.

    Attributes:
        slot_bytes: `slot-bytes`: the size of a slot before it grows.
        static_slot_bytes: `static-slot-bytes`: the same for values whose shape is promised never to change; 0 for what
            the shape says.
        share: Whether messages that cannot be under way together take turns on one channel.
    """

    name = "allocate-channels"
    accepts = ("scheduled",)
    produces = "allocated"
    slot_bytes: int = DEFAULT_SLOT_BYTES
    static_slot_bytes: int = 0
    share: bool = True

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        for channel in allocate(graph, self.slot_bytes, self.static_slot_bytes, share=self.share):
            ring = channel.slots.data * channel.slot_bytes.data
            context.count("channels")
            context.count("slot-bytes", ring)
            context.count("slot-bytes-unshared", ring * channel.turns)
        set_level(graph, "allocated")
