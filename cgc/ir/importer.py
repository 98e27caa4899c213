"""
From `ray.dag` to a module of level `graph`.

    unit = import_graph(dag, name="chain", max_inflight=10)

The importer shows what the user built, right or wrong: two inputs, unused calls and actor classes that were never
instantiated all have a form in the IR, and `verify-graph` judges them. What has none (a cycle, a
node inside a set) is a `GraphError` that names the node and its `.bind`.

The text depends on the graph alone. Operations are in the order in which the user made the nodes wherever dependencies
allow it (always, unless arguments were changed afterwards); calls on one actor keep the order in which they were bound.
Nothing here recurses: chains of any length are fine.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ray.actor import ActorHandle
from ray.dag import ClassMethodNode, ClassNode, DAGNode, FunctionNode, InputAttributeNode, InputNode, MultiOutputNode
from ray.dag.collective_node import CollectiveOutputNode
from xdsl.dialects.builtin import LocationAttr, ModuleOp
from xdsl.ir import Operation, SSAValue

from cgc.errors import GraphError
from cgc.ir import ray_nodes
from cgc.ir.abstract import AbstractActor
from cgc.ir.arguments import Bound, Nest
from cgc.ir.attributes import OBJECT, TensorType, ValueType
from cgc.ir.base import file_location
from cgc.ir.graph_ops import ActorOp, BodyOp, CallOp, GraphOp, OutputOp
from cgc.ir.input_ops import InputAttrOp, InputOp
from cgc.ir.nesting import nodes_within, open_container, without
from cgc.ir.topology import LOCAL_NODE, ActorInfo
from cgc.ir.transfer_ops import AllGatherOp, AllReduceOp, CollectiveOp, ReduceScatterOp
from cgc.ir.unit import ConstantTable, Unit
from cgc.ir.verify import DRIVER

_COLLECTIVES: Mapping[str, type[CollectiveOp]] = {
    "allreduce": AllReduceOp,
    "allgather": AllGatherOp,
    "reduce_scatter": ReduceScatterOp,
}


def import_graph(
    root: DAGNode,
    *,
    name: str = "graph",
    max_inflight: int | None = None,
    actors: Mapping[Any, ActorInfo] | None = None,
    driver_node: str = LOCAL_NODE,
    with_ids: bool = False,
    location_root: str | None = None,
    default_communicator: Any = "create",
    allow_leaf_nodes: bool = False,
    share_hosts: bool = False,
) -> Unit:
    """
    The graph that ends in `root`, with all nodes that are connected to it.

    Args:
        root: The node that the user compiles.
        name: Symbol of the graph.
        max_inflight: Executions that may be in flight; goes into the IR as it is.
        actors: What is known of actors, by handle, and of the hosts of remote functions, by node; others are taken to
            be on the driver's node, without devices.
        driver_node: The node of the driver.
        with_ids: Whether actor ids, which change from run to run, go into the IR.
        location_root: Files below it are shown relative to it, others (all, if None) by their base name.
        default_communicator: What values get that ask for a communicator and name none, see `ray_nodes.value_type`.
        allow_leaf_nodes: Whether calls whose results nobody uses are effects, which the output waits for.
        share_hosts: Whether nodes of one remote function, with the same options, are on one host.

    Raises:
        GraphError: `root` is no node, or the graph has something that the IR cannot show.
    """
    if not isinstance(root, DAGNode):
        raise GraphError(f"expected a ray.dag node (what `.bind` or MultiOutputNode gives), got {type(root).__name__}")
    items = _in_order(_group(ray_nodes.connected(root)))
    symbols = _Symbols(actors or {}, driver_node, with_ids, share_hosts)
    emitter = _Emitter(symbols, location_root, default_communicator)
    for item in items:
        emitter.emit(item)
    emitter.emit_output(root, allow_leaf_nodes)
    driver = ActorOp(DRIVER, "driver", node=driver_node)
    body = BodyOp(emitter.operations)
    graph = GraphOp(name, [driver, *emitter.symbols.declarations, body], max_inflight=max_inflight)
    return Unit(ModuleOp([graph]), emitter.constants, emitter.symbols.handles, emitter.symbols.tasks)


@dataclass(eq=False)
class _Item:
    """
    What becomes one operation: a node, a call with the nodes of its results, or all nodes of a collective.

    Attributes:
        nodes: The nodes that take arguments, in the order of the user.
        outputs: For each call with several results, the nodes that stand for them, by index.
        rank: Where the item comes among those that could come next.
        uses: Items that have to be emitted before.
    """

    nodes: list[DAGNode]
    outputs: dict[int, dict[int, DAGNode]] = field(default_factory=dict)
    rank: tuple[int, int] = (-1, -1)
    uses: list[_Item] = field(default_factory=list)

    @property
    def head(self) -> DAGNode:
        return self.nodes[0]


def _group(nodes: list[DAGNode]) -> list[_Item]:
    """Items with rank and uses."""
    item_of: dict[int, _Item] = {}
    of_collective: dict[int, _Item] = {}
    for index, node in enumerate(nodes):
        if isinstance(node, MultiOutputNode) or ray_nodes.is_output_of_call(node):
            continue
        if not isinstance(node, InputNode | InputAttributeNode | ClassMethodNode | ClassNode | FunctionNode):
            raise GraphError(f"{ray_nodes.describe(node)}: nodes of this type cannot be compiled")
        item = _Item([])
        if isinstance(node, CollectiveOutputNode):
            item = of_collective.setdefault(id(node._collective_op), item)
        item.nodes.append(node)
        item_of[id(node)] = item
        created = ray_nodes.creation_order(node)
        item.rank = max(item.rank, (-1 if created is None else created, index))
    for node in nodes:
        if isinstance(node, ClassMethodNode) and node.is_class_method_output:
            call = node.class_method_call
            item_of[id(node)] = item_of[id(call)]
            item_of[id(call)].outputs.setdefault(id(call), {})[node.output_idx] = node
    # One item can hold several nodes, but comes once.
    items = list({id(item): item for item in item_of.values()}.values())
    for item in items:
        _complete(item, item_of)
    _keep_bind_order(items)
    return items


def _complete(item: _Item, item_of: Mapping[int, _Item]) -> None:
    if isinstance(item.head, CollectiveOutputNode):
        handles = item.head._collective_op.actor_handles
        position = {handle: index for index, handle in enumerate(handles)}
        item.nodes.sort(key=lambda node: position[node._parent_class_node])
        if len(item.nodes) != len(handles):
            raise GraphError(
                f"{ray_nodes.describe(item.head)}: the collective has {len(handles)} participants, but only"
                f" {len(item.nodes)} of their nodes are connected to the output; use the results of all of them"
            )
    for node in item.nodes:
        for source in ray_nodes.sources(node):
            if id(source) in item_of:
                item.uses.append(item_of[id(source)])
            elif isinstance(source, MultiOutputNode):
                raise GraphError(f"{ray_nodes.describe(node)}: a MultiOutputNode can only be the end of a graph")
        if isinstance(node, ClassMethodNode) and id(node._parent_class_node) in item_of:
            item.uses.append(item_of[id(node._parent_class_node)])


def _keep_bind_order(items: list[_Item]) -> None:
    """Let each call on an actor use the call that was bound before it, so that their order stays."""
    calls: dict[Any, list[tuple[tuple[int, ...], _Item]]] = {}
    for item in items:
        for node in item.nodes:
            if isinstance(node, ClassMethodNode) and isinstance(node._parent_class_node, ActorHandle):
                # Ray counts binds per handle, so two handles of one actor repeat numbers: creation comes first.
                order = (item.rank[0], node._get_bind_index() or 0, item.rank[1])
                calls.setdefault(node._parent_class_node, []).append((order, item))
    for bound in calls.values():
        bound.sort(key=lambda entry: entry[0])
        for (_, before), (_, after) in pairwise(bound):
            if before is not after:
                after.uses.append(before)


def _in_order(items: list[_Item]) -> list[_Item]:
    """Topological order (Kahn), by rank where there is a choice. Raises `GraphError` for a cycle."""
    waiting = {id(item): len(item.uses) for item in items}
    users: dict[int, list[_Item]] = {}
    for item in items:
        for used in item.uses:
            users.setdefault(id(used), []).append(item)
    ready = [(item.rank, item) for item in items if not item.uses]
    heapq.heapify(ready)
    ordered: list[_Item] = []
    while ready:
        _, item = heapq.heappop(ready)
        ordered.append(item)
        for user in users.get(id(item), ()):
            waiting[id(user)] -= 1
            if waiting[id(user)] == 0:
                heapq.heappush(ready, (user.rank, user))
    if len(ordered) != len(items):
        raise GraphError(_cycle_message([item for item in items if waiting[id(item)]]))
    return ordered


def _cycle_message(stuck: list[_Item]) -> str:
    """Names one cycle: from any stuck item, going to a stuck item that it uses must come back somewhere."""
    remaining = {id(item) for item in stuck}
    path: list[_Item] = [min(stuck, key=lambda item: item.rank)]
    position = {id(path[0]): 0}
    while True:
        following = next(used for used in path[-1].uses if id(used) in remaining)
        if id(following) in position:
            cycle = path[position[id(following)] :][::-1]
            break
        position[id(following)] = len(path)
        path.append(following)
    steps = "".join(f"\n  {ray_nodes.describe(item.head)}" for item in [*cycle, cycle[0]])
    return f"the graph has a cycle, each node is used (or bound on the same actor) before the next:{steps}"


class _Symbols:
    """Names for actors, in the order in which they are asked for."""

    def __init__(self, known: Mapping[Any, ActorInfo], home: str, with_ids: bool, share_hosts: bool) -> None:
        self._known = known
        self._home = home
        self._with_ids = with_ids
        self._share_hosts = share_hosts
        self._name_of: dict[Any, str] = {}
        self._taken = {DRIVER}
        self._next_number: dict[str, int] = {}
        self.declarations: list[ActorOp] = []
        self.handles: dict[str, Any] = {}
        self.tasks: dict[str, FunctionNode] = {}

    def of_actor(self, parent: Any, location: LocationAttr | None) -> str:
        """Symbol of an actor handle, an actor class node or a remote function's node (declares it at first sight)."""
        if parent in self._name_of:
            return self._name_of[parent]
        if isinstance(parent, FunctionNode) and self._share_hosts:
            for name, node in self.tasks.items():
                if node._body is parent._body and node._bound_options == parent._bound_options:
                    return name
        if isinstance(parent, ActorHandle):
            name = self._declare(self._info(parent), "actor", None)
            self.handles[name] = parent
        elif isinstance(parent, FunctionNode):
            name = self._declare(self._info(parent), "task", location)
            self.tasks[name] = parent
        else:
            name = self._declare(ActorInfo(ray_nodes.class_name_of(parent)), "class", location)
        self._name_of[parent] = name
        return name

    def _info(self, parent: ActorHandle[Any] | FunctionNode) -> ActorInfo:
        if parent in self._known:
            return self._known[parent]
        if isinstance(parent, FunctionNode):
            return ActorInfo(ray_nodes.function_name(parent), node=self._home)
        if isinstance(parent, AbstractActor):
            return parent.info
        return ActorInfo(ray_nodes.class_name_of(parent), node=self._home, actor_id=parent._actor_id.hex())

    def _declare(self, info: ActorInfo, kind: str, location: LocationAttr | None) -> str:
        name = self._unique(info)
        actor = ActorOp(
            name,
            kind,
            node=info.node,
            class_name=info.class_name,
            devices=info.devices,
            actor_id=info.actor_id if self._with_ids else None,
            location=location,
        )
        self.declarations.append(actor)
        return name

    def _unique(self, info: ActorInfo) -> str:
        wanted = _symbol(info.name or info.class_name)
        name = wanted
        while name in self._taken or (info.name is None and name == wanted):
            number = self._next_number.get(wanted, 0)
            self._next_number[wanted] = number + 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


class _Emitter:
    """Makes operations of items, in order."""

    def __init__(self, symbols: _Symbols, location_root: str | None, default_communicator: Any) -> None:
        self.operations: list[Operation] = []
        self.constants = ConstantTable()
        self.symbols = symbols
        self._value_of: dict[int, SSAValue] = {}
        self._location_root = location_root
        self._default_communicator = default_communicator

    def emit(self, item: _Item) -> None:
        node = item.head
        ray_nodes.check_all_reachable(node)
        if isinstance(node, CollectiveOutputNode):
            self._emit_collective(item)
        elif isinstance(node, InputNode):
            self._add(node, InputOp(self._type(node), location=self._location(node)))
        elif isinstance(node, InputAttributeNode):
            self._emit_input_attribute(node)
        elif isinstance(node, ClassMethodNode):
            self._emit_call(item, node, node._parent_class_node, node.get_method_name(), ray_nodes.num_returns(node))
        elif isinstance(node, FunctionNode):
            ray_nodes.check_one_result(node)
            self._emit_call(item, node, node, ray_nodes.function_name(node), 1)
        else:
            # It does not run in a compiled graph; shown as a call, for verify-graph to say so.
            self._emit_call(item, node, node, "__init__", 1)

    def emit_output(self, root: DAGNode, allow_leaf_nodes: bool) -> None:
        is_list = isinstance(root, MultiOutputNode)
        values: list[SSAValue] = []
        for position, node in enumerate(root._bound_args if is_list else [root]):
            if not isinstance(node, DAGNode):
                hint = "; unpack it" if isinstance(node, list | tuple) else ""
                raise GraphError(
                    f"{ray_nodes.describe(root)}: output {position} is no node but a {type(node).__name__}{hint}"
                )
            values.append(self._value(node, root))
        effects = self._make_effects(values) if allow_leaf_nodes else []
        self.operations.append(OutputOp(values, is_list=is_list, after=effects, location=self._location(root)))

    def _make_effects(self, outputs: list[SSAValue]) -> list[SSAValue]:
        """Make each call whose results nobody uses an effect; the values that say how they ended."""
        effects: list[SSAValue] = []
        for position, call in enumerate(self.operations):
            if isinstance(call, CallOp) and not any(result.uses or result in outputs for result in call.results):
                args, kwargs = call.bound
                made = CallOp(call.actor, call.method, args, kwargs, effect=True, location=call.location)
                call.drop_all_references()
                self.operations[position] = made
                effects.append(made.results[0])
        return effects

    def _emit_input_attribute(self, node: InputAttributeNode) -> None:
        source = self._value(node._dag_input_node, node)
        accessor = "attr" if node._accessor_method == "__getattr__" else "item"
        location = self._location(node)
        self._add(node, InputAttrOp(source, node.key, accessor, self._type(node), location=location))

    def _emit_call(self, item: _Item, node: DAGNode, parent: Any, method: str, returns: int) -> None:
        outputs = item.outputs.get(id(node), {})
        # At least one, of a method without results too: without it nobody would learn of its errors.
        returns = max(returns, 1, *(index + 1 for index in outputs))
        typed = outputs if outputs else {0: node}
        types = [self._type(typed[index]) if index in typed else OBJECT for index in range(returns)]
        location = self._location(node)
        call = CallOp(
            self.symbols.of_actor(parent, location),
            method,
            [self._argument(argument, node) for argument in node._bound_args],
            {keyword: self._argument(argument, node) for keyword, argument in node._bound_kwargs.items()},
            types,
            location=location,
        )
        self._add(node, call, outputs)

    def _emit_collective(self, item: _Item) -> None:
        head = item.head
        kind, reduce, transport = ray_nodes.collective_of(head, self.constants, self._default_communicator)
        operands = [self._value(argument, node) for node in item.nodes for argument in node._bound_args]
        each = ray_nodes.num_returns(head)
        results: list[DAGNode | None] = []
        for node in item.nodes:
            outputs = item.outputs.get(id(node), {})
            results += [outputs.get(index) for index in range(each)] if each > 1 else [node]
        collective = _COLLECTIVES[kind](
            operands,
            [self.symbols.of_actor(node._parent_class_node, None) for node in item.nodes],
            [_tensor(self._type(node)) if node is not None else _tensor(OBJECT) for node in results],
            reduce=reduce,
            transport=transport,
            location=self._location(head),
        )
        self.operations.append(collective)
        self._value_of.update(
            (id(node), value) for node, value in zip(results, collective.results, strict=True) if node is not None
        )

    def _add(self, node: DAGNode, operation: Operation, outputs: Mapping[int, DAGNode] | None = None) -> None:
        self.operations.append(operation)
        if outputs:
            self._value_of.update((id(output), operation.results[index]) for index, output in outputs.items())
        elif len(operation.results) == 1:
            self._value_of[id(node)] = operation.results[0]

    def _argument(self, argument: Any, user: DAGNode) -> Bound:
        if isinstance(argument, DAGNode):
            return self._value(argument, user)
        opened = open_container(argument)
        if opened is None or next(nodes_within(argument), None) is None:
            return self.constants.attribute(argument)
        if opened.kind != "object":
            children = [self._argument(child, user) for child in opened.children]
            return Nest(opened.kind, children, [self.constants.attribute(key) for key in opened.keys])
        holes = {
            name: self._argument(child, user)
            for name, child in zip(opened.keys, opened.children, strict=True)
            if isinstance(child, DAGNode) or next(nodes_within(child), None) is not None
        }
        like = self.constants.add(without(argument, list(holes)))
        return Nest("object", list(holes.values()), [self.constants.attribute(name) for name in holes], like)

    def _value(self, node: DAGNode, user: DAGNode) -> SSAValue:
        value = self._value_of.get(id(node))
        if value is None:
            raise GraphError(
                f"{ray_nodes.describe(user)}: {ray_nodes.describe(node)} has no single result; take one of its results"
            )
        return value

    def _type(self, node: DAGNode) -> ValueType:
        return ray_nodes.value_type(node, self.constants, self._default_communicator)

    def _location(self, node: DAGNode) -> LocationAttr | None:
        place = ray_nodes.place(node, self._location_root)
        return None if place is None else file_location(*place)


def _tensor(kind: ValueType) -> ValueType:
    """Collectives make tensors, whether the user says so or not."""
    return kind if isinstance(kind, TensorType) else TensorType.of(direct=True)


def _symbol(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return name if name[:1].isalpha() or name[:1] == "_" else f"_{name}"
