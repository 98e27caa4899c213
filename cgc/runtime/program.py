"""
Programs: the one thing that the compiler hands to the runtime.

A `Program` is what one participant of a graph (an actor, or the driver) does once per execution, as a flat list of
operations on numbered registers. Programs are frozen, picklable, versioned and print one line an operation:

    program @b of g3f9 (v2)  registers=2
      0  r0 = read c1            # b.fwd, stages.py:13
      1  r1 = call fwd(r0, 3)    drop r0
      2  write c2 r1             drop r1

This module imports nothing of the compiler and nothing heavy: a worker loads it in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PROGRAM_VERSION = 2
DRIVER = "driver"

_LONGEST_CONSTANT = 40
"""Characters; longer ones are shown by their type."""


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """
    A channel of the graph as a participant sees it.

    Attributes:
        name: The symbol of the channel in the IR, without `@`.
        index: Position in the graph's arena, the same for every participant.
        kind: `"shm"`, or the name of another transport.
        writer: Symbol of the one writer.
        readers: Symbols of the readers; a reader's rank is its position here.
        slots: Messages that may be in flight before the writer waits.
        slot_bytes: Bytes of a slot before it grows.
        communicator: Name of the communicator that moves the tensors; the channel itself carries the rest then.
        static: The tensors never change their shapes and dtypes: only the first message says them.
        direct: The value is one tensor, so that there is no rest.
        returns: Where tensors of a device are lent, not copied: names of the channels on which each reader, in their
            order, tells what it has given back.
    """

    name: str
    index: int
    kind: str
    writer: str
    readers: tuple[str, ...]
    slots: int
    slot_bytes: int
    communicator: str = ""
    static: bool = False
    direct: bool = False
    returns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommunicatorSpec:
    """
    A communicator of the graph.

    Attributes:
        name: Unique in the graph.
        kind: `"gloo"`, `"nccl"`, or `"custom"`.
        actors: Symbols of the actors that use it; a rank is a position here, unless the kind is custom.
        custom: The user's `Communicator`, which knows the ranks of its actors.
    """

    name: str
    kind: str
    actors: tuple[str, ...]
    custom: Any = None


@dataclass(frozen=True, slots=True)
class Register:
    """An argument that is read from register `index`."""

    index: int

    def __str__(self) -> str:
        return f"r{self.index}"


class Unspelled:
    """Stands for a constant that IR text has no object for; such a program can be read, not run."""

    def __init__(self, summary: str) -> None:
        self.summary = summary

    def __repr__(self) -> str:
        return f"<{self.summary}>"


@dataclass(frozen=True, slots=True)
class Constant:
    """An argument that was bound as a plain Python value."""

    value: Any

    def __str__(self) -> str:
        text = repr(self.value) if _is_plain(self.value) else ""
        return text if 0 < len(text) <= _LONGEST_CONSTANT else f"<{type(self.value).__name__}>"


def _is_plain(value: Any, depth: int = 3) -> bool:
    """True if `repr` runs no code of users, is the same in every run, and takes no time worth mentioning."""
    if type(value) is int:
        return value.bit_length() <= 4 * _LONGEST_CONSTANT
    if type(value) in (str, bytes):
        return len(value) <= _LONGEST_CONSTANT
    if type(value) in (list, tuple, dict) and depth and len(value) <= _LONGEST_CONSTANT:
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        return all(_is_plain(item, depth - 1) for item in items)
    return value is None or type(value) in (bool, float, complex, Unspelled)


@dataclass(frozen=True, slots=True)
class Container:
    """
    An argument that is a container with registers somewhere in it; a new one is made for each call.

    Attributes:
        kind: `"list"`, `"tuple"`, `"dict"`, or `"object"` (an instance of a dataclass, or a named tuple).
        items: What it holds.
        keys: The keys of a dict, in order, or the names of the fields that are set.
        like: For an object: what is copied before the fields are set.
    """

    kind: str
    items: tuple[Argument, ...]
    keys: tuple[Any, ...] = ()
    like: Any = None

    def __str__(self) -> str:
        if self.kind == "list":
            return f"[{', '.join(str(item) for item in self.items)}]"
        if self.kind == "tuple":
            return f"({', '.join(str(item) for item in self.items)}{',' if len(self.items) == 1 else ''})"
        if self.kind == "dict":
            return "{" + ", ".join(f"{Constant(k)}: {v}" for k, v in zip(self.keys, self.items, strict=True)) + "}"
        fields = ", ".join(f"{k}={v}" for k, v in zip(self.keys, self.items, strict=True))
        return f"{type(self.like).__name__}({fields})"


Argument = Register | Constant | Container


@dataclass(frozen=True, slots=True)
class Input:
    """
    Driver only: put the execution's input, or one part of it, into register `into`.

    `key` is None for the whole input, an int for a positional or indexed part, a str for a keyword, item or attribute;
    `accessor` is `"__getitem__"` or `"__getattr__"` as in `ray.dag.InputAttributeNode`.
    """

    into: int
    key: int | str | None = None
    accessor: str = "__getitem__"
    location: str = ""

    def __str__(self) -> str:
        return f"r{self.into} = input" + ("" if self.key is None else f"[{self.key!r}]")


@dataclass(frozen=True, slots=True)
class Read:
    """Take the next message of `channel`; its values go to the registers `into`, in order."""

    channel: str
    into: tuple[int, ...]
    location: str = ""

    def __str__(self) -> str:
        return f"{_registers(self.into)} = read {self.channel}"


@dataclass(frozen=True, slots=True)
class ReadStart:
    """Begin to take the next message of `channel` on `stream`; `into` gets what `Wait` waits for."""

    channel: str
    into: int
    stream: int
    location: str = ""

    def __str__(self) -> str:
        return f"r{self.into} = read_start {self.channel} on stream {self.stream}"


@dataclass(frozen=True, slots=True)
class Wait:
    """Take what `ReadStart` began to read into register `value`, which is empty then."""

    value: int
    into: int
    location: str = ""

    def __str__(self) -> str:
        return f"r{self.into} = wait r{self.value}"


@dataclass(frozen=True, slots=True)
class Call:
    """
    Call `method` of the actor; one result per register of `into` (several: the method returns a sequence).

    The result of an `effect` is None, unless it is an error.
    """

    method: str
    args: tuple[Argument, ...]
    kwargs: tuple[tuple[str, Argument], ...]
    into: tuple[int, ...]
    drop: tuple[int, ...] = ()
    location: str = ""
    effect: bool = False

    def __str__(self) -> str:
        arguments = [str(a) for a in self.args] + [f"{k}={v}" for k, v in self.kwargs]
        call = f"{_registers(self.into)} = call {self.method}({', '.join(arguments)})"
        return call + (" effect" if self.effect else "") + _dropped(self.drop)


@dataclass(frozen=True, slots=True)
class Copy:
    """Put the tensors in register `value` on the actor's `device`, `"cpu"` or `"gpu"`; the result goes to `into`."""

    value: int
    into: int
    device: str
    drop: tuple[int, ...] = ()
    location: str = ""

    def __str__(self) -> str:
        return f"r{self.into} = copy r{self.value} to {self.device}" + _dropped(self.drop)


@dataclass(frozen=True, slots=True)
class Write:
    """Send the registers `values` as one message on `channel`; with a `stream`, go on while it is being sent."""

    channel: str
    values: tuple[int, ...]
    drop: tuple[int, ...] = ()
    location: str = ""
    stream: int | None = None

    def __str__(self) -> str:
        stream = "" if self.stream is None else f" on stream {self.stream}"
        return f"write {self.channel} {_registers(self.values)}{stream}" + _dropped(self.drop)


@dataclass(frozen=True, slots=True)
class Group:
    """
    Begin all of `operations` together and end when they all have ended: tensors cross in both directions at once.

    They are reads and writes of one value each, on channels of one communicator, between the same two actors, which
    have them in the same order of messages. Where the communicator cannot begin them together, each is done in turn.
    """

    operations: tuple[Read | Write, ...]
    drop: tuple[int, ...] = ()
    location: str = ""

    def __str__(self) -> str:
        return f"group {{ {'; '.join(str(operation) for operation in self.operations)} }}" + _dropped(self.drop)


@dataclass(frozen=True, slots=True)
class Collective:
    """
    Take part in a collective with the tensors in `values`; the results go to `into`.

    Attributes:
        kind: `"allreduce"`, `"allgather"` or `"reduce_scatter"`.
        reduce: Name of the reduction in lower case; None for allgather.
        communicator: Name of the communicator; empty where the tensors go through the channels.
        channels: One per participant, in their order: on its own channel each tells the others what it brings.
        stream: With one, go on meanwhile: `into` gets what `Wait` waits for.
    """

    kind: str
    reduce: str | None
    communicator: str
    channels: tuple[str, ...]
    values: tuple[int, ...]
    into: tuple[int, ...]
    drop: tuple[int, ...] = ()
    location: str = ""
    stream: int | None = None

    def __str__(self) -> str:
        what = self.kind if self.reduce is None else f"{self.kind} {self.reduce}"
        stream = "" if self.stream is None else f" on stream {self.stream}"
        moved = f"{_registers(self.into)} = {what} {self.communicator or 'shm'} {_registers(self.values)}{stream}"
        return moved + _dropped(self.drop)


@dataclass(frozen=True, slots=True)
class Output:
    """
    Driver only: the registers `values` are the outputs of the execution, in the order of the user's list.

    Each of them is there when the `effects` are, too, and is an error if one of those is.
    """

    values: tuple[int, ...]
    location: str = ""
    effects: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"output {_registers(self.values)}" + (f" after {_registers(self.effects)}" if self.effects else "")


Operation = Input | Read | ReadStart | Wait | Call | Copy | Write | Group | Collective | Output


@dataclass(frozen=True, slots=True)
class Program:
    """
    What one participant does once per execution.

    The driver's program has two halves: `Input` and `Write` operations (run by `execute`), then `Read` and `Output`
    (run when results are fetched); it never has a read before its last write.

    Every register is written once per execution, and dropped after its last use. `graph` tells graphs apart at run
    time, on any actor. `device` is the kind of the actor's devices, as Ray calls it, e.g. `gpu`; empty without one.
    """

    graph: str
    actor: str
    registers: int
    channels: tuple[ChannelSpec, ...]
    operations: tuple[Operation, ...]
    version: int = field(default=PROGRAM_VERSION)
    communicators: tuple[CommunicatorSpec, ...] = ()
    device: str = ""

    def __str__(self) -> str:
        device = f"  device={self.device}" if self.device else ""
        head = f"program @{self.actor} of {self.graph} (v{self.version})  registers={self.registers}{device}"
        width = len(str(max(len(self.operations) - 1, 0)))
        lines = [
            f"  {number:>{width}}  {operation}" + (f"    # {operation.location}" if operation.location else "")
            for number, operation in enumerate(self.operations)
        ]
        return "\n".join([head, *lines])


def _registers(indices: tuple[int, ...]) -> str:
    return ", ".join(f"r{i}" for i in indices)


def _dropped(indices: tuple[int, ...]) -> str:
    return f"    drop {_registers(indices)}" if indices else ""
