"""
emit-programs: the last pass; makes the programs that the runtime executes.

Requires: level `allocated`, verified by `verify-schedule`.
Guarantees: the product `programs`, a program per participant by symbol. Changes nothing in the IR.

The pass lives here and not in `cgc.passes`, because programs are the runtime's: passes know nothing of the runtime.
"""

from __future__ import annotations

from dataclasses import dataclass

from cgc.backend.programs import PASS_NAME, emit_programs
from cgc.ir import GraphOp
from cgc.passes.base import Pass, PassContext

PRODUCT = "programs"


@dataclass(frozen=True)
class EmitProgramsPass(Pass):
    """See the top of this file."""

    name = PASS_NAME
    accepts = ("allocated",)

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        context.keep()
        programs = emit_programs(graph, context.constants)
        context.products[PRODUCT] = programs
        for program in programs.values():
            context.count("operations", len(program.operations))
            context.count("registers", program.registers)
