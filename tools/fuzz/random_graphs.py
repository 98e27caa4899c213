"""
Random graphs for the fuzz runs: bodies that keep all rules of level `graph`, and profiles of what calls and links cost.

A graph has up to 64 actors on up to three nodes and up to 2,000 calls, values with several results and readers, all
transports, collectives on overlapping groups, and inputs in parts or whole. Most graphs have a handful of calls: nearly
every mistake shows in one of those, and a hundred of them cost what a large one does; one in 200 is large.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from cgc.ir import (
    OBJECT,
    ActorOp,
    AllGatherOp,
    AllReduceOp,
    BodyOp,
    CallOp,
    GraphOp,
    InputAttrOp,
    InputOp,
    ModuleOp,
    Operation,
    OutputOp,
    ReduceScatterOp,
    SSAValue,
    TensorType,
    Unit,
    ValueType,
)

MOST_CALLS = 2000
MOST_ACTORS = 64

CLASSES = 5
METHODS = ("first", "make", "last", "m0", "m1", "m2", "m3")


def random_graph(
    rng: random.Random, most_calls: int = MOST_CALLS, *, fans: bool = False, crossings: bool = False
) -> Unit:
    """
    A graph of level `graph` that keeps all rules, of at most so many calls besides those for inputs and outputs.

    With `fans` it has values that go to several actors over a communicator, with `crossings` pairs of values that two
    actors give to each other over one; and so a few calls more.
    """
    calls = _count(rng, most_calls)
    count = rng.randint(1, min(MOST_ACTORS, calls))
    names = [f"a{number}" for number in range(count)]
    nodes = [f"n{number}" for number in range(rng.choice([1, 1, 2, 3]))]
    gpus = {name for name in names if rng.random() < 0.6}
    builder = _Builder(rng, names, gpus)
    _add_inputs(builder)
    for _ in range(calls):
        if fans and count > 2 and rng.random() < 0.15:
            _add_fan(builder)
        elif crossings and count > 1 and rng.random() < 0.2:
            _add_crossing(builder)
        elif count > 1 and rng.random() < 0.08:
            _add_collective(builder)
        else:
            _add_call(builder)
    _add_output(builder)
    declared = [ActorOp("driver", "driver")]
    for number, name in enumerate(names):
        devices = [f"gpu:{number}"] if name in gpus else []
        declared.append(ActorOp(name, class_name=f"C{number % CLASSES}", node=rng.choice(nodes), devices=devices))
    graph = GraphOp("fuzz", [*declared, BodyOp(builder.operations)], max_inflight=rng.randint(1, 12))
    return Unit(ModuleOp([graph]))


def random_profile(rng: random.Random) -> dict[str, object]:
    """Times of calls and links, some of them 0, some of them far apart; as `cost-model` takes it."""
    calls = {f"C{number}.{name}": rng.choice([0, 1, 100, 10000]) for number in range(CLASSES) for name in METHODS}
    links = {
        name: {
            "latency-us": rng.choice([0, 1, 1000]),
            "gb-per-s": rng.choice([0.01, 1, 100]),
            "overhead-us": rng.choice([0, 5]),
        }
        for name in ("shm", "tcp", "nccl", "gloo")
    }
    return {
        "calls": calls,
        "links": links,
        "default-call-us": rng.choice([0, 50]),
        "object-bytes": rng.choice([0, 10**6]),
    }


@dataclass
class _Builder:
    """A body under construction: values and who holds them."""

    rng: random.Random
    actors: list[str]
    gpus: set[str]
    operations: list[Operation] = field(default_factory=list)
    values: list[tuple[SSAValue, str]] = field(default_factory=list)
    used: set[SSAValue] = field(default_factory=set)

    def add(self, operation: Operation, holders: list[str]) -> None:
        self.operations.append(operation)
        self.used.update(operation.operands)
        self.values += zip(operation.results, holders, strict=True)

    def pick(self, holder: str | None = None) -> SSAValue | None:
        """A recent value, of one holder if told so."""
        recent = [value for value, who in self.values[-40:] if holder in (None, who)]
        return self.rng.choice(recent) if recent else None


def _count(rng: random.Random, most: int) -> int:
    middle, spread = (5.0, 1.2) if rng.random() < 0.005 else (1.0, 0.9)
    drawn = rng.lognormvariate(middle, spread)  # infinite, if hypothesis draws it
    return min(most, int(min(most, drawn)) + 1)


def _add_inputs(builder: _Builder) -> None:
    whole = InputOp()
    if builder.rng.random() < 0.5:
        builder.add(whole, ["driver"])
        builder.add(CallOp(builder.actors[0], "first", [whole.result]), [builder.actors[0]])
        return
    builder.operations.append(whole)
    for number in range(builder.rng.randint(1, 4)):
        part = InputAttrOp(whole.result, number)
        builder.add(part, ["driver"])
        actor = builder.rng.choice(builder.actors)
        builder.add(CallOp(actor, "first", [part.result]), [actor])


def _add_output(builder: _Builder) -> None:
    """All that nobody uses is an output; what cannot go to the driver passes through a call."""
    outputs = []
    for value, actor in builder.values:
        if value not in builder.used and actor != "driver":
            if isinstance(value.type, TensorType):
                call = CallOp(actor, "last", [value])
                builder.operations.append(call)
                value = call.results[0]
            outputs.append(value)
    builder.operations.append(OutputOp(outputs, is_list=True))


def _add_call(builder: _Builder) -> None:
    rng = builder.rng
    actor = rng.choice(builder.actors)
    taken = [builder.pick() for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3]))]
    results = rng.choice([1, 1, 1, 2, 3])
    call = CallOp(
        actor, rng.choice(METHODS[3:]), [v for v in taken if v is not None], None, [_type(builder, actor)] * results
    )
    builder.add(call, [actor] * results)


def _add_fan(builder: _Builder) -> None:
    rng = builder.rng
    sender, *receivers = rng.sample(builder.actors, rng.randint(3, min(9, len(builder.actors))))
    request = "nccl" if builder.gpus.issuperset(builder.actors) else "gloo"  # anybody may pick the value later
    tensor = TensorType.of(shape=[65536], dtype="float32", request=request)
    taken = builder.pick()
    call = CallOp(sender, rng.choice(METHODS[3:]), [] if taken is None else [taken], None, [tensor])
    builder.add(call, [sender])
    for receiver in receivers:
        builder.add(CallOp(receiver, rng.choice(METHODS[3:]), [call.results[0]]), [receiver])


def _add_crossing(builder: _Builder) -> None:
    """Two actors make a value each for the other, at once or with calls between."""
    rng = builder.rng
    ends = rng.sample(builder.actors, 2)
    request = "nccl" if builder.gpus.issuperset(builder.actors) else "gloo"  # anybody may pick the values later
    made = []
    for actor in ends:
        taken = builder.pick()
        tensor = TensorType.of(shape=[rng.choice([8, 65536])], dtype="float32", request=request)
        made.append(CallOp(actor, rng.choice(METHODS[3:]), [] if taken is None else [taken], None, [tensor]))
        builder.add(made[-1], [actor])
        if rng.random() < 0.3:
            _add_call(builder)
    for actor, call in zip(ends, reversed(made), strict=True):
        builder.add(CallOp(actor, rng.choice(METHODS[3:]), [call.results[0]]), [actor])


def _type(builder: _Builder, actor: str) -> ValueType:
    rng = builder.rng
    if rng.random() < 0.4:
        return OBJECT
    shape = rng.choice([None, [rng.choice([8, 1024, 65536])], [64, 64]])
    request = rng.choice([None, "auto", "shm", "gloo", "gloo", "gloo"])
    return TensorType.of(shape=shape, dtype="float32", request=request, static=shape is not None and rng.random() < 0.5)


def _add_collective(builder: _Builder) -> None:
    rng = builder.rng
    group = rng.sample(builder.actors, rng.randint(2, min(5, len(builder.actors))))
    values = []
    for actor in group:
        value = builder.pick(actor)
        if value is None:
            call = CallOp(actor, "make", [])
            builder.add(call, [actor])
            value = call.results[0]
        values.append(value)
    made = rng.choice([AllReduceOp, AllGatherOp, ReduceScatterOp])
    types = [TensorType.of(direct=True)] * len(group)
    reduce = rng.choice(["sum", "max"]) if made.REDUCES else None
    builder.add(made(values, group, types, reduce=reduce, transport="gloo"), group)
