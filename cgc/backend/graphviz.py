"""
From IR to Graphviz: one cluster per participant, its operations from top to bottom, messages as edges between them.

Streams, and the two halves of the driver, are lanes of their actor's cluster. The colours are those of Okabe and Ito,
which people with any colour vision can tell apart; kinds differ in shape and text too. What lies on the longest path of
one execution, as the cost model predicts it, has a thick outline and thick edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from cgc.errors import PassError
from cgc.ir import ModuleOp, graphs_of
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.critical import Place, critical_path
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.schedule import Kind, Process, Schedule, Step
from cgc.passes.analysis.simulate import simulate

STYLES: dict[str, tuple[str, str, str]] = {
    "call": ("box", "#56B4E9", "call, copy"),
    "write": ("invhouse", "#E69F00", "send or write"),
    "read": ("house", "#009E73", "recv or read"),
    "meet": ("hexagon", "#CC79A7", "meeting: both ends wait"),
    "instant": ("plaintext", "#FFFFFF", "takes no time: input, output, begin and wait for a stream"),
}
"""Shape, fill colour and legend of each kind of step."""

CRITICAL = "#D55E00"
LINE = "#999999"


def to_dot(module: ModuleOp, cost: CostModel | None = None) -> str:
    """
    The schedule of a module in Graphviz's language.

    Raises:
        PassError: The module is not scheduled yet.
    """
    lines = [
        "digraph schedule {",
        "  graph [rankdir=TB, newrank=true, nodesep=0.25, ranksep=0.3, fontname=Helvetica, labelloc=t];",
        '  node [fontname=Helvetica, fontsize=11, style=filled, height=0.3, margin="0.1,0.04"];',
        '  edge [fontname=Helvetica, fontsize=9, color="#333333"];',
    ]
    for graph in graphs_of(module):
        if graph.level.data not in ("scheduled", "allocated"):
            raise PassError(f"@{graph.sym_name.data} has no schedule yet", "graphviz", "", "run pair-comm before")
        schedule = schedule_of(graph, cost or CostModel())
        lines.append(f"  label={_quoted(f'{graph.sym_name.data}: {graph.level.data}')};")
        lines += _clusters(schedule, _Path(critical_path(simulate(schedule))))
    return "\n".join([*lines, *_legend(), "}", ""])


class _Path:
    """Which steps and which edges, in either direction, are on the longest path."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = set(places)
        self._edges = {*pairwise(places), *pairwise(reversed(places))}

    def edge(self, source: Place, target: Place) -> str:
        """Attributes of the edge."""
        return f', penwidth=2.5, color="{CRITICAL}"' if (source, target) in self._edges else ""


def _clusters(schedule: Schedule, path: _Path) -> Iterator[str]:
    lanes: dict[str, list[int]] = {}
    for index, process in enumerate(schedule.processes):
        if process.steps:
            lanes.setdefault(process.actor or process.name, []).append(index)
    for number, (actor, indices) in enumerate(lanes.items()):
        yield f"  subgraph cluster_{number} {{"
        yield f'    label={_quoted("@" + actor)}; style=rounded; color="{LINE}";'
        for index in indices:
            lane = schedule.processes[index].name.partition("/")[2] or "program"
            if len(indices) > 1:
                yield f'    subgraph cluster_{number}_{index} {{ label={_quoted(lane)}; style=dashed; color="{LINE}";'
            yield from _lane(index, schedule.processes[index], path)
            if len(indices) > 1:
                yield "    }"
        yield "  }"
    yield from _messages(schedule, path)
    for index, process in enumerate(schedule.processes):
        for number, step in enumerate(process.steps):
            for before in step.after:
                thick = path.edge(before, (index, number))
                yield f"  {_node(*before)} -> {_node(index, number)} [style=dashed{thick}];"


def _lane(index: int, process: Process, path: _Path) -> Iterator[str]:
    for number, step in enumerate(process.steps):
        yield f"    {_node(index, number)} [{_attributes(step, (index, number) in path.places)}];"
    for number in range(1, len(process.steps)):
        ends = (index, number - 1), (index, number)
        line = f'style=dotted, arrowhead=none, weight=20, color="{LINE}"{path.edge(*ends)}'
        yield f"    {_node(*ends[0])} -> {_node(*ends[1])} [{line}];"


def _messages(schedule: Schedule, path: _Path) -> Iterator[str]:
    """An edge from the writer's step to the step of each reader, matched by their order on the channel."""
    writes: dict[int, list[Place]] = {}
    reads: dict[tuple[int, int], list[Place]] = {}
    for index, process in enumerate(schedule.processes):
        for number, step in enumerate(process.steps):
            for channel in step.channels:
                ends = writes.setdefault(channel, []) if schedule.channels[channel].writer == index else None
                (reads.setdefault((channel, index), []) if ends is None else ends).append((index, number))
    for (channel, _), ends in reads.items():
        meets = any(schedule.processes[i].steps[n].kind is Kind.MEET for i, n in ends)
        for source, target in zip(writes.get(channel, ()), ends, strict=False):
            both = ", dir=both" if meets else ""
            if meets:
                yield f"  {{ rank=same; {_node(*source)}; {_node(*target)} }}"
            name = schedule.channels[channel].name.removeprefix("@")
            thick = path.edge(source, target)
            yield f"  {_node(*source)} -> {_node(*target)} [label={_quoted(name)}{both}{thick}];"


def _attributes(step: Step, critical: bool) -> str:
    shape, colour, _ = STYLES[_style(step)]
    parts = [f"label={_quoted(step.label)}", f"shape={shape}", f"fillcolor={_quoted(colour)}"]
    if critical:
        # Text alone has no outline to make thick.
        shaped = ["shape=box"] if shape == "plaintext" else []
        parts += [*shaped, f"color={_quoted(CRITICAL)}", "penwidth=2.5"]
    if step.location:
        parts.append(f"tooltip={_quoted(step.location)}")
    return ", ".join(parts)


def _style(step: Step) -> str:
    if step.kind is Kind.COMPUTE:
        return "call" if step.us > 0 else "instant"
    return step.kind.name.lower()


def _legend() -> Iterable[str]:
    """One node that is a table: nodes of their own would be pulled apart by the layout."""
    rows = [
        f'<tr><td bgcolor="{colour}" width="24"></td><td align="left">{text}</td></tr>'
        for _, colour, text in STYLES.values()
    ]
    rows.append(f'<tr><td border="2" color="{CRITICAL}"></td><td align="left">longest path, as predicted</td></tr>')
    table = '<table border="0" cellborder="0" cellspacing="3">' + "".join(rows) + "</table>"
    yield "  subgraph cluster_legend {"
    yield f'    label=legend; style=dashed; color="{LINE}"; fontsize=10;'
    yield f"    legend [shape=plaintext, style=solid, fontsize=9, label=<{table}>];"
    yield "  }"


def _node(process: int, step: int) -> str:
    return f"p{process}s{step}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
