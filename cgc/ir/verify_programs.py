"""
The rules of the levels `scheduled` and `allocated`: programs, messages, orders, channels.

A schedule that keeps them cannot deadlock on rendezvous: orders rise along each program and all ends of a rendezvous
have the same order, so the operation with the smallest order that is not done can always be done. A group is one
operation here: all of it has one order, and the other end has a group of the same messages.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue

from cgc.ir.attributes import GROUPING, FutureType, TransportAttr
from cgc.ir.base import OperationError, is_any
from cgc.ir.channel_ops import ChannelOp, ChannelReadOp, ReadOp, WriteOp
from cgc.ir.graph_ops import ActorOp, CallOp, GraphOp, OutputOp
from cgc.ir.input_ops import InputAttrOp, InputOp, TriggerOp
from cgc.ir.schedule_ops import GroupOp, ProgramOp, ReceiveOp, RecvOp, SendOp, WaitOp, YieldOp
from cgc.ir.transfer_ops import CollectiveOp, CopyOp

Communication = SendOp | ReceiveOp | CollectiveOp | WriteOp | ChannelReadOp

_SENDS: tuple[type[SendOp | WriteOp], ...] = (SendOp, WriteOp)
_COMMUNICATION: tuple[type[Communication], ...] = (SendOp, ReceiveOp, CollectiveOp, WriteOp, ChannelReadOp)
_COMMON = (CallOp, CopyOp, CollectiveOp, WaitOp, GroupOp)
_DRIVERS = (InputOp, InputAttrOp, TriggerOp, OutputOp)
_MESSAGES: Mapping[bool, tuple[type[Operation], ...]] = {
    False: (SendOp, ReceiveOp),
    True: (WriteOp, ChannelReadOp),
}
_GROUPED: Mapping[bool, tuple[type[Operation], ...]] = {False: (SendOp, RecvOp), True: (WriteOp, ReadOp)}


def verify_programs(graph: GraphOp, actors: Mapping[str, ActorOp], *, allocated: bool) -> None:
    """Check all programs of a graph, and that they fit together. Raises `OperationError`."""
    programs: dict[str, ProgramOp] = {}
    for operation in graph.body.block.ops:
        if not isinstance(operation, ProgramOp):
            continue
        if operation.actor_name not in actors:
            raise OperationError(operation, f"there is no actor @{operation.actor_name}")
        if operation.actor_name in programs:
            raise OperationError(operation, f"@{operation.actor_name} has two programs")
        programs[operation.actor_name] = operation
    for name, actor in actors.items():
        if name not in programs:
            raise OperationError(actor, f"@{name} has no program")
        _check_program(programs[name], name, driver=actor.kind.data == "driver", allocated=allocated)
    everything = {name: list(_communication(program.body.block)) for name, program in programs.items()}
    _check_collectives(everything)
    _check_groups(everything)
    if allocated:
        _check_channels(graph, actors, everything)
    else:
        _check_messages(actors, everything)


def _communication(block: Block) -> Iterator[Communication]:
    for operation in block.ops:
        if is_any(operation, _COMMUNICATION):
            yield operation
        elif isinstance(operation, GroupOp):
            yield from _communication(operation.body.block)


def _check_program(program: ProgramOp, name: str, *, driver: bool, allocated: bool) -> None:
    block = program.body.block
    allowed = _COMMON + _MESSAGES[allocated] + (_DRIVERS if driver else ())
    for operation in block.ops:
        if not is_any(operation, allowed):
            where = "the driver" if driver else "an actor"
            raise OperationError(operation, f"not allowed in a program of {where} at this level")
        owner = _owner(operation)
        if owner not in (None, name):
            raise OperationError(operation, f"belongs to @{owner}, but is in the program of @{name}")
        if is_any(operation, (GroupOp,)):
            _check_group(operation, _GROUPED[allocated])
    if driver and not isinstance(block.last_op, OutputOp):
        raise OperationError(program, "the driver's program does not end with cgc.output")
    _check_values(block, set())
    _check_orders(block, driver=driver)


def _owner(operation: Operation) -> str | None:
    if isinstance(operation, CallOp):
        return operation.actor
    return operation.actor_name if isinstance(operation, CopyOp) else None


def _check_group(group: GroupOp, allowed: tuple[type[Operation], ...]) -> None:
    for operation in group.body.block.ops:
        if isinstance(operation, YieldOp):
            continue
        if not isinstance(operation, allowed):
            raise OperationError(operation, "not allowed in a group, which holds sends and recvs only")
        if "stream" in operation.properties:
            raise OperationError(operation, "on a stream, but in a group, which is a step of its program")
        if isinstance(operation, SendOp | RecvOp):
            _check_groupable(operation, operation.transport)


def _check_groupable(operation: Operation, transport: TransportAttr) -> None:
    if not transport.can_group:
        raise OperationError(
            operation, f"in a group, but {transport.kind.data} has none: only {', '.join(sorted(GROUPING))} have"
        )


def _check_values(block: Block, defined: set[SSAValue]) -> None:
    """Values are defined, in this program, before they are used; each future is waited for exactly once."""
    for operation in block.ops:
        _check_defined(operation, defined)
        if is_any(operation, (GroupOp,)):
            _check_values_of_group(operation, defined)
        defined.update(operation.results)
        for result in operation.results:
            users = [use.operation for use in result.uses] if isinstance(result.type, FutureType) else None
            if users is not None and (len(users) != 1 or not isinstance(users[0], WaitOp)):
                raise OperationError(operation, "what it starts must be waited for exactly once")


def _check_defined(operation: Operation, defined: Container[SSAValue]) -> None:
    for index, operand in enumerate(operation.operands):
        if operand not in defined:
            raise OperationError(operation, f"operand {index} is not defined before it in this program")


def _check_values_of_group(group: GroupOp, defined: set[SSAValue]) -> None:
    """What is sent was there before the group, since all of it begins together; what it yields is what it receives."""
    received = {result for operation in group.body.block.ops for result in operation.results}
    for operation in group.body.block.ops:
        if not isinstance(operation, YieldOp):
            _check_defined(operation, defined)
        elif not received.issuperset(operation.operands):
            raise OperationError(operation, "a group yields what it receives, and nothing else")


def _check_orders(block: Block, *, driver: bool) -> None:
    last = -1
    group: Operation | None = None
    received: Communication | None = None
    for operation in _communication(block):
        if operation.order is None:
            raise OperationError(operation, "communication in a program needs an order")
        place, parent = operation.order.data, operation.parent_op()
        if isinstance(parent, GroupOp) and parent is group:
            if place != last:
                raise OperationError(operation, f"order {place} is not that of its group, {last}")
        elif place <= last:
            raise OperationError(operation, f"order {place} does not rise: it follows order {last}")
        last, group = place, parent
        if not is_any(operation, _SENDS):
            received = operation
        elif driver and received is not None:
            # `execute` sends all inputs and returns; what comes in is taken later, when the user asks for results.
            raise OperationError(operation, "the driver sends before it receives: all inputs are known at the start")


def _check_groups(everything: Mapping[str, list[Communication]]) -> None:
    """All ends of a message are in groups of the same messages in the same order, or all in none."""
    if not any(isinstance(each.parent_op(), GroupOp) for operations in everything.values() for each in operations):
        return
    ends: dict[int, tuple[int, ...]] = {}
    for operations in everything.values():
        together: dict[Operation, list[int]] = {}
        for operation in operations:
            group = operation.parent_op()
            if isinstance(group, GroupOp):
                together.setdefault(group, []).extend(_message_ids(operation))
        for operation in operations:
            group = operation.parent_op()
            here = tuple(together[group]) if isinstance(group, GroupOp) else ()
            for message in _message_ids(operation):
                there = ends.setdefault(message, here)
                if here != there:
                    told = f"{_grouping(here)} here, and {_grouping(there)} at its other end"
                    raise OperationError(operation, f"message {message} is {told}")


def _message_ids(operation: Communication) -> Sequence[int]:
    if isinstance(operation, SendOp | ReceiveOp):
        return (operation.message.data,)
    return operation.message_ids if isinstance(operation, WriteOp | ChannelReadOp) else ()


def _grouping(messages: tuple[int, ...]) -> str:
    return f"in a group of messages {list(messages)}" if messages else "in no group"


def _check_collectives(everything: Mapping[str, list[Communication]]) -> None:
    """All participants of a collective take part, and agree on what it is."""
    taking_part: dict[int, dict[str, CollectiveOp]] = {}
    for name, operations in everything.items():
        for operation in operations:
            if not is_any(operation, (CollectiveOp,)):
                continue
            if operation.message is None:
                raise OperationError(operation, "a collective in a program needs a message")
            if name not in operation.participant_names:
                raise OperationError(operation, f"@{name} is not among the participants")
            check_collective(operation)
            others = taking_part.setdefault(operation.message.data, {})
            if name in others:
                raise OperationError(operation, f"@{name} takes part in message {operation.message.data} twice")
            others[name] = operation
    for message, participants in taking_part.items():
        first = next(iter(participants.values()))
        for name in first.participant_names:
            if name not in participants:
                raise OperationError(first, f"participant @{name} has no {first.name} for message {message}")
        for operation in participants.values():
            if _collective_key(operation) != _collective_key(first):
                raise OperationError(operation, f"the participants of message {message} do not agree on what it is")


def check_collective(operation: CollectiveOp) -> None:
    """Check what must be settled before anybody takes part. Raises `OperationError`."""
    names = operation.participant_names
    if len(set(names)) != len(names):
        raise OperationError(operation, f"a participant is named twice in [{', '.join('@' + name for name in names)}]")
    if operation.transport.is_request:
        raise OperationError(operation, f"transport '{operation.transport.kind.data}' is still a request")


def _collective_key(operation: CollectiveOp) -> tuple[object, ...]:
    shared = (operation.reduce, operation.participants, operation.transport, operation.order)
    return (operation.name, *shared, len(operation.operands))


def _check_messages(actors: Mapping[str, ActorOp], everything: Mapping[str, list[Communication]]) -> None:
    """Each message has one send, and one recv in the program of each receiver, which is not earlier."""
    sends: dict[int, tuple[str, SendOp]] = {}
    for name, operations in everything.items():
        for operation in operations:
            if isinstance(operation, SendOp):
                _add_send(sends, name, operation, actors)
    missing = {(message, receiver): send for message, (_, send) in sends.items() for receiver in send.receiver_names}
    for name, operations in everything.items():
        for operation in operations:
            if isinstance(operation, ReceiveOp):
                _match_recv(name, operation, sends, missing)
            elif isinstance(operation, CollectiveOp) and operation.message and operation.message.data in sends:
                raise OperationError(operation, f"message {operation.message.data} is also that of a cgc.send")
    for (message, receiver), send in missing.items():
        raise OperationError(send, f"@{receiver} never receives message {message}")


def _add_send(sends: dict[int, tuple[str, SendOp]], name: str, send: SendOp, actors: Mapping[str, ActorOp]) -> None:
    message = send.message.data
    if message in sends:
        raise OperationError(send, f"message {message} is sent twice")
    for receiver in send.receiver_names:
        if receiver not in actors:
            raise OperationError(send, f"there is no actor @{receiver}")
        if receiver == name:
            raise OperationError(send, f"@{name} sends to itself")
    sends[message] = (name, send)


def _match_recv(
    name: str,
    recv: ReceiveOp,
    sends: Mapping[int, tuple[str, SendOp]],
    missing: dict[tuple[int, str], SendOp],
) -> None:
    message = recv.message.data
    if message not in sends:
        raise OperationError(recv, f"nobody sends message {message}")
    sender, send = sends[message]
    if name not in send.receiver_names:
        raise OperationError(recv, f"message {message} is not sent to @{name}")
    if missing.pop((message, name), None) is None:
        raise OperationError(recv, f"@{name} receives message {message} twice")
    if recv.sender_name != sender:
        raise OperationError(recv, f"message {message} is from @{sender}, not from @{recv.sender_name}")
    if recv.transport != send.transport:
        raise OperationError(recv, f"message {message} is sent via {send.transport.kind.data}")
    _check_pair(recv, recv.order.data, send.order.data, send.transport.is_rendezvous)


def _check_pair(receiving: Operation, order: int, sent: int, rendezvous: bool) -> None:
    if order < sent:
        raise OperationError(receiving, f"order {order} is before that of the send, {sent}")
    if rendezvous and order != sent:
        raise OperationError(receiving, f"order {order} is not that of the send, {sent}, with which it completes")


@dataclass
class _Traffic:
    """What the programs do on one channel."""

    channel: ChannelOp
    writes: list[WriteOp] = field(default_factory=list)
    reads: dict[str, list[ChannelReadOp]] = field(default_factory=dict)


def _check_channels(
    graph: GraphOp, actors: Mapping[str, ActorOp], everything: Mapping[str, list[Communication]]
) -> None:
    """Only the writer writes, every reader reads all messages in the order in which they are written."""
    traffic: dict[str, _Traffic] = {}
    for channel in graph.body.block.ops:
        if not isinstance(channel, ChannelOp):
            continue
        for name in (channel.writer_name, *channel.reader_names):
            if name not in actors:
                raise OperationError(channel, f"there is no actor @{name}")
        if not channel.transport.can_broadcast and len(channel.reader_names) != 1:
            raise OperationError(channel, f"{channel.transport.kind.data} has exactly one reader per channel")
        reads: dict[str, list[ChannelReadOp]] = {name: [] for name in channel.reader_names}
        traffic[channel.sym_name.data] = _Traffic(channel, reads=reads)
    for name, operations in everything.items():
        for operation in operations:
            if isinstance(operation, WriteOp | ChannelReadOp):
                _add_traffic(traffic, name, operation)
    seen: set[int] = set()
    for one in traffic.values():
        _check_traffic(one, seen)


def _add_traffic(traffic: Mapping[str, _Traffic], name: str, operation: WriteOp | ChannelReadOp) -> None:
    one = traffic.get(operation.channel_name)
    if one is None:
        raise OperationError(operation, f"there is no channel @{operation.channel_name}")
    if isinstance(operation.parent_op(), GroupOp):
        _check_groupable(operation, one.channel.transport)
    if isinstance(operation, WriteOp):
        if one.channel.writer_name != name:
            raise OperationError(operation, f"@{operation.channel_name} is written by @{one.channel.writer_name}")
        one.writes.append(operation)
    elif name in one.reads:
        one.reads[name].append(operation)
    else:
        raise OperationError(operation, f"@{name} is no reader of @{operation.channel_name}")


def _check_traffic(one: _Traffic, seen: set[int]) -> None:
    name = one.channel.sym_name.data
    if not one.writes:
        raise OperationError(one.channel, f"@{one.channel.writer_name} never writes @{name}")
    if one.channel.shared is not None and one.channel.turns != len(one.writes):
        raise OperationError(one.channel, f"@{name} is shared by {len(one.writes)} writes, not by {one.channel.turns}")
    for write in one.writes:
        for message in write.message_ids:
            if message in seen:
                raise OperationError(write, f"message {message} is written twice")
            seen.add(message)
    for reader, reads in one.reads.items():
        if len(reads) != len(one.writes):
            counts = f"{len(one.writes)} messages, but @{reader} reads {len(reads)}"
            raise OperationError(one.channel, f"@{name} carries {counts}")
        for write, read in zip(one.writes, reads, strict=True):
            if read.message_ids != write.message_ids:
                ids = f"{list(read.message_ids)}, but the next write is {list(write.message_ids)}"
                raise OperationError(read, f"@{reader} expects messages {ids}")
            _check_pair(read, read.order.data, write.order.data, one.channel.transport.is_rendezvous)
