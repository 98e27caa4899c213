"""
Values that cannot be sent or read: what takes their place, and what errors call them.

The place is taken by an `ErrorValue`, which spoils what depends on the value in this execution, and nothing else.
"""

from __future__ import annotations

from typing import Any

from cgc.runtime.program import Call, Collective, Copy, Group, Input, Operation, Program, Read, ReadStart, Wait
from cgc.runtime.task_errors import ErrorValue


def unsendable(value: Any, name: str, error: Exception) -> ErrorValue:
    """What is sent instead of a value that cannot be pickled."""
    kind = type(value)
    told = TypeError(f"the result of {name} cannot be sent: {kind.__module__}.{kind.__qualname__}: {error}")
    return ErrorValue.from_exception(told.with_traceback(error.__traceback__), name)


def unreadable(name: str, error: Exception) -> ErrorValue:
    """What is read instead of a value that cannot be unpickled: the same exception, with the node's name."""
    return ErrorValue.from_exception(error, name, note="while deserialising the value")


def unplaceable(name: str, reason: str) -> ErrorValue:
    """What is sent instead of a value for which there is no shared memory."""
    return ErrorValue.from_exception(MemoryError(f"the result of {name} cannot be sent: {reason}"), name)


class ValueNames:
    """What to call a register's value in an error: the operation that made it, and where that was bound."""

    def __init__(self, program: Program) -> None:
        self.actor = program.actor
        self._operations = [
            part for each in program.operations for part in (each.operations if isinstance(each, Group) else (each,))
        ]

    def of(self, register: int, user: Operation) -> str:
        """For example `call fwd on @b (stages.py:13)`: the last operation before `user` that filled the register."""
        name = f"r{register} of @{self.actor}"
        for operation in self._operations:
            if operation is user:
                break
            if register in _targets(operation):
                name = f"{_maker(operation)} on @{self.actor}{_at(operation.location)}"
        return name


def on_actor(operation: Operation, actor: str) -> str:
    """Behind an operation's name in a message: ` on @b (stages.py:13)`."""
    return f" on @{actor}{_at(operation.location)}"


def _maker(operation: Operation) -> str:
    return f"call {operation.method}" if isinstance(operation, Call) else str(operation).partition("= ")[2]


def _targets(operation: Operation) -> tuple[int, ...]:
    if isinstance(operation, Input | ReadStart | Wait | Copy):
        return (operation.into,)
    return operation.into if isinstance(operation, Read | Call | Collective) else ()


def _at(location: str) -> str:
    return f" ({location})" if location else ""
