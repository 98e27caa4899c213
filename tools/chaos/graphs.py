"""
Random graphs of actors, the values that travel in them, and a model that knows what every output has to be.

A value is a `Token`: the number of its execution, a digest of the way that it has come, and a payload whose bytes
follow from the digest. Every method checks what it gets, so that a stale, torn or foreign value is found where it
appears; the driver compares digests with the model.

Where actors *meet*, each has a call in two halves: it gives a tensor full of its digest, all tensors are added in an
allreduce, and each goes on with the sum.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple

import numpy as np
import ray
import ray.actor
from ray.dag import DAGNode, InputNode, MultiOutputNode
from ray.experimental.collective import allreduce

from cgc.runtime import worker
from cgc.runtime.communicators.gloo import GlooCommunicator

HUGE = 96 << 20
"""Bytes of a value that the chaos run's `max_channel_bytes` refuses."""

PAYLOADS = (0, 0, 0, 16, 500, 5_000, 70_000, 300_000, 2_000_000)
"""Payload sizes in bytes to draw from: none, inside a slot, and in segments of their own."""


HAS_TORCH = importlib.util.find_spec("torch") is not None


class ChaosError(Exception):
    """Raised on purpose; the text has the tag of the fault."""


class CorruptError(Exception):
    """A value is not what it has to be. Never expected."""


class Token(NamedTuple):
    """What travels through a graph. `plan` tells methods what to do wrong, as (call, fault) pairs."""

    execution: int
    digest: int
    payload: np.ndarray
    checksum: int
    plan: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, execution: int, digest: int, size: int, plan: tuple[tuple[int, str], ...] = ()) -> Token:
        payload = (np.arange(size, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(digest)).view(np.uint8)[:size]
        return cls(execution, digest, payload, zlib.crc32(payload), plan)

    def check(self) -> None:
        """Raises CorruptError if the payload is not the one that was made."""
        if zlib.crc32(self.payload) != self.checksum:
            raise CorruptError(f"payload of execution {self.execution}, digest {self.digest:#x}")


class Bad:
    """A value that makes trouble on its way; whoever gets it unharmed raises ChaosError with its tag."""

    def __init__(self, fault: str, tag: str) -> None:
        self.fault = fault
        self.tag = tag
        self.ballast = np.zeros(HUGE, dtype=np.uint8) if fault == "huge" else None

    def __reduce__(self) -> Any:
        if self.fault == "unpicklable":
            raise TypeError(self.tag)
        if self.fault == "unreadable":
            return _explode, (self.tag,)
        return super().__reduce__()


def _explode(tag: str) -> None:
    raise ChaosError(tag)


def tag_of(execution: int, call: int) -> str:
    """Found in the text of every error that the fault of this call causes."""
    return f"chaos-{execution}-{call}."


def combine(call: int, digests: Sequence[int]) -> int:
    """Digest of a call's result."""
    return zlib.crc32(b"".join(digest.to_bytes(4, "little") for digest in (call, *digests)))


class Member:
    """An actor of the graphs. Normal calls look into its process."""

    def step(self, call: int, size: int, *tokens: Any) -> Any:
        """One call of a graph: check the arguments, obey the plan, make the result."""
        execution = _execution_of(call, tokens)
        plan = dict(tokens[0].plan)
        if call in plan:
            misbehaved = _misbehave(plan[call], tag_of(execution, call))
            if misbehaved is not None:
                return misbehaved
        return Token.of(execution, combine(call, [token.digest for token in tokens]), size, tokens[0].plan)

    @ray.method(num_returns=2)
    def fork(self, call: int, size: int, *tokens: Any) -> Any:
        """The same with two results, the second one a step further."""
        first = self.step(call, size, *tokens)
        if isinstance(first, Bad):
            return first, first
        return first, Token.of(first.execution, combine(call, [first.digest]), size, first.plan)

    def meet(self, call: int, size: int, *tokens: Any) -> Any:
        """The first half of a call that meets others: a tensor, or what the plan says."""
        import torch

        made = self.step(call, 0, *tokens)
        if isinstance(made, Bad):
            raise ChaosError(made.tag)
        return torch.full((size // 8 + 1,), made.digest)

    def part(self, call: int, size: int, total: Any, *tokens: Any) -> Token:
        """The second half, with the sum of all tensors."""
        lowest, highest = int(total.min()), int(total.max())
        if lowest != highest or total.numel() != size // 8 + 1:
            raise CorruptError(f"call {call} got a sum of {total.numel()} from {lowest:#x} to {highest:#x}")
        return Token.of(_execution_of(call, tokens), combine(call, [lowest % (1 << 32)]), size, tokens[0].plan)

    def look(self) -> Footprint:
        """What graphs have left in this process."""
        return footprint()

    def pid(self) -> int:
        return os.getpid()


MemberActor = ray.remote(Member)


def _execution_of(call: int, tokens: Sequence[Any]) -> int:
    """Of arguments that are what they have to be."""
    for token in tokens:
        if isinstance(token, Bad):
            raise ChaosError(token.tag)
        token.check()
    executions = {token.execution for token in tokens}
    if len(executions) != 1:
        raise CorruptError(f"call {call} got values of executions {sorted(executions)}")
    return int(executions.pop())


def _misbehave(fault: str, tag: str) -> Bad | None:
    if fault == "raise":
        raise ChaosError(tag)
    if fault == "slow":
        time.sleep(0.3)
        return None
    if fault == "exit":
        os._exit(7)
    if fault == "sys_exit":
        sys.exit(tag)
    if fault == "leave":
        ray.actor.exit_actor()
    return Bad(fault, tag)


class Footprint(NamedTuple):
    """What of cgc is alive in a process: everything but `descriptors` has to be empty after a graph has ended."""

    graphs: list[str]
    threads: list[str]
    mappings: list[str]
    handles: list[str]
    descriptors: int

    @property
    def is_clean(self) -> bool:
        return not (self.graphs or self.threads or self.mappings or self.handles)


def footprint() -> Footprint:
    """The footprint of this process."""
    links = [_target(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    with open("/proc/self/maps", encoding="utf-8") as maps:
        mappings = [line.split(maxsplit=5)[5].strip() for line in maps if "memfd:cgc" in line]
    return Footprint(
        graphs=worker.running_graphs(),
        threads=[thread.name for thread in threading.enumerate() if thread.name.startswith("cgc")],
        mappings=mappings,
        handles=[link for link in links if "memfd:cgc" in link or link == "anon_inode:[pidfd]"],
        descriptors=len(links),
    )


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""


@dataclass(frozen=True)
class Call:
    """
    A call of a graph.

    Attributes:
        number: Position in the graph, which is also its name in tags and digests.
        actor: Position in the list of actors.
        forks: Whether it has two results.
        sources: (call, result) pairs; call -1 is the input, its result the part of it.
        size: Payload bytes of its results.
        meets: Whether it meets those that stand beside it in the graph's calls and meet, too.
    """

    number: int
    actor: int
    forks: bool
    sources: tuple[tuple[int, int], ...]
    size: int
    meets: bool = False


@dataclass(frozen=True)
class Graph:
    """
    A random graph.

    Attributes:
        parts: Number of inputs; 0 for the whole input.
        outputs: (call, result) pairs.
        is_list: Whether the outputs are in a `MultiOutputNode`.
        over_gloo: Whether those that meet do it over gloo; else through shared memory.
    """

    actors: int
    parts: int
    calls: tuple[Call, ...]
    outputs: tuple[tuple[int, int], ...]
    is_list: bool
    over_gloo: bool = False

    @classmethod
    def draw(cls, random: Random, actors: int) -> Graph:
        """A graph on exactly `actors` actors in which every result is used."""
        parts = random.choice((0, 0, 1, 2, 3))
        available = [(-1, part) for part in range(max(parts, 1))]
        calls: list[Call] = []
        for number in range(random.randint(actors, actors + 4)):
            count = min(random.choice((1, 1, 1, 2, 3)), len(available))
            recent = available[-4:]
            sources = tuple(random.choice(recent if random.random() < 0.7 else available) for _ in range(count))
            actor = number if number < actors else random.randrange(actors)
            call = Call(number, actor, random.random() < 0.2, sources, random.choice(PAYLOADS))
            calls.append(call)
            available += [(number, result) for result in range(1 + call.forks)]
        meets = HAS_TORCH and actors > 1 and random.random() < 0.3
        if meets:
            meeting = _draw_meeting(random, len(calls), actors, available)
            calls += meeting
            available += [(call.number, 0) for call in meeting]
            followers = _draw_followers(random, len(calls), meeting)
            calls += followers
            available += [(call.number, 0) for call in followers]
        used = {source for call in calls for source in call.sources}
        unused_parts = [part for part in range(parts) if (-1, part) not in used]
        if unused_parts:
            last = calls[-1]
            calls[-1] = replace(last, sources=last.sources + tuple((-1, p) for p in unused_parts))
            used |= {(-1, part) for part in unused_parts}
        outputs = [place for place in available if place[0] >= 0 and place not in used]
        outputs += [place for place in used if place[0] >= 0 and random.random() < 0.15]
        random.shuffle(outputs)
        is_list = len(outputs) > 1 or random.random() < 0.2
        return cls(actors, parts, tuple(calls), tuple(outputs), is_list, meets and random.random() < 0.3)

    def bind(self, handles: Sequence[ray.actor.ActorHandle]) -> DAGNode:
        """The graph as Ray's nodes on these actors."""
        values: dict[tuple[int, int], Any] = {}
        with InputNode() as inputs:
            for part in range(self.parts):
                values[-1, part] = inputs[part]
            values.setdefault((-1, 0), inputs)
            for call in self.calls:
                handle = handles[call.actor]
                arguments = [values[source] for source in call.sources]
                if call.meets:
                    self._bind_meeting(call, handles, values)
                    continue
                method = handle.fork if call.forks else handle.step
                bound = method.bind(call.number, call.size, *arguments)
                for result in range(1 + call.forks):
                    values[call.number, result] = bound[result] if call.forks else bound
            nodes = [values[output] for output in self.outputs]
            return MultiOutputNode(nodes) if self.is_list else nodes[0]

    @property
    def meeting(self) -> tuple[Call, ...]:
        """The calls that meet."""
        return tuple(call for call in self.calls if call.meets)

    def _bind_meeting(self, call: Call, handles: Sequence[Any], values: dict[tuple[int, int], Any]) -> None:
        """Binds all calls of the meeting, at the first of them."""
        if (call.number, 0) in values:
            return
        actors = [handles[each.actor] for each in self.meeting]
        tokens = [[values[source] for source in each.sources] for each in self.meeting]
        parts = [
            actor.meet.bind(each.number, each.size, *given)
            for actor, each, given in zip(actors, self.meeting, tokens, strict=True)
        ]
        sums = allreduce.bind(parts, **({"transport": GlooCommunicator(actors)} if self.over_gloo else {}))
        for actor, each, total, given in zip(actors, self.meeting, sums, tokens, strict=True):
            values[each.number, 0] = actor.part.bind(each.number, each.size, total, *given)

    def inputs(self, execution: int, plan: Mapping[int, str], size: int) -> list[Token]:
        """Arguments of `execute`."""
        return [Token.of(execution, execution * 8 + part, size, tuple(plan.items())) for part in range(self.parts or 1)]

    def expect(self, execution: int, plan: Mapping[int, str]) -> list[int | str]:
        """For each output the digest of its token, or the tag of the fault that it has to report."""
        values: dict[tuple[int, int], int | str] = {(-1, part): execution * 8 + part for part in range(self.parts or 1)}
        for call in self.calls:
            if call.meets:
                if (call.number, 0) not in values:
                    self._expect_meeting(execution, plan, values)
                continue
            result = values[call.number, 0] = _result(execution, plan, call, values)
            if call.forks:
                values[call.number, 1] = result if isinstance(result, str) else combine(call.number, [result])
        return [values[output] for output in self.outputs]

    def _expect_meeting(
        self, execution: int, plan: Mapping[int, str], values: dict[tuple[int, int], int | str]
    ) -> None:
        """Adds what all calls of the meeting give: the sum, or the first error that one of them has brought."""
        given = [_result(execution, plan, call, values) for call in self.meeting]
        bad = next((each for each in given if isinstance(each, str)), None)
        total = sum(each for each in given if isinstance(each, int)) % (1 << 32)
        for call in self.meeting:
            values[call.number, 0] = bad or combine(call.number, [total])


def _result(
    execution: int, plan: Mapping[int, str], call: Call, values: Mapping[tuple[int, int], int | str]
) -> int | str:
    """The digest that a call computes of its arguments, or the tag of the fault that they have, or the call."""
    sources = [values[source] for source in call.sources]
    fault = plan.get(call.number)
    bad = next((source for source in sources if isinstance(source, str)), None)
    if bad is not None:
        return bad
    if fault is not None and fault != "slow":
        return tag_of(execution, call.number)
    return combine(call.number, [source for source in sources if isinstance(source, int)])


def _draw_meeting(random: Random, number: int, actors: int, available: Sequence[tuple[int, int]]) -> list[Call]:
    """Some actors, or all, each with a value of its own, and tensors of one size."""
    participants = random.sample(range(actors), random.randint(2, actors))
    size = random.choice(PAYLOADS)
    return [
        Call(number + place, actor, False, (random.choice(available[-6:]),), size, meets=True)
        for place, actor in enumerate(participants)
    ]


def _draw_followers(random: Random, number: int, meeting: Sequence[Call]) -> list[Call]:
    """Calls on what the meeting gives, some of them of another participant's."""
    return [
        Call(number + place, call.actor, False, ((random.choice(meeting).number, 0),), random.choice(PAYLOADS))
        for place, call in enumerate(meeting[:2])
    ]
