"""
Operations of the levels `scheduled` (programs that send and receive) and `allocated` (programs on channels).

    cgc.program @b {
      %0 = cgc.recv message 1 from @a via shm order 2 : !cgc.object
      %1 = cgc.call @b::@fwd(%0, 3) : !cgc.object
      cgc.send %1 message 2 to [@driver] via shm order 4
    }

Communication carries `message`, its identity, which a send shares with its recvs, and `order`, its place in the one
global order: orders rise strictly along every program; a recv is not before its send, and on a transport that
rendezvous it is at the same place. All of a group is at one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from xdsl.dialects.builtin import ArrayAttr, IntAttr, LocationAttr, SymbolRefAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.irdl import (
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, IsTerminator, NoTerminator
from xdsl.utils.exceptions import VerifyException

from cgc.ir import base
from cgc.ir.attributes import ANY_VALUE, FUTURE, VALUE, FutureType, TransportAttr
from cgc.ir.base import CgcOp, Property
from cgc.ir.definition import operation_definition


@operation_definition
class ProgramOp(CgcOp):
    """What one participant does, once per execution, in this order."""

    name = "cgc.program"
    actor = prop_def(SymbolRefAttr)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), NoTerminator())

    def __init__(
        self, actor: str | SymbolRefAttr, operations: Sequence[Operation] = (), *, location: LocationAttr | None = None
    ) -> None:
        super().__init__(
            properties={"actor": base.symbol_ref(actor)}, regions=[Region(Block(operations))], location=location
        )

    @property
    def actor_name(self) -> str:
        return self.actor.root_reference.data

    @classmethod
    def parse(cls, parser: Parser) -> ProgramOp:
        return base.finish_with_region(parser, cls, {"actor": base.parse_symbol(parser)})

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_attribute(self.actor)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        base.print_block_region(printer, self.body)


@operation_definition
class SendOp(CgcOp):
    """Sends a value as one message to one or more receivers (one on a custom communicator)."""

    name = "cgc.send"
    value = operand_def(VALUE)
    message = prop_def(IntAttr)
    receivers = prop_def(ArrayAttr[SymbolRefAttr])
    transport = prop_def(TransportAttr)
    order = prop_def(IntAttr)
    stream = opt_prop_def(IntAttr)

    def __init__(
        self,
        value: SSAValue,
        message: int,
        receivers: Iterable[str | SymbolRefAttr],
        transport: TransportAttr | str,
        order: int,
        *,
        stream: int | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {
            "message": message,
            "receivers": base.symbol_refs(receivers),
            "transport": base.transport_attr(transport),
            "order": order,
            "stream": stream,
        }
        super().__init__([value], [], properties, location=location)

    def verify_(self) -> None:
        base.verify_ends(None, self.receivers, self.transport)
        if not self.transport.can_broadcast and len(self.receivers.data) != 1:
            raise VerifyException(f"{self.transport.kind.data} has exactly one receiver per send")

    @property
    def receiver_names(self) -> tuple[str, ...]:
        return base.symbol_names(self.receivers)

    @classmethod
    def parse(cls, parser: Parser) -> SendOp:
        value = base.parse_operand(parser)
        properties: dict[str, Attribute | None] = {"message": base.parse_keyword_int(parser, "message")}
        parser.parse_keyword("to")
        properties["receivers"] = base.parse_symbols(parser)
        base.parse_place(parser, properties)
        return base.finish(parser, cls, [value], properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.value)
        printer.print_string(f" message {self.message.data} to ")
        base.print_symbols(printer, self.receivers)
        base.print_place(printer, self.transport, self.order, self.stream)
        printer.print_op_attributes(self.attributes)


class ReceiveOp(CgcOp):
    """Common part of `cgc.recv` and `cgc.recv_start`."""

    message = prop_def(IntAttr)
    sender = prop_def(SymbolRefAttr)
    transport = prop_def(TransportAttr)
    order = prop_def(IntAttr)
    stream = opt_prop_def(IntAttr)

    def __init__(
        self,
        message: int,
        sender: str | SymbolRefAttr,
        transport: TransportAttr | str,
        order: int,
        result_type: Attribute,
        *,
        stream: int | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {
            "message": message,
            "sender": base.symbol_ref(sender),
            "transport": base.transport_attr(transport),
            "order": order,
            "stream": stream,
        }
        super().__init__([], [result_type], properties, location=location)

    @property
    def sender_name(self) -> str:
        return self.sender.root_reference.data

    @classmethod
    def parse(cls, parser: Parser) -> ReceiveOp:
        properties: dict[str, Attribute | None] = {"message": base.parse_keyword_int(parser, "message")}
        parser.parse_keyword("from")
        properties["sender"] = base.parse_symbol(parser)
        base.parse_place(parser, properties)
        return base.finish(parser, cls, [], properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(f" message {self.message.data} from ")
        printer.print_attribute(self.sender)
        base.print_place(printer, self.transport, self.order, self.stream)
        base.print_result_types(printer, self)
        printer.print_op_attributes(self.attributes)


@operation_definition
class RecvOp(ReceiveOp):
    """Waits for a message and takes its value."""

    name = "cgc.recv"
    result = result_def(VALUE)


@operation_definition
class RecvStartOp(ReceiveOp):
    """Starts to receive a message; `cgc.wait` takes its value."""

    name = "cgc.recv_start"
    result = result_def(FUTURE)


@operation_definition
class WaitOp(CgcOp):
    """Waits for a value that is on its way."""

    name = "cgc.wait"
    future = operand_def(FUTURE)
    result = result_def(VALUE)

    def __init__(self, future: SSAValue, *, location: LocationAttr | None = None) -> None:
        super().__init__([future], [cast(FutureType, future.type).element], location=location)

    def verify_(self) -> None:
        if self.result.type != cast(FutureType, self.future.type).element:
            raise VerifyException(f"waits for {self.future.type}, but the result is {self.result.type}")

    @classmethod
    def parse(cls, parser: Parser) -> WaitOp:
        operand = parser.parse_unresolved_operand()
        future = base.resolve(parser, operand)
        if not isinstance(future.type, FutureType):
            parser.raise_error(f"expected a !cgc.future, got {future.type}", operand.span)
        return base.parse_attributes(parser, cls(future))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.future)
        printer.print_op_attributes(self.attributes)


@operation_definition
class YieldOp(CgcOp):
    """Ends a group and hands out its values."""

    name = "cgc.yield"
    values = var_operand_def(ANY_VALUE)
    traits = traits_def(IsTerminator())

    def __init__(self, values: Sequence[SSAValue] = (), *, location: LocationAttr | None = None) -> None:
        super().__init__(values, location=location)

    @classmethod
    def parse(cls, parser: Parser) -> YieldOp:
        return base.parse_attributes(parser, cls(base.parse_operands(parser)))

    def print(self, printer: Printer) -> None:
        base.print_operands(printer, self.operands)
        printer.print_op_attributes(self.attributes)


@operation_definition
class GroupOp(CgcOp):
    """
    Sends and recvs of communicators that are begun together and end when all have ended: one place of the order.

        %4 = cgc.group {
          cgc.send %1 message 1 to [@b] via gloo order 4
          %3 = cgc.recv message 2 from @b via gloo order 4 : !cgc.object
          cgc.yield(%3)
        }

    The other end of each of its messages is in a group of the same messages in the same order.
    """

    name = "cgc.group"
    body = region_def("single_block")
    outputs = var_result_def(ANY_VALUE)

    def __init__(self, operations: Sequence[Operation], *, location: LocationAttr | None = None) -> None:
        """`operations` end with a `YieldOp`, whose operands become the results."""
        types = [value.type for value in operations[-1].operands]
        super().__init__([], types, regions=[Region(Block(operations))], location=location)

    def verify_(self) -> None:
        last = self.body.block.last_op
        if not isinstance(last, YieldOp):
            raise VerifyException("a group ends with cgc.yield")
        if [value.type for value in last.operands] != [result.type for result in self.results]:
            raise VerifyException("the types of the results are not those of the values that the group yields")

    @classmethod
    def parse(cls, parser: Parser) -> GroupOp:
        attributes = parser.parse_optional_attr_dict_with_keyword()
        region = base.parse_block_region(parser)
        last = region.block.last_op
        types = [value.type for value in last.operands] if isinstance(last, YieldOp) else []
        operation = cls.create(result_types=types, regions=[region])
        operation.attributes = dict(attributes.data) if attributes is not None else {}
        return operation

    def print(self, printer: Printer) -> None:
        printer.print_op_attributes(self.attributes, print_keyword=True)
        base.print_block_region(printer, self.body)
