"""
The pass manager: the one wrapper around every pass.

It checks the level that a pass accepts, runs it, verifies the result, takes time and counts operations, and writes
the numbered dumps. All that tools show about passes comes from the records that it keeps:

    result = PassManager(passes_of("infer-types,place-devices")).run(unit)
    print(result.text(after="infer-types"))
    print(result.timing_table())
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cgc.errors import IRVerifyError, PassError, did_you_mean
from cgc.ir import GraphOp, Unit, graphs_of, print_module, verify_module
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.expected import UNKNOWN_TIME
from cgc.passes.base import Pass, PassContext, Remark
from cgc.passes.registry import PASSES, pass_class

VERIFY_LIMIT = 10_000
"""Modules of fewer operations are verified after each pass, and kept as they were imported, unless told otherwise."""

DUMP_VARIABLE = "CGC_DUMP"
"""Environment variable that names a directory for `{nn}_{pass}.mlir` files."""

IMPORTED = "import"
"""Name of the state before the first pass."""


@dataclass(frozen=True, slots=True)
class PassRecord:
    """
    What one pass did.

    Attributes:
        name: Of the pass.
        seconds: That it took; without verification.
        verify_seconds: That verification took afterwards; 0 if it was off.
        operations: In the module afterwards.
        changed: Whether it has changed the IR, as it says itself.
        remarks: That it made.
        statistics: That it counted.
    """

    name: str
    seconds: float
    verify_seconds: float
    operations: int
    changed: bool
    remarks: tuple[Remark, ...] = ()
    statistics: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class PipelineResult:
    """
    A module that went through the passes, and how.

    Attributes:
        unit: The final module and its constants.
        passes: That ran.
        records: One per pass.
        products: What passes made besides IR, such as `programs`.
        cost: The cost model that they decided by.
    """

    unit: Unit
    passes: Sequence[Pass]
    records: list[PassRecord] = field(default_factory=list)
    products: dict[str, object] = field(default_factory=dict)
    initial: Unit | None = None
    cost: CostModel = field(default_factory=CostModel)

    @property
    def remarks(self) -> list[Remark]:
        """All remarks, in the order in which they were made."""
        return [remark for record in self.records for remark in record.remarks]

    @property
    def warnings(self) -> list[str]:
        """What users should hear of though nothing failed: calls of which no time is known; each text once."""
        return list(dict.fromkeys(remark.text for remark in self.remarks if remark.kind == UNKNOWN_TIME))

    def text(self, after: str | None = None) -> str:
        """
        The IR as text: the final one, or as it was after the pass of that name (`"import"`: before the first).

        Passes are deterministic, so earlier states are made again when somebody asks for them instead of being kept.

        Raises:
            PassError: No such pass ran.
        """
        if after is None:
            return print_module(self.unit.module)
        names = [IMPORTED, *(p.name for p in self.passes)]
        if after not in names:
            raise PassError(f"did not run{did_you_mean(after, names)}; what ran: {', '.join(names)}", after)
        if self.initial is None:
            raise PassError("earlier states were not kept: compile with keep_initial=True", after)
        # The last run of that name, the one whose effect is in the final module.
        place = len(names) - 1 - names[::-1].index(after)
        again = PassManager(self.passes[:place], verify_each=False, keep_initial=False, dump_dir="", cost=self.cost)
        return print_module(again.run(self.initial.clone()).unit.module)

    def timing_table(self) -> str:
        """One line a pass: milliseconds of the pass and of its verification, operations, microseconds an operation."""
        lines = [f"{'pass':<18} {'ms':>9} {'verify ms':>10} {'ops':>8} {'µs/op':>8}"]
        for r in self.records:
            each = r.seconds * 1e6 / max(r.operations, 1)
            lines.append(
                f"{r.name:<18} {r.seconds * 1e3:>9.2f} {r.verify_seconds * 1e3:>10.2f} {r.operations:>8} {each:>8.1f}"
            )
        seconds = sum(r.seconds for r in self.records)
        verify_seconds = sum(r.verify_seconds for r in self.records)
        lines.append(f"{'total':<18} {seconds * 1e3:>9.2f} {verify_seconds * 1e3:>10.2f}")
        return "\n".join(lines)


Observer = Callable[[int, str, Unit, PassRecord | None], None]
"""Called with the import (0, `"import"`, unit, None) and after each pass (number from 1, name, unit, its record)."""


class PassManager:
    """
    Runs passes in order over a unit, in place.

    Args:
        passes: What to run.
        verify_each: Whether to verify after each pass; None for "if the module is small".
        dump_dir: Where to write numbered dumps; None for what `CGC_DUMP` says, empty for nowhere.
        keep_initial: Whether `PipelineResult.text(after=...)` can be asked for later; None for "if it is small".
        observers: To be called between passes; they may look at the unit but not change it.
        cost: For passes whose options name no profile.
    """

    def __init__(
        self,
        passes: Sequence[Pass],
        *,
        verify_each: bool | None = None,
        dump_dir: str | None = None,
        keep_initial: bool | None = None,
        observers: Sequence[Observer] = (),
        cost: CostModel | None = None,
    ) -> None:
        self.passes = tuple(passes)
        self.verify_each = verify_each
        self.keep_initial = keep_initial
        self.cost = cost or CostModel()
        directory = os.environ.get(DUMP_VARIABLE, "") if dump_dir is None else dump_dir
        self.observers: list[Observer] = [*observers, NumberedDumps(Path(directory))] if directory else [*observers]

    def run(self, unit: Unit) -> PipelineResult:
        """
        Run all passes.

        Raises:
            CgcError: From a pass, or because a pass left a module that does not verify.
        """
        with _paused_collector():
            return self._run(unit)

    def _run(self, unit: Unit) -> PipelineResult:
        count = _count_operations(unit)
        small = count < VERIFY_LIMIT
        verify_each = small if self.verify_each is None else self.verify_each
        result = PipelineResult(unit, self.passes, cost=self.cost)
        if small if self.keep_initial is None else self.keep_initial:
            result.initial = unit.clone()
        if verify_each:
            self._verify_input(unit)
        self._notify(0, IMPORTED, unit, None)
        for number, current in enumerate(self.passes, start=1):
            result.records.append(self._run_one(current, result, verify_each, count))
            count = result.records[-1].operations
            self._notify(number, current.name, unit, result.records[-1])
        return result

    def _notify(self, number: int, name: str, unit: Unit, record: PassRecord | None) -> None:
        for observer in self.observers:
            observer(number, name, unit, record)

    def _verify_input(self, unit: Unit) -> None:
        try:
            verify_module(unit.module)
        except IRVerifyError:
            for graph in graphs_of(unit.module):
                for asked in self.passes:
                    if graph.level.data in asked.accepts:
                        asked.explain(graph)
            raise

    def _run_one(self, current: Pass, result: PipelineResult, verify_each: bool, count: int) -> PassRecord:
        context = PassContext(result.unit.constants, self.cost)
        changed = False
        started = time.perf_counter()
        for graph in graphs_of(result.unit.module):
            if _needs_run(current, graph):
                context.changed = True
                current.apply(graph, context)
                changed = changed or context.changed
                assert current.produces in (None, graph.level.data), f"{current.name} forgot to set the level"
        ended = time.perf_counter()
        if verify_each and changed:
            _verify_after(current, result.unit)
        verified = time.perf_counter()
        result.products.update(context.products)
        return PassRecord(
            name=current.name,
            seconds=ended - started,
            verify_seconds=verified - ended,
            operations=_count_operations(result.unit) if changed else count,
            changed=changed,
            remarks=tuple(context.remarks),
            statistics=context.statistics,
        )


class NumberedDumps:
    """An observer that writes `{nn}_{pass}.mlir` files, made to be compared with each other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, number: int, name: str, unit: Unit, record: PassRecord | None) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / f"{number:02}_{name}.mlir").write_text(print_module(unit.module))


@contextmanager
def _paused_collector() -> Iterator[None]:
    """
    Keep Python's cyclic garbage collector out of the compiler's way.

    IR is all cycles and nearly all alive, so that the collector walks it again and again and frees nothing: with it,
    the time of an operation doubles between 1,000 and 80,000 of them.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _needs_run(current: Pass, graph: GraphOp) -> bool:
    """False where the pass has been run before; an error where a pass is missing in between."""
    level = graph.level.data
    if level in current.accepts:
        return True
    if level == current.produces:
        return False
    accepts = " or ".join(current.accepts)
    makers = [name for name in PASSES if pass_class(name).produces in current.accepts]
    remedy = f"run {makers[0]} before it" if makers and level == "graph" else "start from an earlier level"
    raise PassError(
        f"works on level {accepts}, but @{graph.sym_name.data} is at level {level}", current.name, "", remedy
    )


def _verify_after(current: Pass, unit: Unit) -> None:
    try:
        verify_module(unit.module)
    except IRVerifyError as error:
        message = f"left IR that does not verify, which is a defect of the pass: {error}"
        raise PassError(message, current.name, error.operation) from error


def _count_operations(unit: Unit) -> int:
    return sum(1 for _ in unit.module.walk())
