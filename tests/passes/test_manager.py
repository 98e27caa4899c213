"""The wrapper around passes: levels, verification, records, dumps, and texts of earlier states."""

from dataclasses import dataclass

import pytest

from cgc.errors import IRVerifyError, PassError
from cgc.ir import CallOp, GraphOp, Unit, parse_module
from cgc.passes.base import Pass, PassContext
from cgc.passes.manager import DUMP_VARIABLE, PassManager
from cgc.passes.registry import passes_of

FRONT = "verify-graph,infer-types,place-devices"


@dataclass(frozen=True)
class CountCalls(Pass):
    """Counts, and says so."""

    name = "count-calls"
    accepts = ("graph",)

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        for operation in graph.walk():
            if isinstance(operation, CallOp):
                context.count("calls")
                context.remark("Seen", f"a call of {operation.method}", "here.py:1")


@dataclass(frozen=True)
class BreakGraph(Pass):
    """Leaves a module that does not verify."""

    name = "break-graph"
    accepts = ("graph",)

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        first = next(op for op in graph.body.block.ops if op.name == "cgc.actor")
        graph.body.block.erase_op(first)


def test_records_say_what_a_pass_did(graph):
    result = PassManager([CountCalls()]).run(graph("chain"))
    (record,) = result.records
    assert record.statistics == {"calls": 3}
    assert [str(remark) for remark in result.remarks] == ["here.py:1: Seen: a call of fwd"] * 3
    assert record.operations == sum(1 for _ in result.unit.module.walk())
    assert record.seconds > 0
    assert record.verify_seconds > 0
    assert "count-calls" in result.timing_table()


def test_a_pass_that_breaks_the_ir_is_named(graph):
    with pytest.raises(PassError, match="break-graph: left IR that does not verify, which is a defect of the pass"):
        PassManager([BreakGraph()]).run(graph("echo"))


def test_verification_can_be_switched_off(graph):
    result = PassManager([BreakGraph()], verify_each=False).run(graph("echo"))
    assert result.records[0].verify_seconds < result.records[0].seconds + 1
    assert "@driver driver" not in result.text()


def test_input_that_does_not_verify_is_an_error_before_any_pass():
    unit = Unit(parse_module("cgc.graph @g level = graph { }"))
    with pytest.raises(IRVerifyError, match="there is no driver"):
        PassManager([CountCalls()]).run(unit)


def test_a_missing_pass_is_an_error_with_the_remedy(graph):
    with pytest.raises(
        PassError, match=r"pair-comm: works on level placed, but @chain is at level graph; run place-dev"
    ):
        PassManager(passes_of("pair-comm")).run(graph("chain"))


def test_a_level_that_lies_behind_is_an_error(graph):
    unit = graph("chain")
    PassManager(passes_of(f"{FRONT},pair-comm")).run(unit)
    with pytest.raises(PassError, match="infer-types: works on level graph, but @chain is at level scheduled"):
        PassManager(passes_of("infer-types")).run(unit)


def test_text_of_earlier_states(graph):
    result = PassManager(passes_of(f"{FRONT},pair-comm")).run(graph("chain"))
    assert "level = placed" in result.text(after="place-devices")
    assert "level = graph" in result.text(after="import")
    assert result.text(after="pair-comm") == result.text()
    with pytest.raises(PassError, match=r"did you mean 'pair-comm'\?\); what ran: import, verify-graph"):
        result.text(after="pair-com")


def test_text_of_earlier_states_that_were_not_kept(graph):
    result = PassManager(passes_of(FRONT), keep_initial=False).run(graph("chain"))
    with pytest.raises(PassError, match="keep_initial=True"):
        result.text(after="import")


def test_numbered_dumps(graph, tmp_path, monkeypatch):
    monkeypatch.setenv(DUMP_VARIABLE, str(tmp_path / "dumps"))
    result = PassManager(passes_of(FRONT)).run(graph("chain"))
    dumped = sorted(path.name for path in (tmp_path / "dumps").iterdir())
    assert dumped == ["00_import.mlir", "01_verify-graph.mlir", "02_infer-types.mlir", "03_place-devices.mlir"]
    assert (tmp_path / "dumps" / dumped[-1]).read_text() == result.text()


def test_observers_see_every_state(graph):
    seen = []
    manager = PassManager(passes_of(FRONT), observers=[lambda number, name, unit, record: seen.append((number, name))])
    manager.run(graph("chain"))
    assert seen == [(0, "import"), (1, "verify-graph"), (2, "infer-types"), (3, "place-devices")]
