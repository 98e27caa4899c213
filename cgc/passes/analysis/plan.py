"""
What a compiled graph is expected to cost: time, work, traffic and memory, without running it.

    print(cgc.plan(dag, "cluster.toml", "profile.toml"))
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cgc.ir import ActorOp, CollectiveOp, GraphOp, WriteOp
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.expected import message_bytes, value_bytes
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.graph_view import actors_of, channels_of, communication, programs_of

SHOWN = 20
"""Rows of a table as text; the others are counted."""

Traffic = Mapping[tuple[str, str, str], int]
"""Bytes of one execution by (from, to, transport)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Predictions for one execution; `print` it for tables.

    Attributes:
        makespan_us: Microseconds from the input to the last output.
        busy_us: Per participant, how long its program works; waiting and streams excluded.
        traffic_bytes: What goes from one participant to another.
        link_bytes: The same from node to node; what stays on a node goes from it to itself.
        channel_bytes: Shared memory of all slots together at the start.
        peak_bytes: The same when every slot has a message in it, as large as expected.
        messages: How many messages are written.
    """

    makespan_us: float
    busy_us: Mapping[str, float]
    traffic_bytes: Traffic
    link_bytes: Traffic
    channel_bytes: int
    peak_bytes: int
    messages: int

    @property
    def period_us(self) -> float:
        """Microseconds between two results when executions follow each other without a gap: the busiest decides."""
        return max(self.busy_us.values(), default=0.0)

    def as_json(self) -> dict[str, object]:
        """The same as what JSON has: traffic is a list of `from`, `to`, `transport` and `bytes`."""
        content: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("traffic_bytes", "link_bytes"):
            content[name] = [
                {"from": source, "to": target, "transport": transport, "bytes": nbytes}
                for (source, target, transport), nbytes in getattr(self, name).items()
            ]
        return {**content, "period_us": self.period_us}

    def __str__(self) -> str:
        lines = [
            f"one execution    {self.makespan_us:>14,.1f} µs",
            f"one after another{self.period_us:>14,.1f} µs at least, each (the busiest participant)",
            f"messages         {self.messages:>14,}",
            f"channels         {self.channel_bytes:>14,} bytes at the start, {self.peak_bytes:,} when full",
        ]
        busy = [(f"@{name}", f"{us:,.1f}", f"{self._share(us):.0%}") for name, us in _largest(self.busy_us)]
        tables = [_table(("participant", "busy µs", "of the time"), busy, len(self.busy_us))]
        for title, traffic, mark in (("to", self.traffic_bytes, "@"), ("to node", self.link_bytes, "")):
            rows = [
                (f"{mark}{source}", f"{mark}{target}", transport, f"{nbytes:,}")
                for (source, target, transport), nbytes in _largest(traffic)
            ]
            heads = (title.replace("to", "from"), title, "transport", "bytes")
            tables.append(_table(heads, rows, len(traffic)))
        return "\n".join([*lines, *tables])

    def _share(self, us: float) -> float:
        return us / self.makespan_us if self.makespan_us else 0.0


def plan_of(graph: GraphOp, cost: CostModel) -> Plan:
    """The plan of a graph of level `allocated`."""
    simulation = simulate(schedule_of(graph, cost))
    busy = dict.fromkeys(programs_of(graph), 0.0)
    for index, process in enumerate(simulation.schedule.processes):
        if not process.name.startswith(f"@{process.actor}/stream"):
            busy[process.actor] += simulation.busy(index)
    actors, channels = actors_of(graph), channels_of(graph)
    traffic: dict[tuple[str, str, str], int] = {}
    largest = {name: channel.slot_bytes.data for name, channel in channels.items()}
    messages = 0
    for writer, program in programs_of(graph).items():
        for operation in communication(program):
            if isinstance(operation, CollectiveOp):
                _add(traffic, _of_collective(writer, operation, cost))
            if not isinstance(operation, WriteOp):
                continue
            messages += 1
            channel = channels[operation.channel_name]
            nbytes = message_bytes(channel.transport, (value.type for value in operation.operands), cost)
            largest[operation.channel_name] = max(largest[operation.channel_name], nbytes)
            transport = channel.transport.kind.data
            _add(traffic, {(writer, reader, transport): nbytes for reader in channel.reader_names})
    return Plan(
        makespan_us=simulation.makespan,
        busy_us=busy,
        traffic_bytes=traffic,
        link_bytes=_by_node(traffic, actors),
        channel_bytes=sum(channel.slots.data * channel.slot_bytes.data for channel in channels.values()),
        peak_bytes=sum(channel.slots.data * largest[name] for name, channel in channels.items()),
        messages=messages,
    )


def _of_collective(actor: str, operation: CollectiveOp, cost: CostModel) -> Traffic:
    """
    What a participant of a collective sends: all to everybody through shared memory, where each writes once; else to
    the next one, as rings do that need the least traffic.
    """
    names = operation.participant_names
    nbytes = sum(value_bytes(value.type, cost) for value in operation.operands)
    if operation.transport.kind.data == "shm":
        return {(actor, other, "shm"): nbytes for other in names if other != actor}
    rounds = {"cgc.allreduce": 2 / len(names), "cgc.reduce_scatter": 1 / len(names)}.get(operation.name, 1)
    following = names[(names.index(actor) + 1) % len(names)]
    return {(actor, following, operation.transport.kind.data): round(nbytes * rounds * (len(names) - 1))}


def _add(traffic: dict[tuple[str, str, str], int], more: Traffic) -> None:
    for key, nbytes in more.items():
        traffic[key] = traffic.get(key, 0) + nbytes


def _by_node(traffic: Traffic, actors: Mapping[str, ActorOp]) -> Traffic:
    found: dict[tuple[str, str, str], int] = {}
    for (source, target, transport), nbytes in traffic.items():
        _add(found, {(actors[source].node.data, actors[target].node.data, transport): nbytes})
    return found


def _largest(figures: Mapping[Any, float]) -> list[tuple[Any, float]]:
    """The entries to show: all in their order if they are few, else the largest."""
    items = list(figures.items())
    return items if len(items) <= SHOWN else sorted(items, key=lambda item: -item[1])[:SHOWN]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], total: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(heads):
        is_name = number == 0 or head in ("to", "to node", "transport")
        table.add_column(head, justify="left" if is_name else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=200, color_system=None).print(table)
    lines = [line.rstrip()[1:] for line in text.getvalue().splitlines() if line.strip()]
    more = [f"… and {total - len(rows):,} more"] if total > len(rows) else []
    return "\n".join(["", *lines, *more])
