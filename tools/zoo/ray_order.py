"""
The schedule that Ray's own scheduler gives to a graph, simulated with our cost model.

Ray's functions are imported from the installed package and called as they are, on the nodes that the user made: they
build Ray's graph of operations (a READ, a COMPUTE and a WRITE for each call, where a WRITE over a communicator is
selected together with all READs of its value), and order it. Where they fail, the graph is one that Ray refuses.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from ray.dag import ClassMethodNode, DAGNode
from ray.dag.collective_node import CollectiveOutputNode
from ray.dag.dag_node_operation import (
    _build_dag_node_operation_graph,
    _DAGNodeOperation,
    _DAGNodeOperationType,
    _DAGOperationGraphNode,
    _generate_actor_to_execution_schedule,
    _generate_overlapped_execution_schedule,
)

from cgc.passes.analysis.problem import Problem
from cgc.passes.analysis.schedule import RENDEZVOUS, Channel, Kind, Process, Schedule, Step
from cgc.passes.analysis.simulate import simulate

READ, COMPUTE, WRITE = _DAGNodeOperationType.READ, _DAGNodeOperationType.COMPUTE, _DAGNodeOperationType.WRITE

Order = dict[str, list[tuple[Any, int]]]
"""Per actor, its operations as (READ, COMPUTE or WRITE; number of the call on that actor)."""


class RefusedError(Exception):
    """Ray has no such schedule; says why."""


def ray_order(dag: DAGNode, *, overlap: bool = False) -> Order:
    """
    In which order Ray would run a graph of abstract actors that have names.

    With `overlap`, receives are moved before the call in front of them, as Ray's `_overlap_gpu_communication` does.

    Raises:
        RefusedError: Ray's scheduler finds no order, or the values would not travel as the user says.
    """
    if ignores_hints(dag):
        raise RefusedError("Ray ignores the transport of one result of several")
    tasks = {number: _Task(node) for number, node in enumerate(_nodes(dag))}
    numbers = {id(task.dag_node): number for number, task in tasks.items()}
    for number, task in tasks.items():
        for before in task.dag_node._upstream_nodes:
            tasks[numbers[id(before)]].downstream_task_idxs[number] = None
    try:
        graph = _build_dag_node_operation_graph(tasks, _operations(tasks))
        schedule = _generate_actor_to_execution_schedule(graph)
    except (AssertionError, KeyError, ValueError) as error:  # how its scheduler fails where it finds no order
        raise RefusedError(f"{type(error).__name__} in Ray's scheduler") from error
    if overlap:
        schedule = _generate_overlapped_execution_schedule(schedule)
    return {
        actor.info.name: [(node.operation.type, node.operation.exec_task_idx) for node in nodes]
        for actor, nodes in schedule.items()
    }


def ray_makespan(dag: DAGNode, problem: Problem, *, overlap: bool) -> float:
    """
    How long Ray's order is predicted to take, in microseconds, with meetings on streams if it is the overlapped one.

    Args:
        dag: The graph, of which `problem` was made.
        problem: What cgc has of it, with the expected times.
        overlap: As in `ray_order`.

    Raises:
        RefusedError: Ray has no order, or one in which actors wait for each other.
    """
    simulation = simulate(schedule_in_order(ray_order(dag, overlap=overlap), problem, "driver", streams=overlap))
    if simulation.stuck:
        raise RefusedError("Ray's order deadlocks")
    return simulation.makespan


def ignores_hints(dag: DAGNode) -> bool:
    """Whether a call has several results, one with a transport: Ray looks at that of the call alone, and takes shm."""
    return any(
        isinstance(node, ClassMethodNode) and node.is_class_method_output and node.type_hint.requires_accelerator()
        for node in _nodes(dag)
    )


def schedule_in_order(order: Order, problem: Problem, driver: str, *, streams: bool) -> Schedule:
    """A given order as a schedule for the simulator; with `streams`, what has to meet runs on streams of its own."""
    tasks_of: dict[str, list[int]] = defaultdict(list)
    for index, task in enumerate(problem.tasks):
        for actor in task.actors:
            tasks_of[problem.names[actor]].append(index)
    named = {name: [(kind, tasks_of[name][call]) for kind, call in calls] for name, calls in order.items()}
    return _Translation(problem, driver, streams).schedule(named)


@dataclass
class _Task:
    """As much of Ray's `CompiledTask` as its scheduler looks at."""

    dag_node: Any
    downstream_task_idxs: dict[int, None] = field(default_factory=dict)


def _nodes(dag: DAGNode) -> list[DAGNode]:
    """All nodes in the order in which Ray numbers them, which decides ties."""
    found: list[DAGNode] = []
    dag._find_root().traverse_and_apply(found.append)
    return found


def _operations(tasks: dict[int, _Task]) -> dict[Any, list[list[_DAGOperationGraphNode]]]:
    """By actor a READ, a COMPUTE and a WRITE for each of its calls, in the order of binding, as Ray makes them."""
    calls: dict[Any, list[int]] = {}
    for number, task in tasks.items():
        if isinstance(task.dag_node, ClassMethodNode) and not task.dag_node.is_class_method_output:
            calls.setdefault(task.dag_node._get_actor_handle(), []).append(number)
    found: dict[Any, list[list[_DAGOperationGraphNode]]] = {}
    for actor, numbers in calls.items():
        actor._ray_actor_id = actor.info.name  # what a live handle has, and Ray orders by
        numbers.sort(key=lambda number: tasks[number].dag_node._get_bind_index())
        found[actor] = [_call(actor, place, number, tasks[number].dag_node) for place, number in enumerate(numbers)]
    return found


def _call(actor: Any, place: int, number: int, node: Any) -> list[_DAGOperationGraphNode]:
    accelerator = {
        READ: any(before.type_hint.requires_accelerator() for before in node._upstream_nodes),
        COMPUTE: isinstance(node, CollectiveOutputNode),
        WRITE: node.type_hint.requires_accelerator(),
    }
    return [
        _DAGOperationGraphNode(_DAGNodeOperation(place, kind), number, actor, requires)
        for kind, requires in accelerator.items()
    ]


class _Translation:
    """From an order of operations to processes of the simulator."""

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

    def schedule(self, order: Order) -> Schedule:
        """`order` with the numbers of tasks in place of calls."""
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
