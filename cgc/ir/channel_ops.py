"""
Operations of the level `allocated`: channels, and reads and writes that name one.

    cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
    cgc.write @c0(%0) messages [0] order 0
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object

One write is one message on the channel; it may carry the values of several messages of the level `scheduled`, whose
ids it keeps for verification, one per value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from typing_extensions import Self
from xdsl.dialects.builtin import ArrayAttr, IntAttr, LocationAttr, StringAttr, SymbolRefAttr, UnitAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import opt_prop_def, prop_def, traits_def, var_operand_def, var_result_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from cgc.ir import base
from cgc.ir.attributes import FUTURE, VALUE, TransportAttr, parse_transport, print_transport
from cgc.ir.base import CgcOp, Property
from cgc.ir.definition import operation_definition


@operation_definition
class ChannelOp(CgcOp):
    """
    Declares a channel: one writer, its readers by rank, and the messages that may be in flight.

    `static`: the shapes of its tensors never change, so that no message needs a header. `shared`: so many writes of
    each execution take turns on it, because their messages cannot be under way together.
    """

    name = "cgc.channel"
    sym_name = prop_def(StringAttr)
    transport = prop_def(TransportAttr)
    writer = prop_def(SymbolRefAttr)
    readers = prop_def(ArrayAttr[SymbolRefAttr])
    slots = prop_def(IntAttr)
    slot_bytes = prop_def(IntAttr)
    static = opt_prop_def(UnitAttr)
    shared = opt_prop_def(IntAttr)
    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        name: str,
        transport: TransportAttr | str,
        writer: str | SymbolRefAttr,
        readers: Iterable[str | SymbolRefAttr],
        *,
        slots: int,
        slot_bytes: int,
        static: bool = False,
        shared: int | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {
            "sym_name": name,
            "transport": base.transport_attr(transport),
            "writer": base.symbol_ref(writer),
            "readers": base.symbol_refs(readers),
            "slots": slots,
            "slot_bytes": slot_bytes,
            "static": static,
            "shared": shared,
        }
        super().__init__(properties=properties, location=location)

    def verify_(self) -> None:
        base.verify_ends(self.writer, self.readers, self.transport)
        if self.slots.data < 1 or self.slot_bytes.data < 0:
            raise VerifyException("a channel has at least one slot, and slots of 0 bytes or more")
        if self.shared is not None and self.shared.data < 2:
            raise VerifyException("a channel is shared by two writes or more")

    @property
    def turns(self) -> int:
        """Writes in one execution, as declared."""
        return 1 if self.shared is None else int(self.shared.data)

    @property
    def writer_name(self) -> str:
        return self.writer.root_reference.data

    @property
    def reader_names(self) -> tuple[str, ...]:
        return base.symbol_names(self.readers)

    @classmethod
    def parse(cls, parser: Parser) -> ChannelOp:
        properties: dict[str, Attribute | None] = {"sym_name": parser.parse_symbol_name()}
        properties["transport"] = parse_transport(parser)
        parser.parse_keyword("from")
        properties["writer"] = base.parse_symbol(parser)
        parser.parse_keyword("to")
        properties["readers"] = base.parse_symbols(parser)
        properties["slots"] = base.parse_keyword_int(parser, "slots")
        properties["slot_bytes"] = base.parse_keyword_int(parser, "slot_bytes")
        properties["static"] = UnitAttr() if parser.parse_optional_keyword("static") is not None else None
        properties["shared"] = base.parse_optional_int(parser, "shared")
        return base.finish(parser, cls, [], properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string(" ")
        print_transport(printer, self.transport)
        printer.print_string(" from ")
        printer.print_attribute(self.writer)
        printer.print_string(" to ")
        base.print_symbols(printer, self.readers)
        base.print_optional_int(printer, "slots", self.slots)
        base.print_optional_int(printer, "slot_bytes", self.slot_bytes)
        printer.print_string("" if self.static is None else " static")
        base.print_optional_int(printer, "shared", self.shared)
        printer.print_op_attributes(self.attributes)


@operation_definition
class WriteOp(CgcOp):
    """Writes its values as one message."""

    name = "cgc.write"
    channel = prop_def(SymbolRefAttr)
    values = var_operand_def(VALUE)
    messages = prop_def(ArrayAttr[IntAttr])
    order = prop_def(IntAttr)
    stream = opt_prop_def(IntAttr)

    def __init__(
        self,
        channel: str | SymbolRefAttr,
        values: Sequence[SSAValue],
        messages: Iterable[int],
        order: int,
        *,
        stream: int | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {
            "channel": base.symbol_ref(channel),
            "messages": base.int_attrs(messages),
            "order": order,
            "stream": stream,
        }
        super().__init__(values, [], properties, location=location)

    def verify_(self) -> None:
        if len(self.messages.data) != len(self.operands):
            raise VerifyException(f"{len(self.operands)} values, but {len(self.messages.data)} message ids")

    @property
    def channel_name(self) -> str:
        return self.channel.root_reference.data

    @property
    def message_ids(self) -> tuple[int, ...]:
        return tuple(message.data for message in self.messages.data)

    @classmethod
    def parse(cls, parser: Parser) -> WriteOp:
        channel = base.parse_symbol(parser)
        values = base.parse_operands(parser)
        return base.finish(parser, cls, values, {"channel": channel, **_parse_messages(parser)})

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_attribute(self.channel)
        base.print_operands(printer, self.operands)
        _print_messages(printer, self)
        printer.print_op_attributes(self.attributes)


class ChannelReadOp(CgcOp):
    """Common part of `cgc.read` and `cgc.read_start`."""

    channel = prop_def(SymbolRefAttr)
    messages = prop_def(ArrayAttr[IntAttr])
    order = prop_def(IntAttr)
    stream = opt_prop_def(IntAttr)

    def __init__(
        self,
        channel: str | SymbolRefAttr,
        messages: Iterable[int],
        order: int,
        result_types: Sequence[Attribute],
        *,
        stream: int | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {
            "channel": base.symbol_ref(channel),
            "messages": base.int_attrs(messages),
            "order": order,
            "stream": stream,
        }
        super().__init__([], result_types, properties, location=location)

    def verify_(self) -> None:
        if len(self.messages.data) != len(self.results):
            raise VerifyException(f"{len(self.results)} results, but {len(self.messages.data)} message ids")

    @property
    def channel_name(self) -> str:
        return self.channel.root_reference.data

    @property
    def message_ids(self) -> tuple[int, ...]:
        return tuple(message.data for message in self.messages.data)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        channel = base.parse_symbol(parser)
        return base.finish(parser, cls, [], {"channel": channel, **_parse_messages(parser)})

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_attribute(self.channel)
        _print_messages(printer, self)
        base.print_result_types(printer, self)
        printer.print_op_attributes(self.attributes)


@operation_definition
class ReadOp(ChannelReadOp):
    """Takes the next message; one result per value in it."""

    name = "cgc.read"
    outputs = var_result_def(VALUE)


@operation_definition
class ReadStartOp(ChannelReadOp):
    """Starts to take the next message; `cgc.wait` takes each value."""

    name = "cgc.read_start"
    outputs = var_result_def(FUTURE)


def _parse_messages(parser: Parser) -> dict[str, Attribute | None]:
    """`"messages" "[" … "]" "order" integer ("stream" integer)?`"""
    parser.parse_keyword("messages")
    messages = parser.parse_comma_separated_list(Parser.Delimiter.SQUARE, lambda: base.parse_int(parser))
    return {
        "messages": ArrayAttr(messages),
        "order": base.parse_keyword_int(parser, "order"),
        "stream": base.parse_optional_int(parser, "stream"),
    }


def _print_messages(printer: Printer, operation: WriteOp | ChannelReadOp) -> None:
    printer.print_string(f" messages {list(operation.message_ids)}")
    base.print_optional_int(printer, "order", operation.order)
    base.print_optional_int(printer, "stream", operation.stream)
