"""
Operations of the level `graph`: the structure of a graph, its calls and outputs (for inputs see `input_ops.py`).

    cgc.graph @chain level = graph, max_inflight = 10 {
      cgc.actor @driver driver on "n0"
      cgc.actor @Stage_0 actor class "Stage" on "n0"
      cgc.body {
        %0 = cgc.input : !cgc.object
        %1 = cgc.call @Stage_0::@fwd(%0, 3, scale=2.0) : !cgc.object loc("stages.py":13:0)
        cgc.output %1
      }
    }
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from xdsl.dialects.builtin import ArrayAttr, IntAttr, LocationAttr, StringAttr, SymbolRefAttr, UnitAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.irdl import (
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, IsTerminator, NoTerminator, SymbolOpInterface, SymbolTable
from xdsl.utils.exceptions import VerifyException

from cgc.ir import base
from cgc.ir.arguments import (
    Bound,
    NestAttr,
    fill,
    operand_count,
    operands_of,
    parse_argument,
    print_argument,
    template_of,
)
from cgc.ir.attributes import (
    OBJECT,
    VALUE,
    LiteralAttr,
    OpaqueAttr,
    OperandAttr,
)
from cgc.ir.base import CgcOp, Property
from cgc.ir.definition import operation_definition

LEVELS = ("graph", "placed", "scheduled", "allocated")

ACTOR_KINDS = ("driver", "actor", "class", "task")
"""
`task`: the host of a remote function, an actor that cgc makes when the graph starts; `class`: an actor class that was
bound but not instantiated, which is a user's mistake.
"""


@operation_definition
class GraphOp(CgcOp):
    """A compiled graph: declarations of actors (and channels), then a body or one program per actor."""

    name = "cgc.graph"
    sym_name = prop_def(StringAttr)
    level = prop_def(StringAttr)
    max_inflight = opt_prop_def(IntAttr)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), NoTerminator(), SymbolTable(), SymbolOpInterface())

    def __init__(
        self,
        name: str,
        operations: Sequence[Operation] = (),
        *,
        level: str = "graph",
        max_inflight: int | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {"sym_name": name, "level": level, "max_inflight": max_inflight}
        super().__init__(properties=properties, regions=[Region(Block(operations))], location=location)

    def verify_(self) -> None:
        if self.level.data not in LEVELS:
            raise VerifyException(f"unknown level '{self.level.data}' (known: {', '.join(LEVELS)})")

    @classmethod
    def parse(cls, parser: Parser) -> GraphOp:
        name = parser.parse_symbol_name()
        parser.parse_keyword("level")
        parser.parse_punctuation("=")
        level = parser.parse_keyword_in(LEVELS)
        properties: dict[str, Attribute] = {"sym_name": name, "level": StringAttr(level)}
        if parser.parse_optional_punctuation(",") is not None:
            parser.parse_keyword("max_inflight")
            parser.parse_punctuation("=")
            properties["max_inflight"] = base.parse_int(parser)
        return base.finish_with_region(parser, cls, properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string(f" level = {self.level.data}")
        if self.max_inflight is not None:
            printer.print_string(f", max_inflight = {self.max_inflight.data}")
        printer.print_op_attributes(self.attributes, print_keyword=True)
        base.print_block_region(printer, self.body)


@operation_definition
class ActorOp(CgcOp):
    """Declares a participant. The id is an attribute that the importer leaves out unless asked: it changes each run."""

    name = "cgc.actor"
    sym_name = prop_def(StringAttr)
    kind = prop_def(StringAttr)
    node = prop_def(StringAttr)
    class_name = opt_prop_def(StringAttr)
    devices = opt_prop_def(ArrayAttr[StringAttr])
    actor_id = opt_prop_def(StringAttr)
    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        name: str,
        kind: str = "actor",
        *,
        node: str = "n0",
        class_name: str | None = None,
        devices: Iterable[str] = (),
        actor_id: str | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        device_attrs = ArrayAttr([StringAttr(device) for device in devices])
        properties: dict[str, Property] = {
            "sym_name": name,
            "kind": kind,
            "node": node,
            "class_name": class_name,
            "devices": device_attrs if device_attrs.data else None,
            "actor_id": actor_id,
        }
        super().__init__(properties=properties, location=location)

    def verify_(self) -> None:
        if self.kind.data not in ACTOR_KINDS:
            raise VerifyException(f"unknown kind '{self.kind.data}' (known: {', '.join(ACTOR_KINDS)})")

    @property
    def device_names(self) -> tuple[str, ...]:
        return () if self.devices is None else tuple(device.data for device in self.devices.data)

    @classmethod
    def parse(cls, parser: Parser) -> ActorOp:
        properties: dict[str, Attribute | None] = {
            "sym_name": parser.parse_symbol_name(),
            "kind": StringAttr(parser.parse_keyword_in(ACTOR_KINDS)),
            "class_name": base.parse_optional_string(parser, "class"),
        }
        parser.parse_keyword("on")
        properties["node"] = StringAttr(parser.parse_str_literal())
        if parser.parse_optional_keyword("devices") is not None:
            names = parser.parse_comma_separated_list(Parser.Delimiter.SQUARE, parser.parse_str_literal)
            properties["devices"] = ArrayAttr([StringAttr(name) for name in names])
        properties["actor_id"] = base.parse_optional_string(parser, "id")
        return base.finish(parser, cls, [], properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string(f" {self.kind.data}")
        base.print_optional_string(printer, "class", self.class_name)
        base.print_optional_string(printer, "on", self.node)
        if self.devices is not None:
            printer.print_string(" devices ")
            printer.print_attribute(self.devices)
        base.print_optional_string(printer, "id", self.actor_id)
        printer.print_op_attributes(self.attributes)


@operation_definition
class BodyOp(CgcOp):
    """The whole graph as one sequence, at the levels `graph` and `placed`."""

    name = "cgc.body"
    body = region_def("single_block")
    traits = traits_def(NoTerminator())

    def __init__(self, operations: Sequence[Operation] = (), *, location: LocationAttr | None = None) -> None:
        super().__init__(regions=[Region(Block(operations))], location=location)

    @classmethod
    def parse(cls, parser: Parser) -> BodyOp:
        return base.finish_with_region(parser, cls, {})

    def print(self, printer: Printer) -> None:
        printer.print_op_attributes(self.attributes, print_keyword=True)
        base.print_block_region(printer, self.body)


@operation_definition
class CallOp(CgcOp):
    """
    Calls a method of an actor; several results for a method with `num_returns`.

    `arguments` is the template: positional arguments, then one per name in `keywords`. The last `after` operands are
    waited for and not passed on. The result of an `effect` is None: nobody wants more than to know of its errors.
    """

    name = "cgc.call"
    values = var_operand_def(VALUE)
    callee = prop_def(SymbolRefAttr)
    effect = opt_prop_def(UnitAttr)
    after = opt_prop_def(IntAttr)
    arguments = prop_def(ArrayAttr[OperandAttr | LiteralAttr | OpaqueAttr | NestAttr])
    keywords = opt_prop_def(ArrayAttr[StringAttr])
    outputs = var_result_def(VALUE)

    def __init__(
        self,
        actor: str,
        method: str,
        args: Sequence[Bound] = (),
        kwargs: Mapping[str, Bound] | None = None,
        result_types: Sequence[Attribute] = (OBJECT,),
        *,
        effect: bool = False,
        after: Sequence[SSAValue] = (),
        location: LocationAttr | None = None,
    ) -> None:
        given = [*args, *(kwargs or {}).values()]
        properties: dict[str, Property] = {
            "callee": base.method_ref(actor, method),
            "arguments": ArrayAttr([template_of(value) for value in given]),
            "keywords": ArrayAttr([StringAttr(keyword) for keyword in kwargs]) if kwargs else None,
            "effect": effect,
            "after": len(after) or None,
        }
        operands = [operand for value in given for operand in operands_of(value)]
        super().__init__([*operands, *after], result_types, properties, location=location)

    def verify_(self) -> None:
        if len(self.callee.nested_references.data) != 1:
            raise VerifyException(f"the callee must be @actor::@method, got {self.callee}")
        taken = sum(operand_count(argument) for argument in self.arguments.data)
        given = len(self.operands) - _count(self.after)
        if taken != given:
            raise VerifyException(f"the arguments take {taken} operands, but there are {given}")
        if self.effect is not None and [result.type for result in self.results] != [OBJECT]:
            raise VerifyException("an effect has one result, an !cgc.object")
        names = self.keyword_names
        if len(names) > len(self.arguments.data) or len(set(names)) != len(names):
            raise VerifyException("keyword names must be distinct and not more than there are arguments")

    @property
    def actor(self) -> str:
        return self.callee.root_reference.data

    @property
    def method(self) -> str:
        return self.callee.nested_references.data[0].data

    @property
    def keyword_names(self) -> tuple[str, ...]:
        return () if self.keywords is None else tuple(keyword.data for keyword in self.keywords.data)

    @property
    def bound(self) -> tuple[list[Bound], dict[str, Bound]]:
        """Positional and keyword arguments, with the SSA value in each place that takes an operand."""
        operands = iter(self.operands)
        given = [fill(template, operands) for template in self.arguments.data]
        names = self.keyword_names
        positional = len(given) - len(names)
        return given[:positional], dict(zip(names, given[positional:], strict=True))

    @property
    def awaited(self) -> tuple[SSAValue, ...]:
        """What the call waits for and does not take."""
        return tuple(self.operands[len(self.operands) - _count(self.after) :])

    def wait_for(self, value: SSAValue) -> None:
        """Let the call wait for one more value."""
        self.operands = [*self.operands, value]
        self.properties["after"] = IntAttr(_count(self.after) + 1)

    @classmethod
    def parse(cls, parser: Parser) -> CallOp:
        actor = parser.parse_symbol_name()
        parser.parse_punctuation(":")
        parser.parse_punctuation(":")
        method = parser.parse_symbol_name()
        keywords: dict[str, Bound] = {}
        args: list[Bound] = []

        def parse_one() -> None:
            position = parser.pos
            keyword, value = parse_argument(parser)
            if keyword is None and keywords:
                parser.raise_error("a positional argument follows a keyword argument", position)
            if keyword in keywords:
                parser.raise_error(f"keyword argument '{keyword}' is given twice", position)
            if keyword is None:
                args.append(value)
            else:
                keywords[keyword] = value

        parser.parse_comma_separated_list(Parser.Delimiter.PAREN, parse_one)
        effect = parser.parse_optional_keyword("effect") is not None
        after = _parse_after(parser)
        types = base.parse_result_types(parser)
        operation = cls(actor.data, method.data, args, keywords, types, effect=effect, after=after)
        return base.parse_attributes(parser, operation)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_attribute(self.callee)
        args, kwargs = self.bound
        given = [*((None, value) for value in args), *kwargs.items()]
        printer.print_string("(")
        printer.print_list(given, lambda item: print_argument(printer, *item))
        printer.print_string(")")
        printer.print_string("" if self.effect is None else " effect")
        _print_after(printer, self.awaited)
        base.print_result_types(printer, self)
        printer.print_op_attributes(self.attributes)


@operation_definition
class OutputOp(CgcOp):
    """
    The outputs of an execution, at the end; `is_list` if the user gets a list (`MultiOutputNode`).

    The last `after` operands are effects: every output waits for them, and their errors are its errors.
    """

    name = "cgc.output"
    values = var_operand_def(VALUE)
    is_list = opt_prop_def(UnitAttr)
    after = opt_prop_def(IntAttr)
    traits = traits_def(IsTerminator())

    def __init__(
        self,
        values: Sequence[SSAValue],
        *,
        is_list: bool = False,
        after: Sequence[SSAValue] = (),
        location: LocationAttr | None = None,
    ) -> None:
        properties: dict[str, Property] = {"is_list": is_list, "after": len(after) or None}
        super().__init__([*values, *after], properties=properties, location=location)

    def verify_(self) -> None:
        if _count(self.after) > len(self.operands):
            raise VerifyException(f"{_count(self.after)} operands are effects, but there are {len(self.operands)}")
        if self.is_list is None and len(self.outputs) != 1:
            raise VerifyException(f"an output that is no list has one value, not {len(self.outputs)}")

    @property
    def outputs(self) -> tuple[SSAValue, ...]:
        """What the user gets."""
        return tuple(self.operands[: len(self.operands) - _count(self.after)])

    @property
    def effects(self) -> tuple[SSAValue, ...]:
        """What every output waits for."""
        return tuple(self.operands[len(self.operands) - _count(self.after) :])

    @classmethod
    def parse(cls, parser: Parser) -> OutputOp:
        values = parser.parse_optional_comma_separated_list(Parser.Delimiter.SQUARE, lambda: base.parse_operand(parser))
        is_list = values is not None
        values = [base.parse_operand(parser)] if values is None else values
        return base.parse_attributes(parser, cls(values, is_list=is_list, after=_parse_after(parser)))

    def print(self, printer: Printer) -> None:
        printer.print_string(" " if self.is_list is None else " [")
        printer.print_list(self.outputs, printer.print_operand)
        printer.print_string("" if self.is_list is None else "]")
        _print_after(printer, self.effects)
        printer.print_op_attributes(self.attributes)


def _count(number: IntAttr | None) -> int:
    return 0 if number is None else int(number.data)


def _parse_after(parser: Parser) -> list[SSAValue]:
    """`after ::= ("after" operands)?`"""
    return base.parse_operands(parser) if parser.parse_optional_keyword("after") is not None else []


def _print_after(printer: Printer, values: Sequence[SSAValue]) -> None:
    if values:
        printer.print_string(" after")
        base.print_operands(printer, values)
