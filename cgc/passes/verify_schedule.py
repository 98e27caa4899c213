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

from cgc.errors import DeadlockError
from cgc.ir import GraphOp
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.deadlock import deadlock_error
from cgc.passes.analysis.extract import schedule_of
from cgc.passes.analysis.simulate import Simulation, simulate
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import channels_of, inflight_of

FEW = 2
"""Slots and executions in flight of a simulation that stands for all larger ones."""


def verify(graph: GraphOp, cost: CostModel) -> Simulation:
    """
    Simulate the graph within its in-flight limit; returns the simulation that ended.

    Where every buffered channel has a slot for each execution in flight, no writer ever waits: what waits does so
    within one execution, so that a few executions with few slots show all there is. Otherwise the ring that is too
    small has to be filled, with as many executions as it takes.

    Raises:
        DeadlockError: It does not end.
    """
    inflight = inflight_of(graph)
    simulation = None
    buffered = [channel for channel in channels_of(graph).values() if not channel.transport.is_rendezvous]
    if all(channel.slots.data >= inflight for channel in buffered):
        few = min(inflight, FEW)
        simulation = simulate(schedule_of(graph, cost, inflight=few, most_slots=FEW), executions=few + 1)
    if simulation is None or simulation.stuck:
        simulation = simulate(schedule_of(graph, cost, inflight=inflight), executions=inflight + 1)
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
        context.keep()
        simulation = verify(graph, CostModel())
        context.count("simulated-executions", simulation.executions)

    def explain(self, graph: GraphOp) -> None:
        """A cycle says more than the first number out of order; of what cannot run at all the verifier says enough."""
        try:
            verify(graph, CostModel())
        except DeadlockError:
            raise
        except Exception:
            return
