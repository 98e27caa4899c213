"""What `cgc-dump` prints, or writes into files."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from cgc.dump.command_line import UsageError
from cgc.dump.states import State
from cgc.ir import graphs_of
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.plan import Plan, plan_of
from cgc.passes.manager import IMPORTED, PipelineResult
from cgc.passes.registry import PASSES, options_of, pass_class


def emit(kind: str, result: PipelineResult, states: list[State], options: argparse.Namespace) -> None:
    """Print or write one of the `EMISSIONS`. Raises UsageError where a pass that it needs did not run."""
    if kind == "ir":
        _emit_ir(states, options)
    else:
        name, text = _EMITTERS[kind](result, states, result.cost)
        write(text, name, options.output)


def passes_table() -> str:
    """Every pass with its levels, its options and its purpose."""
    lines = []
    for name in PASSES:
        found = pass_class(name)
        module = importlib.import_module(found.__module__)
        purpose = (module.__doc__ or "").strip().partition("\n")[0].partition(": ")[2]
        levels = "|".join(found.accepts) + (f" -> {found.produces}" if found.produces else "")
        lines.append(f"{name:<18} {levels:<24} {purpose}")
        lines += [f"{'':<18}   {{{option}={default!r}}}" for option, (_, default) in options_of(found).items()]
    return "\n".join(lines)


def status_table() -> str:
    """What the running graphs of this user on this machine are doing."""
    from cgc.runtime.inspection import live_graphs

    return "\n".join(map(str, live_graphs())) or "no compiled graph of this user runs on this machine"


def write(text: str, name: str, output: str | None) -> None:
    """To the file `name` in the directory `output`, or to standard output; raises UsageError if that cannot be done."""
    text = text if text.endswith("\n") else f"{text}\n"
    where = "standard output" if output is None else str(Path(output, name))
    if output is None and sys.stdout is None:
        raise UsageError("cannot write standard output: it is closed")
    try:
        if output is None:
            print(text, end="", flush=True)
            return
        Path(output).mkdir(parents=True, exist_ok=True)
        Path(where).write_text(text, encoding="utf-8")
    except BrokenPipeError:
        raise
    except FileExistsError as error:
        raise UsageError(f"cannot write {where}: {output} is no directory") from error
    except OSError as error:
        if output is None:
            sys.stdout = None  # Python would try again at its end, and fail with a trace.
        raise UsageError(f"cannot write {where}: {error.strerror}") from error


def _emit_ir(states: list[State], options: argparse.Namespace) -> None:
    every = options.pass_name == "all"
    for state in states if every else [states[-2] if options.before else states[-1]]:
        before = states[max(state.number - 1, 0)] if options.pass_name is not None else states[0]
        if options.output is not None:
            text = _diff(before, state) if options.diff else state.text
            write(text, f"{state.number:02}_{state.name}.{'diff' if options.diff else 'mlir'}", options.output)
            continue
        same = state.number > 0 and state.text == before.text
        text = "// unchanged\n" if same and (every or options.diff) else state.text
        if options.diff and not same:
            text = _diff(before, state)
        write(_described(state, text, alone=not every), "", None)


def _described(state: State, text: str, alone: bool) -> str:
    """The text below comments that say which state it is, and what the pass had to tell."""
    lines = [] if alone else [f"// ----- {state.name if state.number == 0 else 'after ' + state.name}"]
    if state.record is not None:
        lines += [f"// {name}: {value:g}" for name, value in state.record.statistics.items()]
        lines += [f"// {remark}" for remark in state.record.remarks]
    return "".join(f"{line}\n" for line in lines) + text


def _diff(before: State, after: State) -> str:
    lines = difflib.unified_diff(
        before.text.splitlines(), after.text.splitlines(), before.name, after.name, lineterm="", n=2
    )
    return "".join(f"{line}\n" for line in lines)


def _programs(result: PipelineResult, states: list[State], cost: CostModel) -> tuple[str, str]:
    programs = result.products.get("programs")
    if not isinstance(programs, dict):
        raise UsageError("--emit programs needs the pass emit-programs to run")
    return "programs.txt", "\n\n".join(str(program) for program in programs.values())


def _dot(result: PipelineResult, states: list[State], cost: CostModel) -> tuple[str, str]:
    from cgc.backend.graphviz import to_dot

    return "schedule.dot", to_dot(result.unit.module, cost)


def _svg(result: PipelineResult, states: list[State], cost: CostModel) -> tuple[str, str]:
    from cgc.backend.drawing import draw
    from cgc.backend.graphviz import to_dot

    try:
        return "schedule.svg", draw(to_dot(result.unit.module, cost), "svg").decode()
    except FileNotFoundError as error:
        raise UsageError(f"--emit svg: {error}; --emit dot does not need it") from None
    except ValueError as error:
        raise UsageError(f"--emit svg: {error}") from None


def _plan(result: PipelineResult, states: list[State], cost: CostModel) -> tuple[str, str]:
    if any(graph.level.data != "allocated" for graph in graphs_of(result.unit.module)):
        raise UsageError("--emit plan needs the pass allocate-channels to run")
    return "plan.txt", "\n\n".join(map(str, _plans(result)))


def _ascii(result: PipelineResult, states: list[State], cost: CostModel) -> tuple[str, str]:
    from cgc.backend.ascii import to_ascii

    return "schedule.txt", to_ascii(result.unit.module, cost)


def _json(result: PipelineResult, states: list[State], cost: CostModel) -> tuple[str, str]:
    passes = [
        {
            "name": state.name,
            "seconds": state.record.seconds,
            "verify_seconds": state.record.verify_seconds,
            "operations": state.record.operations,
            "statistics": state.record.statistics,
            "remarks": [str(remark) for remark in state.record.remarks],
            "ir": state.text,
        }
        for state in states
        if state.record is not None
    ]
    content: dict[str, object] = {IMPORTED: states[0].text, "passes": passes}
    if all(graph.level.data == "allocated" for graph in graphs_of(result.unit.module)):
        content["plans"] = [plan.as_json() for plan in _plans(result)]
    return "compile.json", json.dumps(content, indent=2)


def _plans(result: PipelineResult) -> list[Plan]:
    return [plan_of(graph, result.cost) for graph in graphs_of(result.unit.module)]


_EMITTERS: dict[str, Callable[[PipelineResult, list[State], CostModel], tuple[str, str]]] = {
    "programs": _programs,
    "dot": _dot,
    "svg": _svg,
    "plan": _plan,
    "ascii": _ascii,
    "json": _json,
}
