"""Hand-written programs and actors for the tests of the runtime, which need no compiler."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from cgc.runtime.base_driver import BaseDriver, DriverOptions
from cgc.runtime.driver import start_driver
from cgc.runtime.program import (
    DRIVER,
    Call,
    ChannelSpec,
    Constant,
    Input,
    Operation,
    Output,
    Program,
    Read,
    Register,
    Write,
)

DEADLINE = 60.0
"""Seconds that a condition may take to come true, on a busy machine too: processes have to start for some."""

SLOTS = 16

_graph_numbers = itertools.count(1)


@ray.remote(num_cpus=0)
class Actor:
    """Methods that the tests need."""

    def __init__(self, bias: int = 0) -> None:
        self.bias = bias
        self.kept: list[Any] = []

    def echo(self, value: Any) -> Any:
        return value

    def add(self, left: Any, right: Any = 0, *, scale: int = 1) -> Any:
        return (left + right) * scale + self.bias

    def pair(self, value: Any) -> tuple[Any, Any]:
        return value, [value]

    def fail(self, value: Any) -> Any:
        raise KeyError(value)

    def apply(self, function: Callable[[Any], Any]) -> Any:
        return function(self)

    def pid(self) -> int:
        return os.getpid()

    def keep(self, value: Any) -> int:
        self.kept.append(value)
        return len(self.kept)

    def kept_values(self) -> list[Any]:
        return self.kept

    def threads(self) -> list[str]:
        return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("cgc-g"))


@ray.remote(num_cpus=0, max_concurrency=8)
class Gate:
    """Lets a method in an actor wait for the test, and the test for the method."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def _event(self, name: str) -> threading.Event:
        with self._lock:
            return self._events.setdefault(name, threading.Event())

    def open(self, name: str) -> None:
        self._event(name).set()

    def wait(self, name: str) -> None:
        if not self._event(name).wait(DEADLINE):
            raise TimeoutError(f"nobody opened {name}")


def pass_through(gate: Any, name: str) -> None:
    """In an actor: report `<name> entered`, then wait for `name`."""
    ray.get([gate.open.remote(f"{name} entered"), gate.wait.remote(name)])


def eventually(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Poll until the condition is true; its value."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(0.005)


@contextmanager
def ctrl_c(delay: float = 0.1) -> Iterator[None]:
    """The block waits, is interrupted by SIGINT to this process, and raises KeyboardInterrupt."""
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()  # in here: a busy machine may take longer than the delay to get to the block
        yield
    except KeyboardInterrupt:
        return
    finally:
        timer.join()
    raise AssertionError("the block was not interrupted")


class GraphBuilder:
    """
    Writes the programs of a graph by hand.

    `send` declares a channel and the write of registers on it, with the reads at the receivers; `call` adds a call.
    """

    def __init__(self) -> None:
        self.graph = f"gtest{os.getpid()}x{next(_graph_numbers)}"
        self.operations: dict[str, list[Operation]] = {DRIVER: []}
        self.registers: dict[str, int] = {DRIVER: 0}
        self.channels: list[ChannelSpec] = []
        self.slots = SLOTS
        self.slot_bytes = 1024

    def input(self, key: int | str | None = None) -> int:
        return self._add(DRIVER, lambda into: Input(into, key))

    def send(self, source: str, registers: Sequence[int], *targets: str) -> list[list[int]]:
        """Send registers of `source` as one message; returns the registers at each target."""
        name = f"c{len(self.channels)}"
        self.channels.append(
            ChannelSpec(name, len(self.channels), "shm", source, tuple(targets), self.slots, self.slot_bytes)
        )
        self.operations[source].append(Write(name, tuple(registers), location="test.py:1"))
        received = []
        for target in targets:
            into = tuple(self._register(target) for _ in registers)
            self.operations[target].append(Read(name, into, location="test.py:2"))
            received.append(list(into))
        return received

    def call(self, actor: str, method: str, *arguments: int | Constant, results: int = 1, **keywords: Any) -> list[int]:
        """Call a method: ints are registers."""
        into = tuple(self._register(actor) for _ in range(results))
        args = tuple(Register(a) if isinstance(a, int) else a for a in arguments)
        kwargs = tuple((k, Register(a) if isinstance(a, int) else a) for k, a in keywords.items())
        self.operations[actor].append(Call(method, args, kwargs, into, location=f"test.py:{len(self.operations)}"))
        return list(into)

    def output(self, *registers: int) -> None:
        self.operations[DRIVER].append(Output(tuple(registers)))

    def programs(self) -> dict[str, Program]:
        return {
            actor: Program(
                self.graph,
                actor,
                self.registers[actor],
                tuple(c for c in self.channels if actor == c.writer or actor in c.readers),
                tuple(_with_drops(operations)),
            )
            for actor, operations in self.operations.items()
        }

    def actor(self, symbol: str) -> str:
        self.operations.setdefault(symbol, [])
        self.registers.setdefault(symbol, 0)
        return symbol

    def _add(self, actor: str, make: Callable[[int], Operation]) -> int:
        into = self._register(actor)
        self.operations[actor].append(make(into))
        return into

    def _register(self, actor: str) -> int:
        self.actor(actor)
        self.registers[actor] += 1
        return self.registers[actor] - 1


def _with_drops(operations: list[Operation]) -> Iterator[Operation]:
    """The operations, each dropping the registers that no later one uses."""
    for position, operation in enumerate(operations):
        later = set().union(*(_used(o) for o in operations[position + 1 :]))
        last = tuple(sorted(_used(operation) - later))
        if isinstance(operation, Call):
            yield Call(operation.method, operation.args, operation.kwargs, operation.into, last, operation.location)
        elif isinstance(operation, Write):
            yield Write(operation.channel, operation.values, last, operation.location)
        else:
            yield operation


def _used(operation: Operation) -> set[int]:
    if isinstance(operation, Call):
        arguments = [*operation.args, *(argument for _, argument in operation.kwargs)]
        return {argument.index for argument in arguments if isinstance(argument, Register)}
    return set(operation.values) if isinstance(operation, Write) else set()


def chain(*methods: str) -> GraphBuilder:
    """Input through one actor per method, named a0, a1, ...; an echo is `chain("echo")`."""
    graph = GraphBuilder()
    holder, value = DRIVER, graph.input()
    for number, method in enumerate(methods):
        actor = graph.actor(f"a{number}")
        (received,) = graph.send(holder, [value], actor)
        holder, (value,) = actor, graph.call(actor, method, *received)
    ((value,),) = graph.send(holder, [value], DRIVER)
    graph.output(value)
    return graph


def fan_out(*methods: str) -> GraphBuilder:
    """Input to one actor per method, one output each."""
    graph = GraphBuilder()
    value = graph.input()
    actors = [graph.actor(f"a{number}") for number in range(len(methods))]
    received = graph.send(DRIVER, [value], *actors)
    outputs = []
    for actor, method, registers in zip(actors, methods, received, strict=True):
        results = graph.call(actor, method, *registers)
        ((output,),) = graph.send(actor, results, DRIVER)
        outputs.append(output)
    graph.output(*outputs)
    return graph


@contextmanager
def running(graph: GraphBuilder, actors: Sequence[Any], **options: Any) -> Iterator[BaseDriver]:
    """The graph on these actors (a0, a1, ...), torn down at the end."""
    driver = start(graph, actors, **options)
    try:
        yield driver
    finally:
        driver.teardown()


def start(graph: GraphBuilder, actors: Sequence[Any], **options: Any) -> BaseDriver:
    handles = {f"a{number}": actor for number, actor in enumerate(actors)}
    programs = graph.programs()
    outputs = len(programs[DRIVER].operations[-1].values)  # type: ignore[union-attr]
    return start_driver(programs, handles, DriverOptions(**{"returns_list": outputs > 1, **options}))


class FailsToLoad:
    """A value that can be sent and not be read."""

    def __reduce__(self) -> Any:
        return _raise, ("broken state",)


def _raise(text: str) -> None:
    raise ValueError(text)
