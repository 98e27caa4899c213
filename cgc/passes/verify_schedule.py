"""
verify-schedule: proves that the programs never deadlock, or shows how they do.

Requires: level `scheduled` or `allocated`.
Guarantees: the simulator ran the programs to their end, several executions pipelined, with the semantics of the
runtime: both ends of a rendezvous wait for each other, a writer waits for a free slot, the driver submits up to the
in-flight limit before it gets. Otherwise a `DeadlockError` shows a shortest cycle of waiting operations with their
locations, and a step-by-actor grid. Changes nothing.

The verifier of the IR checks the global order, which is enough for a proof; this pass does not look at it, so that it
also judges programs that were edited by hand and finds defects of passes that keep the numbers but not the meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

from cgc.ir import GraphOp
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.deadlock import deadlock_error
from cgc.passes.analysis.extract import inflight_of, schedule_of
from cgc.passes.analysis.simulate import Simulation, simulate
from cgc.passes.base import Pass, PassContext

FEW = 2
"""Slots and executions in flight of the first simulation; more of both never turn a run that ends into one that does
not, so that most graphs need no other."""


def run(graph: GraphOp, cost: CostModel, inflight: int, most_slots: int | None = None) -> Simulation:
    """Simulate so many executions that every slot is used again."""
    return simulate(schedule_of(graph, cost, inflight=inflight, most_slots=most_slots), executions=inflight + 1)


def verify(graph: GraphOp, cost: CostModel) -> Simulation:
    """
    Simulate the graph within its in-flight limit; returns the simulation that ended.

    Raises:
        DeadlockError: It does not end.
    """
    inflight = inflight_of(graph)
    simulation = run(graph, cost, min(inflight, FEW), most_slots=FEW)
    if simulation.stuck:
        simulation = run(graph, cost, inflight)
    error = deadlock_error(simulation)
    if error is not None:
        raise error
    return simulation


@dataclass(frozen=True)
class VerifySchedulePass(Pass):
    """See the top of this file."""

    name = "verify-schedule"
    accepts = ("scheduled", "allocated")

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        simulation = verify(graph, CostModel())
        context.count("simulated-executions", simulation.executions)

    def explain(self, graph: GraphOp) -> None:
        """A cycle says more than the first number out of order."""
        verify(graph, CostModel())
