"""The passes that `cgc-dump` runs, and the IR at every moment between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cgc.errors import CgcError
from cgc.ir import Unit, graphs_of, print_module
from cgc.passes.analysis.cost import CostModel
from cgc.passes.base import Pass
from cgc.passes.manager import PassManager, PassRecord, PipelineResult
from cgc.passes.registry import PASSES, pass_class


@dataclass(slots=True)
class State:
    """The IR at one moment: after pass number `number`, or as it came in (0)."""

    number: int
    name: str
    text: str
    record: PassRecord | None = None


def default_passes(unit: Unit) -> list[Pass]:
    """
    The default pipeline, from the first pass on that takes the level at which the unit is.

    Raises:
        CgcError: It has graphs of several levels, which no pass takes together.
    """
    passes = [pass_class(name)() for name in PASSES]
    levels = {graph.sym_name.data: graph.level.data for graph in graphs_of(unit.module)}
    first = next((i for i, p in enumerate(passes) if set(levels.values()) <= set(p.accepts)), None)
    if first is None:
        found = ", ".join(f"@{name} at {level}" for name, level in levels.items())
        raise CgcError(f"no pass takes graphs of several levels together: {found}; give each its own file")
    return passes[first:]


def states_of(
    unit: Unit,
    passes: Sequence[Pass],
    *,
    verify_each: bool | None = None,
    locations: bool = True,
    cost: CostModel | None = None,
) -> tuple[PipelineResult, list[State]]:
    """Run the passes; returns the result and the IR at every moment."""
    recorder = _Recorder(locations)
    manager = PassManager(passes, verify_each=verify_each, keep_initial=False, observers=[recorder], cost=cost)
    return manager.run(unit), recorder.states


@dataclass(slots=True)
class _Recorder:
    """An observer that keeps the IR's text at every moment."""

    locations: bool
    states: list[State] = field(default_factory=list)

    def __call__(self, number: int, name: str, unit: Unit, record: PassRecord | None) -> None:
        self.states.append(State(number, name, print_module(unit.module, locations=self.locations), record))
