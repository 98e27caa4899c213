"""
From IR to Graphviz: one cluster per participant, its operations from top to bottom, messages as edges between them.

The colours are those of Okabe and Ito, which people with any colour vision can tell apart; kinds differ in shape and
text too. What lies on the longest path of one execution, as the cost model predicts it, has a thick outline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cgc.errors import PassError
from cgc.ir import ModuleOp, graphs_of
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.critical import critical_path
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.schedule import Kind, Schedule, Step
from cgc.passes.analysis.simulate import simulate

STYLES: dict[Kind, tuple[str, str, str]] = {
    Kind.COMPUTE: ("box", "#56B4E9", "call"),
    Kind.WRITE: ("invhouse", "#E69F00", "send or write"),
    Kind.READ: ("house", "#009E73", "recv or read"),
    Kind.MEET: ("hexagon", "#CC79A7", "meet (both ends wait)"),
}
"""Shape, fill colour and legend of each kind of step."""

CRITICAL = "#D55E00"


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
        lines += _clusters(schedule, set(critical_path(simulate(schedule))))
    return "\n".join([*lines, *_legend(), "}", ""])


def _clusters(schedule: Schedule, critical: set[tuple[int, int]]) -> Iterator[str]:
    for index, process in enumerate(schedule.processes):
        yield f"  subgraph cluster_{index} {{"
        yield f'    label={_quoted(process.name)}; style=rounded; color="#999999";'
        for number, step in enumerate(process.steps):
            yield f"    {_node(index, number)} [{_attributes(step, (index, number) in critical)}];"
        chain = " -> ".join(_node(index, number) for number in range(len(process.steps)))
        if len(process.steps) > 1:
            yield f'    {chain} [style=dotted, arrowhead=none, weight=20, color="#999999"];'
        yield "  }"
    yield from _messages(schedule, critical)
    for index, process in enumerate(schedule.processes):
        for number, step in enumerate(process.steps):
            for other, before in step.after:
                yield f"  {_node(other, before)} -> {_node(index, number)} [style=dashed, constraint=true];"


def _messages(schedule: Schedule, critical: set[tuple[int, int]]) -> Iterator[str]:
    """An edge from the writer's step to the step of each reader, matched by their order on the channel."""
    writes: dict[int, list[tuple[int, int]]] = {}
    reads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for index, process in enumerate(schedule.processes):
        for number, step in enumerate(process.steps):
            for channel in step.channels:
                ends = writes.setdefault(channel, []) if schedule.channels[channel].writer == index else None
                (reads.setdefault((channel, index), []) if ends is None else ends).append((index, number))
    for (channel, _), ends in reads.items():
        meets = any(schedule.processes[i].steps[n].kind is Kind.MEET for i, n in ends)
        for source, target in zip(writes.get(channel, ()), ends, strict=False):
            thick = f", penwidth=2.5, color={_quoted(CRITICAL)}" if {source, target} <= critical else ""
            both = ", dir=both" if meets else ""
            if meets:
                yield f"  {{ rank=same; {_node(*source)}; {_node(*target)} }}"
            name = schedule.channels[channel].name.removeprefix("@")
            yield f"  {_node(*source)} -> {_node(*target)} [label={_quoted(name)}{both}{thick}];"


def _attributes(step: Step, critical: bool) -> str:
    shape, colour, _ = STYLES[step.kind]
    parts = [f"label={_quoted(step.label)}", f"shape={shape}", f"fillcolor={_quoted(colour)}"]
    if critical:
        parts += [f"color={_quoted(CRITICAL)}", "penwidth=2.5"]
    if step.location:
        parts.append(f"tooltip={_quoted(step.location)}")
    return ", ".join(parts)


def _legend() -> Iterable[str]:
    yield "  subgraph cluster_legend {"
    yield '    label=legend; style=dashed; color="#999999"; fontsize=10;'
    for kind, (shape, colour, text) in STYLES.items():
        yield f"    legend_{kind.name} [label={_quoted(text)}, shape={shape}, fillcolor={_quoted(colour)}, fontsize=9];"
    path = 'label="longest path", shape=box, fillcolor=white, fontsize=9'
    yield f"    legend_critical [{path}, color={_quoted(CRITICAL)}, penwidth=2.5];"
    names = " -> ".join([*(f"legend_{kind.name}" for kind in STYLES), "legend_critical"])
    yield f"    {names} [style=invis];"
    yield "  }"


def _node(process: int, step: int) -> str:
    return f"p{process}s{step}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
