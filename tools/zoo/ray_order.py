"""
The schedule that Ray's own scheduler gives to a graph, simulated with our cost model.

Ray's functions are imported from the installed package and called as they are. Each task is a READ, a COMPUTE and a
WRITE; a WRITE over a communicator is selected together with all READs of its value. Where Ray finds no order (an
assertion or a KeyError in its scheduler), the graph is one that it refuses.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from ray.dag.dag_node_operation import (
    _add_edge,
    _DAGNodeOperation,
    _DAGNodeOperationType,
    _DAGOperationGraphNode,
    _generate_actor_to_execution_schedule,
    _generate_overlapped_execution_schedule,
)

from cgc.passes.analysis.problem import Problem
from cgc.passes.analysis.schedule import RENDEZVOUS, Channel, Kind, Process, Schedule, Step

READ, COMPUTE, WRITE = _DAGNodeOperationType.READ, _DAGNodeOperationType.COMPUTE, _DAGNodeOperationType.WRITE


@dataclass(frozen=True)
class _ActorId:
    """As much of an actor handle as Ray's scheduler looks at."""

    name: str

    @property
    def _actor_id(self) -> str:
        return self.name

    _ray_actor_id = _actor_id


def ray_schedule(problem: Problem, driver: str, *, overlap: bool) -> Schedule | None:
    """
    What Ray would run, as a schedule for the simulator; None if it refuses the graph.

    With `overlap`, receives are moved before the call in front of them and communication runs on streams, as with
    Ray's `_overlap_gpu_communication`.
    """
    order = _ray_order(problem, driver, overlap)
    return None if order is None else _Translation(problem, driver, overlap).schedule(order)


def _ray_order(problem: Problem, driver: str, overlap: bool) -> dict[str, list[tuple[Any, int]]] | None:
    """Per actor, its operations as (READ, COMPUTE or WRITE; task)."""
    graph: dict[int, dict[Any, Any]] = {}
    of_actor: dict[str, int] = defaultdict(int)
    last: dict[str, Any] = {}
    sends = {message.source for message in problem.messages if message.meets}
    takes = {consumer for message in problem.messages if message.meets for _, consumer in message.receivers}
    for index, task in enumerate(problem.tasks):
        name = problem.names[task.actors[0]]
        if name == driver:
            continue
        number = of_actor[name]
        of_actor[name] += 1
        made = {
            kind: _DAGOperationGraphNode(_DAGNodeOperation(number, kind), index, _ActorId(name), meets)
            for kind, meets in ((READ, index in takes), (COMPUTE, False), (WRITE, index in sends))
        }
        graph[index] = made
        _add_edge(made[READ], made[COMPUTE])
        _add_edge(made[COMPUTE], made[WRITE])
        if name in last:
            _add_edge(last[name], made[COMPUTE], "", True)
        last[name] = made[COMPUTE]
    for message in problem.messages:
        for _, consumer in message.receivers:
            if message.source in graph and consumer in graph:
                write, read = graph[message.source][WRITE], graph[consumer][READ]
                _add_edge(write, read)
                if message.meets:
                    both = {(message.source, WRITE), (consumer, READ)}
                    write.sync_idxs.update(both)
                    read.sync_idxs.update(both)
    try:
        schedule = _generate_actor_to_execution_schedule(graph)
    except (AssertionError, KeyError):  # how its scheduler fails where it finds no order
        return None
    if overlap:
        schedule = _generate_overlapped_execution_schedule(schedule)
    return {actor.name: [(node.operation.type, node.task_idx) for node in nodes] for actor, nodes in schedule.items()}


class _Translation:
    """From Ray's order of operations to processes of the simulator."""

    def __init__(self, problem: Problem, driver: str, streams: bool) -> None:
        self.problem = problem
        self.driver = driver
        self.streams = streams
        self.processes = [Process(f"@{name}") for name in problem.names]
        self.sends: dict[int, list[int]] = defaultdict(list)
        self.takes: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.arrived: dict[tuple[int, int], tuple[int, int]] = {}
        self.stream_of: dict[tuple[int, str], int] = {}
        for number, message in enumerate(problem.messages):
            self.sends[message.source].append(number)
            for actor, consumer in message.receivers:
                self.takes[consumer, actor].append(number)

    def schedule(self, order: dict[str, list[tuple[Any, int]]]) -> Schedule:
        driver = self.problem.names.index(self.driver)
        own = [index for index, task in enumerate(self.problem.tasks) if task.actors == (driver,)]
        for task in own[:-1]:
            self._operation(driver, WRITE, task)
        for name, operations in order.items():
            actor = self.problem.names.index(name)
            for kind, task in operations:
                self._operation(actor, kind, task)
        self._operation(driver, READ, own[-1])
        return Schedule(self.processes, self._channels())

    def _operation(self, actor: int, kind: Any, task: int) -> None:
        if kind is WRITE:
            for number in self.sends[task]:
                self._communicate(actor, number, sends=True)
        elif kind is READ:
            for number in self.takes[task, actor]:
                self._communicate(actor, number, sends=False)
        else:
            waits = [self.arrived[n, actor] for n in self.takes[task, actor] if (n, actor) in self.arrived]
            self._step(actor, Step(Kind.COMPUTE, f"t{task}", us=self.problem.tasks[task].us, after=tuple(waits)))

    def _communicate(self, actor: int, number: int, *, sends: bool) -> None:
        meets = self.problem.messages[number].meets
        kind = Kind.MEET if meets else Kind.WRITE if sends else Kind.READ
        if not (meets and self.streams):
            self._step(actor, Step(kind, f"m{number}", (number,)))
            return
        issued = self._step(actor, Step(Kind.COMPUTE, "issue"))
        place = self._step(self._stream(actor, sends), Step(kind, f"m{number}", (number,), after=(issued,)))
        if not sends:
            self.arrived[number, actor] = place

    def _step(self, process: int, step: Step) -> tuple[int, int]:
        self.processes[process].steps.append(step)
        return process, len(self.processes[process].steps) - 1

    def _stream(self, actor: int, sends: bool) -> int:
        key = (actor, "send" if sends else "recv")
        if key not in self.stream_of:
            self.stream_of[key] = len(self.processes)
            self.processes.append(Process(f"@{self.problem.names[actor]}/{key[1]}"))
        return self.stream_of[key]

    def _channels(self) -> list[Channel]:
        channels = []
        for message in self.problem.messages:
            on_stream = message.meets and self.streams
            writer = self._stream(message.sender, True) if on_stream else message.sender
            readers = [self._stream(actor, False) if on_stream else actor for actor, _ in message.receivers]
            slots = RENDEZVOUS if message.meets else 10
            times = (message.send_us, message.latency_us, message.recv_us)
            channels.append(Channel(f"m{len(channels)}", writer, tuple(readers), slots, *times))
        return channels
