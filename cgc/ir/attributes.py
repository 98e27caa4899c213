"""
Types and attributes of the `cgc` dialect.

Types:

    !cgc.object                                       any Python value
    !cgc.tensor<gpu, [4, ?], float32, via nccl>       a value that is, or contains, torch tensors
    !cgc.future<!cgc.object>                          a value that is still on its way

Arguments of a call are a template: one attribute per argument, `OperandAttr` (takes the next SSA operand), a constant
(`LiteralAttr`, `OpaqueAttr`), or a container of such (`arguments.NestAttr`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from xdsl.dialects.builtin import ArrayAttr, IntAttr, NoneAttr, StringAttr
from xdsl.ir import Attribute, Data, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import AttrConstraint, BaseAttr, irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

DYNAMIC = -1
"""A dimension whose extent is known only at run time; printed as `?`."""

REQUESTS = ("auto", "accelerator")
"""Transports that a user may ask for and that `infer-types` replaces by one of `TRANSPORTS`."""

TRANSPORTS = ("local", "shm", "tcp", "nccl", "gloo", "cuda_ipc", "custom")
"""Transports that exist at run time."""

RENDEZVOUS = frozenset({"nccl", "gloo", "custom"})
"""Transports on which a send and its recv complete together."""

BROADCASTING = frozenset({"nccl", "gloo"})
"""Of those, the ones on which a message may have several receivers; Ray's interface of communicators has no such."""

GROUPING = frozenset({"nccl", "gloo"})
"""Those whose sends and recvs can be begun together (`cgc.group`); Ray's interface has no such either."""

LENDING = frozenset({"cuda_ipc"})
"""Transports on which the receivers see the sender's own memory: messages of a few bytes, buffered as those of shm."""

MAX_LITERAL_LENGTH = 200
"""Longer strings, and integers of more digits, are kept as objects: the text stays readable."""

LiteralValue = None | bool | int | float | str

TENSOR_FLAGS = ("static", "direct")

LITERAL_WORDS: dict[str, LiteralValue] = {
    "none": None,
    "true": True,
    "false": False,
    "nan": math.nan,
    "inf": math.inf,
}
"""Literals that are bare words in the text."""

_DEVICE = re.compile(r"[a-z_]+(:[0-9]+)?")
_DTYPE = re.compile(r"[a-z_][a-z0-9_]*")


@irdl_attr_definition
class OpaqueAttr(ParametrizedAttribute):
    """A Python object that the text cannot spell: its place in the `ConstantTable` and what it looks like."""

    name = "cgc.opaque"
    index: IntAttr
    summary: StringAttr

    @staticmethod
    def of(index: int, summary: str) -> OpaqueAttr:
        return OpaqueAttr(IntAttr(index), StringAttr(summary))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        parser.parse_punctuation("<")
        return parse_rest_of_opaque(parser).parameters

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(f"{self.index.data}, ")
            printer.print_string_literal(self.summary.data)


@irdl_attr_definition
class OperandAttr(ParametrizedAttribute):
    """A place in an argument template that takes the next operand."""

    name = "cgc.operand"


OPERAND = OperandAttr()


@irdl_attr_definition
class LiteralAttr(Data[str]):
    """
    A constant that the text spells in full.

    `data` is a spelling, not the value: Python holds `1`, `1.0` and `True` for equal and `nan` for unequal to itself,
    and two attributes must be equal exactly if they print alike. It is the text of the IR for numbers, `true`, `false`
    and `none`; a string is kept as it is behind one quotation mark.
    """

    name = "cgc.literal"

    @staticmethod
    def of(value: LiteralValue) -> LiteralAttr:
        """Raises `ValueError` unless `LiteralAttr.can_spell(value)`."""
        if not LiteralAttr.can_spell(value):
            raise ValueError(f"a {type(value).__name__} like this cannot be written as a literal")
        if isinstance(value, str):
            return LiteralAttr('"' + value)
        if isinstance(value, float):
            return LiteralAttr(_spell_float(value))
        return LiteralAttr(str(value).lower())

    @staticmethod
    def can_spell(value: object) -> bool:
        """True for None and short values of exactly the types bool, int, float, str (an enum member is an object)."""
        if type(value) is str:
            return len(value) <= MAX_LITERAL_LENGTH and _is_unicode(value)
        if type(value) is int:
            return value.bit_length() <= 3 * MAX_LITERAL_LENGTH
        return value is None or type(value) in (bool, float)

    @property
    def value(self) -> LiteralValue:
        if self.data.startswith('"'):
            return self.data[1:]
        if self.data in LITERAL_WORDS:
            return LITERAL_WORDS[self.data]
        if self.data == "-inf":
            return -math.inf
        return float(self.data) if "." in self.data else int(self.data)

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> str:
        with parser.in_angle_brackets():
            literal = parse_optional_literal(parser)
            if literal is None:
                parser.raise_error("expected a literal")
            return literal.data

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            print_literal(printer, self)


Constant = LiteralAttr | OpaqueAttr


@irdl_attr_definition
class TransportAttr(ParametrizedAttribute):
    """How a value crosses actors: one of `TRANSPORTS`, or one of `REQUESTS`; `custom` names the user's communicator."""

    name = "cgc.transport"
    kind: StringAttr
    communicator: OpaqueAttr | NoneAttr

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(kind: str, communicator: OpaqueAttr | None = None) -> TransportAttr:
        return TransportAttr(StringAttr(kind), communicator or NoneAttr())

    def verify(self) -> None:
        if self.kind.data not in (*REQUESTS, *TRANSPORTS):
            known = ", ".join((*REQUESTS, *TRANSPORTS))
            raise VerifyException(f"unknown transport '{self.kind.data}' (known: {known})")
        if (self.kind.data == "custom") != isinstance(self.communicator, OpaqueAttr):
            raise VerifyException("transport 'custom', and no other, names a communicator")

    @property
    def is_request(self) -> bool:
        return self.kind.data in REQUESTS

    @property
    def is_rendezvous(self) -> bool:
        return self.kind.data in RENDEZVOUS

    @property
    def lends(self) -> bool:
        """Whether receivers see the sender's memory, which it keeps until they have given it back."""
        return self.kind.data in LENDING

    @property
    def can_broadcast(self) -> bool:
        """Whether one message may have several receivers."""
        return not self.is_rendezvous or self.kind.data in BROADCASTING

    @property
    def can_group(self) -> bool:
        """Whether sends and recvs of several messages may be one `cgc.group`."""
        return self.kind.data in GROUPING

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return parse_transport(parser).parameters

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            print_transport(printer, self)


@irdl_attr_definition
class ObjectType(ParametrizedAttribute, TypeAttribute):
    """Any Python value."""

    name = "cgc.object"


OBJECT = ObjectType()


@irdl_attr_definition
class TensorType(ParametrizedAttribute, TypeAttribute):
    """
    A value that is a torch tensor, or (unless `direct`) contains some.

    Parameters:
        device: `default` (where the sender has it), `cpu`, `gpu` or one device such as `gpu:0`.
        shape: Extents, `DYNAMIC` where unknown; NoneAttr if the rank is unknown.
        dtype: Name as torch writes it without `torch.`, e.g. `float32`; NoneAttr if unknown.
        request: The transport that the user asked for; NoneAttr once `infer-types` has settled it.
        flags: `static` (shapes and dtypes never change), `direct` (the value itself is one tensor), in this order.
    """

    name = "cgc.tensor"
    device: StringAttr
    shape: ArrayAttr[IntAttr] | NoneAttr
    dtype: StringAttr | NoneAttr
    request: TransportAttr | NoneAttr
    flags: ArrayAttr[StringAttr]

    @staticmethod
    def of(
        device: str = "default",
        shape: Sequence[int] | None = None,
        dtype: str | None = None,
        request: TransportAttr | str | None = None,
        *,
        static: bool = False,
        direct: bool = False,
    ) -> TensorType:
        if isinstance(request, str):
            request = TransportAttr.of(request)
        flags = [name for name, on in zip(TENSOR_FLAGS, (static, direct), strict=True) if on]
        return TensorType(
            StringAttr(device),
            NoneAttr() if shape is None else ArrayAttr([IntAttr(extent) for extent in shape]),
            NoneAttr() if dtype is None else StringAttr(dtype),
            request or NoneAttr(),
            ArrayAttr([StringAttr(flag) for flag in flags]),
        )

    @property
    def static(self) -> bool:
        return StringAttr("static") in self.flags.data

    @property
    def direct(self) -> bool:
        return StringAttr("direct") in self.flags.data

    @property
    def extents(self) -> tuple[int, ...] | None:
        """The shape as integers, `DYNAMIC` where unknown; None if the rank is unknown."""
        return None if isinstance(self.shape, NoneAttr) else tuple(extent.data for extent in self.shape.data)

    def verify(self) -> None:
        if _DEVICE.fullmatch(self.device.data) is None:
            raise VerifyException(f"'{self.device.data}' is not a device; write e.g. cpu, gpu or gpu:0")
        if any(extent < DYNAMIC for extent in self.extents or ()):
            raise VerifyException("an extent is negative")
        if [flag.data for flag in self.flags.data] != [f for f in TENSOR_FLAGS if StringAttr(f) in self.flags.data]:
            raise VerifyException(f"flags are some of {', '.join(TENSOR_FLAGS)}, in this order")
        if isinstance(self.dtype, StringAttr) and _DTYPE.fullmatch(self.dtype.data) is None:
            raise VerifyException(f"'{self.dtype.data}' is not the name of a dtype")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        shape, dtype, request, flags = None, None, None, []
        with parser.in_angle_brackets():
            device = _parse_device(parser)
            while parser.parse_optional_punctuation(",") is not None:
                if parser.parse_optional_punctuation("[") is not None:
                    shape = _parse_rest_of_shape(parser)
                elif parser.parse_optional_keyword("via") is not None:
                    request = parse_transport(parser)
                elif (flag := parser.parse_optional_keyword_in(TENSOR_FLAGS)) is not None:
                    flags.append(flag)
                else:
                    dtype = parser.parse_identifier(" (shape, dtype, 'via' transport, 'static' or 'direct')")
        made = cls.of(device, shape, dtype, request, static="static" in flags, direct="direct" in flags)
        return made.parameters

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(self.device.data)
            if (extents := self.extents) is not None:
                shape = ", ".join("?" if extent == DYNAMIC else str(extent) for extent in extents)
                printer.print_string(f", [{shape}]")
            if isinstance(self.dtype, StringAttr):
                printer.print_string(f", {self.dtype.data}")
            if isinstance(self.request, TransportAttr):
                printer.print_string(", via ")
                print_transport(printer, self.request)
            for flag in self.flags.data:
                printer.print_string(f", {flag.data}")


@irdl_attr_definition
class FutureType(ParametrizedAttribute, TypeAttribute):
    """A value on its way: the result of `cgc.recv_start`, to be given to `cgc.wait`."""

    name = "cgc.future"
    element: ObjectType | TensorType

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return [parser.parse_type()]


ValueType = ObjectType | TensorType
"""Types of values at rest."""

VALUE: AttrConstraint[ObjectType | TensorType] = BaseAttr(ObjectType) | BaseAttr(TensorType)
FUTURE: AttrConstraint[FutureType] = BaseAttr(FutureType)
ANY_VALUE: AttrConstraint[ObjectType | TensorType | FutureType] = VALUE | FUTURE
"""Constraints on operands and results."""

TYPES_AND_ATTRIBUTES = (OpaqueAttr, OperandAttr, LiteralAttr, TransportAttr, ObjectType, TensorType, FutureType)


def parse_rest_of_opaque(parser: AttrParser) -> OpaqueAttr:
    """`index "," summary ">"`"""
    index = parser.parse_integer(allow_boolean=False, allow_negative=False)
    parser.parse_punctuation(",")
    summary = parser.parse_str_literal()
    parser.parse_punctuation(">")
    return OpaqueAttr.of(index, summary)


def parse_transport(parser: AttrParser) -> TransportAttr:
    """`transport ::= name | "custom" opaque`"""
    position = parser.pos
    kind = parser.parse_identifier(" (a transport)")
    if kind not in (*REQUESTS, *TRANSPORTS):
        known = ", ".join((*REQUESTS, *TRANSPORTS))
        parser.raise_error(f"unknown transport '{kind}' (known: {known})", position, position + len(kind))
    if kind != "custom":
        return TransportAttr.of(kind)
    parser.parse_punctuation("<")
    return TransportAttr.of(kind, parse_rest_of_opaque(parser))


def print_transport(printer: Printer, transport: TransportAttr) -> None:
    printer.print_string(transport.kind.data)
    if isinstance(transport.communicator, OpaqueAttr):
        transport.communicator.print_parameters(printer)


def parse_optional_literal(parser: AttrParser) -> LiteralAttr | None:
    """`literal ::= integer | float | string | "true" | "false" | "none" | "nan" | "-"? "inf"`"""
    if (text := parser.parse_optional_str_literal()) is not None:
        return LiteralAttr('"' + text)
    if (word := parser.parse_optional_keyword_in(LITERAL_WORDS)) is not None:
        return LiteralAttr(word)
    negative = parser.parse_optional_punctuation("-") is not None
    if negative and parser.parse_optional_keyword("inf") is not None:
        return LiteralAttr("-inf")
    if (real := parser.parse_optional_float(allow_negative=False)) is not None:
        return LiteralAttr(_spell_float(-real if negative else real))
    integer = parser.parse_optional_integer(allow_boolean=False, allow_negative=False)
    if integer is not None:
        return LiteralAttr(str(-integer if negative else integer))
    if negative:
        parser.raise_error("expected a number after '-'")
    return None


def print_literal(printer: Printer, literal: LiteralAttr) -> None:
    if literal.data.startswith('"'):
        printer.print_string_literal(literal.data[1:])
    else:
        printer.print_string(literal.data)


def _spell_float(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    text = repr(value)
    # The lexer takes an exponent only behind a decimal point: 1e-05 is written 1.0e-05.
    return text if "." in text else text.replace("e", ".0e")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse_device(parser: AttrParser) -> str:
    name = parser.parse_identifier(" (a device)")
    if parser.parse_optional_punctuation(":") is None:
        return name
    return f"{name}:{parser.parse_integer(allow_boolean=False, allow_negative=False)}"


def _parse_rest_of_shape(parser: AttrParser) -> list[int]:
    extents: list[int] = []
    while parser.parse_optional_punctuation("]") is None:
        if extents:
            parser.parse_punctuation(",")
        if parser.parse_optional_punctuation("?") is not None:
            extents.append(DYNAMIC)
        else:
            extents.append(parser.parse_integer(allow_boolean=False, allow_negative=False))
    return extents
