"""
The user's graph, numbered and labelled as the `visualize` of Ray's compiled graphs does, as text and for Graphviz.

    Nodes Information:                                  Graph Built:
    0 [label="Task 0  InputNode"]                       0:InputNode
    1 [label="Task 1  Actor: 5f3cac... Method: inc"]    |
    2 [label="Task 2  MultiOutputNode"]                 1:Actor_5f3cac:inc
    Edges Information:                                  |
    0 ---> 1                                            2:MultiOutputNode
    1 ---> 2

What each actor does and when is another drawing: see `graphviz` and `ascii`, which draw the schedule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray.actor import ActorHandle
from ray.dag import ClassMethodNode, DAGNode, FunctionNode, InputAttributeNode, InputNode, MultiOutputNode

from cgc.ir.ray_nodes import class_name_of, function_name, sources

COLUMN = 30
"""Characters between the left ends of two neighbours in a row of the text."""

FILLS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#999999")
"""Colours of actors, those of Okabe and Ito, used again from the start when there are more actors."""


@dataclass(frozen=True, slots=True)
class Node:
    """
    A node of the drawing.

    Attributes:
        lines: The label, line by line, in Graphviz's drawing.
        line: The label in the text's list of nodes.
        short: The label in the text's drawing.
        actor: What is called: id of the actor, or a name of the function's host of its own, or `""`.
        hint: Class of the type hint of the node's value.
        accelerator: Whether the value travels by accelerator.
    """

    number: int
    lines: tuple[str, ...]
    line: str
    short: str
    actor: str
    hint: str
    accelerator: bool


@dataclass(frozen=True, slots=True)
class UserGraph:
    """
    Nodes in Ray's order, and edges as pairs of their numbers, in the order of the readers' arguments.

    `parts` are the edges from the input to its parts, which only Graphviz's drawing shows.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]
    parts: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, dag: DAGNode) -> UserGraph:
        """The graph that ends in `dag`, a node that compiles."""
        found = _connected(dag)
        numbers = {node: number for number, node in enumerate(found)}
        nodes = [_node(number, node) for number, node in enumerate(found)]
        edges = [
            (numbers[argument], number)
            for node, number in numbers.items()
            if not isinstance(node, InputAttributeNode)
            for argument in sources(node)
        ]
        parts = [
            (numbers[node._dag_input_node], number)
            for node, number in numbers.items()
            if isinstance(node, InputAttributeNode)
        ]
        if not isinstance(dag, MultiOutputNode):
            nodes.append(_labelled(len(found), "MultiOutputNode"))
            edges.append((numbers[dag], len(found)))
        return cls(tuple(nodes), tuple(edges), tuple(parts))

    def to_text(self) -> str:
        """Lists of nodes and edges, and a drawing that reads from top to bottom."""
        arrows = ("--->", "+++>")
        lines = [
            "Nodes Information:",
            *(f'{node.number} [label="Task {node.number}  {node.line}"] ' for node in self.nodes),
            "",
            "Edges Information:",
            *(f"{source} {arrows[self.nodes[source].accelerator]} {target}" for source, target in self.edges),
            "",
            "Legend:",
            "+++> : Represents Accelerator-type data channels",
            "---> : Represents Shared Memory data channels",
            "",
            "Graph Built:",
            *_drawing(self.nodes, self.edges),
        ]
        return "\n".join(lines)

    def to_dot(self, channel_details: bool = False) -> str:
        """The graph in Graphviz's language; with `channel_details` edges say what travels on them."""
        actors = list(dict.fromkeys(node.actor for node in self.nodes if node.actor))
        lines = ["digraph compiled_graph {"]
        for node in self.nodes:
            label = _quoted("\n".join((f"Task {node.number}", *node.lines)))
            shape = "oval" if node.actor else "rectangle"
            fill = FILLS[actors.index(node.actor) % len(FILLS)] if node.actor else "lightgrey"
            lines.append(f'\t{node.number} [label={label} fillcolor="{fill}" shape={shape} style=filled]')
        for source, target in self.edges + self.parts:
            detail = f" [label={_quoted(self.nodes[source].hint)}]" if channel_details else ""
            lines.append(f"\t{source} -> {target}{detail}")
        return "\n".join([*lines, "}", ""])


def _connected(dag: DAGNode) -> list[DAGNode]:
    """All nodes of the graph: from the input breadth-first along edges in both directions, readers first."""
    waiting = deque([dag._find_root()])
    found: dict[DAGNode, None] = {}
    while waiting:
        node = waiting.popleft()
        if node not in found:
            found[node] = None
            waiting += node._downstream_nodes
            waiting += node._upstream_nodes
    return list(found)


def _node(number: int, node: DAGNode) -> Node:
    hint = type(node.type_hint).__name__
    if isinstance(node, InputAttributeNode):
        return _labelled(number, f"InputAttributeNode[{node.key}]", "InputAttributeNode", hint)
    if isinstance(node, FunctionNode):
        name = function_name(node)
        accelerator = node.type_hint.requires_accelerator()
        label = f"Function: {name}"
        return Node(number, (label,), label, name, f"function {number}", hint, accelerator)
    if not isinstance(node, ClassMethodNode):
        return _labelled(number, "InputNode" if isinstance(node, InputNode) else type(node).__name__, hint=hint)
    accelerator = node.type_hint.requires_accelerator()
    if node.is_class_method_output:
        label = f"ClassMethodOutputNode[{node.output_idx}]"
        return Node(number, (label,), label, f"Output[{node.output_idx}]", "", hint, accelerator)
    handle, method = node._get_actor_handle(), node.get_method_name()
    actor = handle._actor_id.hex() if isinstance(handle, ActorHandle) else "unknown"
    lines = (f"Actor: {class_name_of(handle)}", f"ID: {actor[:6]}...", f"Method: {method}")
    line = f"Actor: {actor[:6]}... Method: {method}"
    return Node(number, lines, line, f"Actor_{actor[:6]}:{method}", actor, hint, accelerator)


def _labelled(number: int, label: str, short: str = "", hint: str = "") -> Node:
    return Node(number, (label,), label, short or label, "", hint, False)


def _drawing(nodes: Sequence[Node], edges: Sequence[tuple[int, int]]) -> Iterator[str]:
    """One row for each layer of the graph, and between two rows one with the lines."""
    layer = _layers(nodes, edges)
    rows = [[node for node in nodes if layer[node.number] == row] for row in range(max(layer) + 1)]
    left = _left_ends(rows, edges)
    width = max(left.values()) + COLUMN
    for number, row in enumerate(rows):
        if number:
            lines = [" "] * width
            for source, target in edges:
                if layer[source] < number <= layer[target]:
                    lines[left[source]] = "|"
                if layer[target] == number:
                    _draw_turn(lines, left[source], left[target])
            yield "".join(lines).rstrip()
        text = ""
        for node in row:
            text = f"{text.ljust(left[node.number])}{node.number}:{node.short} "
        yield text.rstrip()


def _left_ends(rows: Sequence[Sequence[Node]], edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Where each node begins in its row: below the leftmost node that it reads, if that place is free."""
    left: dict[int, int] = {}
    for row in rows:
        free = 0
        for node in row:
            above = min((left[source] for source, target in edges if target == node.number), default=0)
            left[node.number] = max(free, above)
            free = left[node.number] + COLUMN
    return left


def _draw_turn(lines: list[str], source: int, target: int) -> None:
    """Lead an edge from the column of its source to that of its target."""
    for column in range(min(source, target) + 1, max(source, target)):
        if lines[column] == " ":
            lines[column] = "-"
    if target > source:
        lines[target - 1] = ">"
    elif target < source:
        lines[target + 1] = "<"
    lines[target] = "|"


def _layers(nodes: Sequence[Node], edges: Sequence[tuple[int, int]]) -> list[int]:
    """For each node the length of the longest path to it."""
    layer = [0] * len(nodes)
    readers: dict[int, list[int]] = {node.number: [] for node in nodes}
    missing = [0] * len(nodes)
    for source, target in edges:
        readers[source].append(target)
        missing[target] += 1
    ready = deque(node.number for node in nodes if not missing[node.number])
    while ready:
        source = ready.popleft()
        for target in readers[source]:
            layer[target] = max(layer[target], layer[source] + 1)
            missing[target] -= 1
            if not missing[target]:
                ready.append(target)
    return layer


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
