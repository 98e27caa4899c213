"""
overlap-comm: communication runs beside computation where that makes an execution shorter.

Requires: level `scheduled`.
Guarantees: level `scheduled`, no longer predicted makespan than before. Messages through host memory stay as they are:
the actor itself copies them, so that there is nothing to overlap (`WhyNoOverlap`).
"""

from __future__ import annotations

from dataclasses import dataclass

from cgc.ir import GraphOp, RecvOp
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.simulate import simulate
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import communication, programs_of

HOST_TRANSPORTS = ("shm", "local")


@dataclass(frozen=True)
class OverlapCommPass(Pass):
    """See the top of this file. `cost-model` is the file of a profile; without one, all calls take equally long."""

    name = "overlap-comm"
    accepts = ("scheduled",)
    cost_model: str = ""

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        context.keep()
        cost = CostModel.load(self.cost_model, self.name)
        for program in programs_of(graph).values():
            for operation in communication(program):
                if isinstance(operation, RecvOp) and operation.transport.kind.data in HOST_TRANSPORTS:
                    context.count("host-recvs")
        if context.statistics.get("host-recvs"):
            context.remark("WhyNoOverlap", "shm: the actor itself copies messages through host memory")
        context.count("makespan-us", simulate(schedule_of(graph, cost)).makespan)
