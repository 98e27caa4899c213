"""
How a step gets the arguments of its call together: from registers, constants, and containers that hold some of both.

The way is chosen when a graph starts; a method of one argument, which is the common case, is called directly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cgc.runtime.program import Argument, Call, Constant, Container, Register
from cgc.runtime.task_errors import ErrorValue

Registers = list[Any]

Step = Callable[[], None]
"""What an operation of a program becomes: it works on the registers that were bound into it."""


def link_arguments(operation: Call, method: Callable[..., Any], registers: Registers) -> Callable[[], Any]:
    """A function that calls the method, or gives back an error that is among its arguments."""
    arguments = operation.args
    if len(arguments) == 1 and not operation.kwargs and isinstance(arguments[0], Register):
        only = arguments[0].index

        def call_with_one_register() -> Any:
            argument = registers[only]
            return argument if type(argument) is ErrorValue else method(argument)

        return call_with_one_register

    given = [*arguments, *(argument for _, argument in operation.kwargs)]
    sources = [register for argument in given for register in registers_of(argument)]
    if any(isinstance(argument, Container) for argument in given):
        return _call_with_containers(operation, method, registers, sources)
    positional, positional_holes = _template(arguments)
    keywords, keyword_holes = _template([argument for _, argument in operation.kwargs])
    names = [name for name, _ in operation.kwargs]

    def call_with_template() -> Any:
        for register in sources:
            if type(registers[register]) is ErrorValue:
                return registers[register]
        args = positional.copy()
        for position, register in positional_holes:
            args[position] = registers[register]
        if not names:
            return method(*args)
        values = keywords.copy()
        for position, register in keyword_holes:
            values[position] = registers[register]
        return method(*args, **dict(zip(names, values, strict=True)))

    return call_with_template


def _call_with_containers(
    operation: Call, method: Callable[..., Any], registers: Registers, sources: Sequence[int]
) -> Callable[[], Any]:
    positional = [_maker(argument, registers) for argument in operation.args]
    keywords = [(name, _maker(argument, registers)) for name, argument in operation.kwargs]

    def call_with_containers() -> Any:
        for register in sources:
            if type(registers[register]) is ErrorValue:
                return registers[register]
        args = [make() for make in positional]
        kwargs = {name: make() for name, make in keywords}
        return method(*args, **kwargs)

    return call_with_containers


def _maker(argument: Argument, registers: Registers) -> Callable[[], Any]:
    """A function that gives the argument's value for the execution at hand."""
    if isinstance(argument, Register):
        index = argument.index
        return lambda: registers[index]
    if isinstance(argument, Constant):
        value = argument.value
        return lambda: value
    items = [_maker(item, registers) for item in argument.items]
    if argument.kind == "list":
        return lambda: [make() for make in items]
    if argument.kind == "tuple":
        return lambda: tuple([make() for make in items])
    entries = list(zip(argument.keys, items, strict=True))
    if argument.kind == "dict":
        return lambda: {key: make() for key, make in entries}
    like = argument.like
    if isinstance(like, tuple):
        return lambda: like._replace(**{name: make() for name, make in entries})  # type: ignore[attr-defined]
    return lambda: _like(like, entries)


def _like(like: Any, entries: Sequence[tuple[str, Callable[[], Any]]]) -> Any:
    made = copy.copy(like)
    for name, make in entries:
        object.__setattr__(made, name, make())  # the class may be frozen
    return made


def registers_of(argument: Argument) -> Iterator[int]:
    """The registers that an argument is made of."""
    if isinstance(argument, Register):
        yield argument.index
    elif isinstance(argument, Container):
        for item in argument.items:
            yield from registers_of(item)


def _template(arguments: Sequence[Argument]) -> tuple[list[Any], list[tuple[int, int]]]:
    """Values of the constants in their places, and (place, register) of the rest."""
    values = [argument.value if isinstance(argument, Constant) else None for argument in arguments]
    holes = [(place, argument.index) for place, argument in enumerate(arguments) if isinstance(argument, Register)]
    return values, holes
