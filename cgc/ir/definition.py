"""
`operation_definition`: xDSL's `irdl_op_definition` with a quick check in front of its verifier.

xDSL interprets a definition anew for each operation: which operands are variadic, which constraint holds for which
property, with a context for type variables that we do not have. Nearly all operations are right, and to see that takes
a look at the classes of their types and properties. So that is what is done first, from tables that are made from the
same definition; whatever does not pass at once goes to xDSL, which decides, and says what is wrong. A definition with
anything in it that the tables cannot say (a constraint of another kind, a region, a trait that checks) is left to xDSL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from xdsl.dialects.builtin import ArrayAttr
from xdsl.ir import Attribute, Operation
from xdsl.irdl import (
    AnyOf,
    BaseAttr,
    IRDLOperation,
    OpDef,
    OptionalDef,
    RangeLengthConstraint,
    RangeOf,
    VariadicDef,
    irdl_op_definition,
)
from xdsl.irdl import OptPropertyDef as OptionalProperty
from xdsl.traits import NoTerminator, SymbolOpInterface

_DefinitionT = TypeVar("_DefinitionT", bound=type[IRDLOperation])
_Classes = frozenset[type[Attribute]]

_PLAIN_TRAITS = (NoTerminator, SymbolOpInterface)
"""Traits that check nothing beyond what the definition says: a symbol has its name as a property."""


def operation_definition(cls: _DefinitionT) -> _DefinitionT:
    """Class decorator for operations of the dialect; what it accepts and refuses is what `irdl_op_definition` does."""
    own_rule = cls.verify_ if cls.verify_ is not Operation.verify_ else None
    irdl_op_definition(cls)
    is_plain = _quick_check(cls.get_irdl_definition())
    if is_plain is None:
        return cls
    by_definition = cls.verify_

    def verify_(self: IRDLOperation) -> None:
        if not is_plain(self):
            by_definition(self)
        elif own_rule is not None:
            own_rule(self)

    cls.verify_ = verify_  # type: ignore[method-assign, assignment]
    return cls


def _quick_check(definition: OpDef) -> Callable[[IRDLOperation], bool] | None:
    """A function that is true only for operations that satisfy the definition; None if the tables cannot say it."""
    if definition.regions or definition.successors or definition.attributes or definition.options:
        return None
    if not all(isinstance(trait, _PLAIN_TRAITS) for trait in definition.traits):
        return None
    operands = _values([(item, item.constr) for _, item in definition.operands])
    results = _values([(item, item.constr) for _, item in definition.results])
    properties = {name: _property(item.constr) for name, item in definition.properties.items()}
    if operands is None or results is None or None in properties.values():
        return None
    rules = {name: rule for name, rule in properties.items() if rule is not None}
    required = {name for name, item in definition.properties.items() if not isinstance(item, OptionalProperty)}
    operand_count, operand_classes = operands
    result_count, result_classes = results

    def is_plain(operation: IRDLOperation) -> bool:
        given = operation.properties
        if operation.regions or operation.successors or not required <= given.keys():
            return False
        for name, attribute in given.items():
            rule = rules.get(name)
            if rule is None or type(attribute) not in rule[0]:
                return False
            if rule[1] is not None and not all(type(item) in rule[1] for item in attribute.data):  # type: ignore[attr-defined]
                return False
        taken, made = operation.operands, operation.results
        return (
            operand_count in (None, len(taken))
            and result_count in (None, len(made))
            and all(type(value.type) in operand_classes for value in taken)
            and all(type(value.type) in result_classes for value in made)
        )

    return is_plain


def _values(defs: list[tuple[object, object]]) -> tuple[int | None, _Classes] | None:
    """How many operands or results there are (None: any number) and the classes of their types."""
    if not defs:
        return 0, frozenset()
    if len(defs) != 1:
        return None
    ((definition, constraint),) = defs
    if isinstance(constraint, RangeLengthConstraint):
        constraint = constraint.constraint
    if not isinstance(constraint, RangeOf) or isinstance(definition, OptionalDef):
        return None
    classes = _classes(constraint.constr)
    return None if classes is None else (None if isinstance(definition, VariadicDef) else 1, classes)


def _property(constraint: object) -> tuple[_Classes, _Classes | None] | None:
    """The classes of a property, and those of its items if it is an array."""
    elements = getattr(constraint, "elem_range_constraint", None)
    if elements is None:
        classes = _classes(constraint)
        return None if classes is None else (classes, None)
    items = _classes(elements.constr) if isinstance(elements, RangeOf) else None
    return None if items is None else (frozenset({ArrayAttr}), items)


def _classes(constraint: object) -> _Classes | None:
    """The classes that a constraint accepts as they are, whatever they hold; attribute classes have no subclasses."""
    if isinstance(constraint, BaseAttr):
        return frozenset({constraint.attr})
    if isinstance(constraint, AnyOf):
        parts = [_classes(part) for part in constraint.attr_constrs]
        return None if None in parts else frozenset[type[Attribute]]().union(*(part for part in parts if part))
    return None
