"""
The rules of the IR, checked: `verify_module`.

Every operation checks itself (`verify_` in its class); here is what takes more than one operation to see. Rules of the
levels `scheduled` and `allocated` are in `verify_programs.py`. All is linear in the number of operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.utils.exceptions import VerifyException

from cgc.errors import IRVerifyError
from cgc.ir.attributes import TensorType, TransportAttr
from cgc.ir.base import OperationError, is_any
from cgc.ir.channel_ops import ChannelOp
from cgc.ir.graph_ops import ActorOp, BodyOp, CallOp, GraphOp, OutputOp
from cgc.ir.input_ops import InputAttrOp, InputOp, TriggerOp
from cgc.ir.schedule_ops import ProgramOp
from cgc.ir.transfer_ops import CollectiveOp, CopyOp, TransferOp
from cgc.ir.verify_programs import check_collective, verify_programs

DRIVER = "driver"
"""Symbol of the driver."""

_DECLARATIONS: Mapping[str, tuple[type[Operation], ...]] = {
    "graph": (ActorOp, BodyOp),
    "placed": (ActorOp, BodyOp),
    "scheduled": (ActorOp, ProgramOp),
    "allocated": (ActorOp, ChannelOp, ProgramOp),
}
_BODY_OPERATIONS: Mapping[str, tuple[type[Operation], ...]] = {
    "graph": (InputOp, InputAttrOp, TriggerOp, CallOp, CollectiveOp, OutputOp),
    "placed": (InputOp, InputAttrOp, TriggerOp, CallOp, CollectiveOp, OutputOp, TransferOp, CopyOp),
}


def verify_module(module: ModuleOp) -> None:
    """
    Check that the module is well-formed and that each graph keeps the rules of its level.

    Raises `IRVerifyError` for the first violation, with its location and operation.
    """
    try:
        module.verify()
        for operation in module.body.ops:
            if not isinstance(operation, GraphOp):
                raise OperationError(operation, "a module holds nothing but cgc.graph operations")
            verify_level(operation)
    except OperationError as error:
        raise IRVerifyError(str(error), error.location, error.operation) from error
    except VerifyException as error:
        # From xDSL itself, for what it finds in the structure around an operation.
        raise IRVerifyError(f"error: {error}") from error


def verify_level(graph: GraphOp) -> None:
    """Check the rules of the graph's own level. Raises `OperationError`."""
    level = graph.level.data
    declared = list(graph.body.block.ops)
    _check_kinds(declared, _DECLARATIONS[level], f"in a graph at level '{level}'")
    actors = {op.sym_name.data: op for op in declared if isinstance(op, ActorOp)}
    _check_actors(graph, actors, level)
    if level in ("scheduled", "allocated"):
        verify_programs(graph, actors, allocated=level == "allocated")
        return
    bodies = [op for op in declared if isinstance(op, BodyOp)]
    if len(bodies) != 1:
        raise OperationError(graph, f"a graph at level '{level}' has one cgc.body, not {len(bodies)}")
    _check_body(bodies[0], actors, level)


def _check_kinds(operations: Iterable[Operation], allowed: tuple[type[Operation], ...], where: str) -> None:
    for operation in operations:
        if not is_any(operation, allowed):
            raise OperationError(operation, f"not allowed {where}")


def _check_actors(graph: GraphOp, actors: Mapping[str, ActorOp], level: str) -> None:
    if DRIVER not in actors:
        raise OperationError(graph, f"there is no driver: declare it with cgc.actor @{DRIVER} driver")
    for name, actor in actors.items():
        kind = actor.kind.data
        if (kind == "driver") != (name == DRIVER):
            raise OperationError(actor, f"@{DRIVER}, and no other actor, is of kind driver")
        if level != "graph" and kind == "class":
            raise OperationError(actor, f"@{name} is no actor but a {kind}, which only level 'graph' can show")


def _check_body(body: BodyOp, actors: Mapping[str, ActorOp], level: str) -> None:
    block = body.body.block
    _check_kinds(block.ops, _BODY_OPERATIONS[level], f"in the body of a graph at level '{level}'")
    if not isinstance(block.last_op, OutputOp):
        raise OperationError(body, "the body does not end with cgc.output")
    _check_definitions(block)
    for operation in block.ops:
        _check_symbols(operation, actors)
    if level == "placed":
        _check_placed(block)


def _check_definitions(block: Block) -> None:
    defined: set[SSAValue] = set()
    for operation in block.ops:
        for index, operand in enumerate(operation.operands):
            if operand not in defined:
                raise OperationError(operation, f"operand {index} is used before it is defined")
        defined.update(operation.results)


def _check_symbols(operation: Operation, actors: Mapping[str, ActorOp]) -> None:
    names: tuple[str, ...] = ()
    if isinstance(operation, CallOp):
        names = (operation.actor,)
    elif isinstance(operation, CollectiveOp):
        names = operation.participant_names
        if not names or len(operation.operands) % len(names) or not operation.operands:
            counts = f"{len(operation.operands)} operands, {len(names)} participants"
            raise OperationError(operation, f"every participant gives the same number of values ({counts})")
        if operation.message is not None or operation.order is not None:
            raise OperationError(operation, "message and order belong to programs")
    elif isinstance(operation, TransferOp):
        names = (operation.sender_name, *operation.receiver_names)
    elif isinstance(operation, CopyOp):
        names = (operation.actor_name,)
    for name in names:
        if name not in actors:
            raise OperationError(operation, f"there is no actor @{name}")


def _check_placed(block: Block) -> None:
    """Operations use only values of their own actor, and every request has been settled."""
    owner: dict[SSAValue, str] = {}
    for operation in block.ops:
        users, owners = _sides(operation)
        for index, (operand, user) in enumerate(zip(operation.operands, users, strict=True)):
            if owner[operand] != user:
                _raise_foreign(operation, index, owner[operand], user)
        owner.update(zip(operation.results, owners, strict=True))
        for result in operation.results:
            _check_settled(operation, result)
        if isinstance(operation, CollectiveOp):
            check_collective(operation)


def _sides(operation: Operation) -> tuple[list[str], list[str]]:
    """The actor that uses each operand, and the actor that owns each result."""
    count, made = len(operation.operands), len(operation.results)
    if isinstance(operation, CollectiveOp):
        each = count // len(operation.participant_names)
        sides = [name for name in operation.participant_names for _ in range(each)]
        return sides, sides
    if isinstance(operation, TransferOp):
        return [operation.sender_name], list(operation.receiver_names)
    name = DRIVER
    if isinstance(operation, CallOp):
        name = operation.actor
    elif isinstance(operation, CopyOp):
        name = operation.actor_name
    return [name] * count, [name] * made


def _raise_foreign(operation: Operation, index: int, owner: str, user: str) -> NoReturn:
    raise OperationError(
        operation, f"operand {index} is a value of @{owner}; a cgc.transfer must bring it to @{user} first"
    )


def _check_settled(operation: Operation, result: SSAValue) -> None:
    if isinstance(result.type, TensorType) and isinstance(result.type.request, TransportAttr):
        raise OperationError(operation, f"the result still asks for transport '{result.type.request.kind.data}'")
