"""What a compiled graph is expected to cost: time, work, traffic and memory, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cgc.ir import GraphOp, WriteOp
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.expected import value_bytes
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.graph_view import channels_of, communication, programs_of


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Predictions for one execution.

    Attributes:
        makespan_us: Microseconds from the input to the last output.
        busy_us: Per participant, how long its program works; waiting and streams excluded.
        traffic_bytes: Per (writer, reader, transport), what goes over it.
        channel_bytes: Shared memory of all slots together, before any grows.
        messages: How many messages are written.
    """

    makespan_us: float
    busy_us: Mapping[str, float]
    traffic_bytes: Mapping[tuple[str, str, str], int]
    channel_bytes: int
    messages: int

    def __str__(self) -> str:
        lines = [
            f"makespan        {self.makespan_us:>12.1f} us",
            f"channel memory  {self.channel_bytes:>12,} bytes in slots",
            f"messages        {self.messages:>12,}",
        ]
        for name, us in self.busy_us.items():
            share = us / self.makespan_us if self.makespan_us else 0.0
            lines.append(f"busy @{name:<10} {us:>11.1f} us  {share:>4.0%}")
        for (writer, reader, transport), nbytes in self.traffic_bytes.items():
            lines.append(f"@{writer} -> @{reader} {transport}: {nbytes:,} bytes")
        return "\n".join(lines)


def plan_of(graph: GraphOp, cost: CostModel) -> Plan:
    """The plan of a graph of level `allocated`."""
    simulation = simulate(schedule_of(graph, cost))
    programs, channels = programs_of(graph), channels_of(graph)
    busy = dict.fromkeys(programs, 0.0)
    for index, process in enumerate(simulation.schedule.processes):
        name, _, part = process.name.removeprefix("@").partition("/")
        if not part.startswith("stream"):
            busy[name] += simulation.busy(index)
    traffic: dict[tuple[str, str, str], int] = {}
    messages = 0
    for writer, program in programs.items():
        for operation in communication(program):
            if not isinstance(operation, WriteOp):
                continue
            messages += 1
            channel = channels[operation.channel_name]
            nbytes = sum(value_bytes(value.type, cost) for value in operation.operands)
            for reader in channel.reader_names:
                key = (writer, reader, channel.transport.kind.data)
                traffic[key] = traffic.get(key, 0) + nbytes
    return Plan(
        makespan_us=simulation.makespan,
        busy_us=busy,
        traffic_bytes=traffic,
        channel_bytes=sum(channel.slots.data * channel.slot_bytes.data for channel in channels.values()),
        messages=messages,
    )
