"""
Operations that involve several actors: collectives (from the level `graph`), transfers and copies (level `placed`).

    %3, %4 = cgc.allreduce sum(%1, %2) on [@a, @b] via nccl : !cgc.object, !cgc.object
    %5, %6 = cgc.transfer %1 from @a to [@b, @driver] via shm reason "…" : !cgc.object, !cgc.object
    %7 = cgc.copy %5 on @b reason "…" : !cgc.tensor<gpu>

In a program (levels `scheduled` and `allocated`) a collective is what one participant does: it has only that actor's
operands and results, and all participants' operations name the same message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from typing_extensions import Self
from xdsl.dialects.builtin import ArrayAttr, IntAttr, LocationAttr, StringAttr, SymbolRefAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from cgc.ir import base
from cgc.ir.attributes import VALUE, TransportAttr
from cgc.ir.base import CgcOp, Property
from cgc.ir.definition import operation_definition

REDUCE_OPS = ("sum", "product", "max", "min", "avg")


class CollectiveOp(CgcOp):
    """
    One collective over `participants`; each gives the same number of operands and gets as many results.

    Operands are grouped by participant: with k tensors each, those of participant i start at i * k.
    """

    REDUCES: ClassVar[bool]

    values = var_operand_def(VALUE)
    reduce = opt_prop_def(StringAttr)
    participants = prop_def(ArrayAttr[SymbolRefAttr])
    transport = prop_def(TransportAttr)
    message = opt_prop_def(IntAttr)
    order = opt_prop_def(IntAttr)
    stream = opt_prop_def(IntAttr)
    outputs = var_result_def(VALUE)

    def __init__(
        self,
        values: Sequence[SSAValue],
        participants: Iterable[str | SymbolRefAttr],
        result_types: Sequence[Attribute],
        *,
        reduce: str | None = None,
        transport: TransportAttr | str = "accelerator",
        message: int | None = None,
        order: int | None = None,
        stream: int | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {
            "reduce": reduce,
            "participants": base.symbol_refs(participants),
            "transport": base.transport_attr(transport),
            "message": message,
            "order": order,
            "stream": stream,
        }
        super().__init__(values, result_types, properties, location=location)

    def verify_(self) -> None:
        if (self.reduce is not None) != self.REDUCES:
            raise VerifyException(f"a reduce operation is {'missing' if self.REDUCES else 'not allowed'}")
        if self.reduce is not None and self.reduce.data not in REDUCE_OPS:
            raise VerifyException(f"unknown reduce operation '{self.reduce.data}' (known: {', '.join(REDUCE_OPS)})")
        if len(self.results) != len(self.operands):
            raise VerifyException(f"{len(self.operands)} operands, but {len(self.results)} results")

    @property
    def participant_names(self) -> tuple[str, ...]:
        return base.symbol_names(self.participants)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        reduce = parser.parse_keyword_in(REDUCE_OPS) if cls.REDUCES else None
        values = base.parse_operands(parser)
        parser.parse_keyword("on")
        participants = base.parse_symbols(parser)
        properties: dict[str, Attribute | None] = {
            "reduce": None if reduce is None else StringAttr(reduce),
            "participants": participants,
            "transport": base.parse_via(parser),
            "message": base.parse_optional_int(parser, "message"),
            "order": base.parse_optional_int(parser, "order"),
            "stream": base.parse_optional_int(parser, "stream"),
        }
        return base.finish(parser, cls, values, properties)

    def print(self, printer: Printer) -> None:
        printer.print_string("" if self.reduce is None else f" {self.reduce.data}")
        base.print_operands(printer, self.operands)
        printer.print_string(" on ")
        base.print_symbols(printer, self.participants)
        base.print_via(printer, self.transport)
        base.print_optional_int(printer, "message", self.message)
        base.print_optional_int(printer, "order", self.order)
        base.print_optional_int(printer, "stream", self.stream)
        base.print_result_types(printer, self)
        printer.print_op_attributes(self.attributes)


@operation_definition
class AllReduceOp(CollectiveOp):
    """Every participant gets the reduction of all values."""

    name = "cgc.allreduce"
    REDUCES: ClassVar[bool] = True


@operation_definition
class AllGatherOp(CollectiveOp):
    """Every participant gets all values, concatenated in the order of the participants."""

    name = "cgc.allgather"
    REDUCES: ClassVar[bool] = False


@operation_definition
class ReduceScatterOp(CollectiveOp):
    """Participant i gets part i of the reduction of all values."""

    name = "cgc.reduce_scatter"
    REDUCES: ClassVar[bool] = True


@operation_definition
class TransferOp(CgcOp):
    """Moves a value from its actor to others: one result per receiver, in their order."""

    name = "cgc.transfer"
    value = operand_def(VALUE)
    sender = prop_def(SymbolRefAttr)
    receivers = prop_def(ArrayAttr[SymbolRefAttr])
    transport = prop_def(TransportAttr)
    reason = opt_prop_def(StringAttr)
    outputs = var_result_def(VALUE)

    def __init__(
        self,
        value: SSAValue,
        sender: str | SymbolRefAttr,
        receivers: Iterable[str | SymbolRefAttr],
        transport: TransportAttr | str,
        result_types: Sequence[Attribute] | None = None,
        *,
        reason: str | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        to = base.symbol_refs(receivers)
        properties: dict[str, Property] = {
            "sender": base.symbol_ref(sender),
            "receivers": to,
            "transport": base.transport_attr(transport),
            "reason": reason,
        }
        types = [value.type] * len(to.data) if result_types is None else result_types
        super().__init__([value], types, properties, location=location)

    def verify_(self) -> None:
        if len(self.results) != len(self.receivers.data):
            raise VerifyException(f"{len(self.receivers.data)} receivers, but {len(self.results)} results")
        base.verify_ends(self.sender, self.receivers, self.transport)

    @property
    def sender_name(self) -> str:
        return self.sender.root_reference.data

    @property
    def receiver_names(self) -> tuple[str, ...]:
        return base.symbol_names(self.receivers)

    @classmethod
    def parse(cls, parser: Parser) -> TransferOp:
        value = base.parse_operand(parser)
        parser.parse_keyword("from")
        sender = base.parse_symbol(parser)
        parser.parse_keyword("to")
        properties: dict[str, Attribute | None] = {
            "sender": sender,
            "receivers": base.parse_symbols(parser),
            "transport": base.parse_via(parser),
            "reason": base.parse_optional_string(parser, "reason"),
        }
        return base.finish(parser, cls, [value], properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.value)
        printer.print_string(" from ")
        printer.print_attribute(self.sender)
        printer.print_string(" to ")
        base.print_symbols(printer, self.receivers)
        base.print_via(printer, self.transport)
        base.print_optional_string(printer, "reason", self.reason)
        base.print_result_types(printer, self)
        printer.print_op_attributes(self.attributes)


@operation_definition
class CopyOp(CgcOp):
    """Copies a value to another device of the same actor; the devices are those of the two types."""

    name = "cgc.copy"
    value = operand_def(VALUE)
    actor = prop_def(SymbolRefAttr)
    reason = opt_prop_def(StringAttr)
    result = result_def(VALUE)

    def __init__(
        self,
        value: SSAValue,
        actor: str | SymbolRefAttr,
        result_type: Attribute,
        *,
        reason: str | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {"actor": base.symbol_ref(actor), "reason": reason}
        super().__init__([value], [result_type], properties, location=location)

    @property
    def actor_name(self) -> str:
        return self.actor.root_reference.data

    @classmethod
    def parse(cls, parser: Parser) -> CopyOp:
        value = base.parse_operand(parser)
        parser.parse_keyword("on")
        properties: dict[str, Attribute | None] = {
            "actor": base.parse_symbol(parser),
            "reason": base.parse_optional_string(parser, "reason"),
        }
        return base.finish(parser, cls, [value], properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.value)
        printer.print_string(" on ")
        printer.print_attribute(self.actor)
        base.print_optional_string(printer, "reason", self.reason)
        base.print_result_types(printer, self)
        printer.print_op_attributes(self.attributes)
