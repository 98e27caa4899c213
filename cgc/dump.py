"""
`cgc-dump`: look at a graph on its way through the compiler. Needs no cluster.

    cgc-dump stages.py:build                         the final IR
    cgc-dump stages.py:build --pass pair-comm        after one pass (--before: before it)
    cgc-dump stages.py:build --pass all --diff       what each pass changed
    cgc-dump stages.py:build --emit programs         what the actors run
    cgc-dump stages.py:build --emit plan --topology cluster.toml --profile profile.toml
    cgc-dump --status                                what running graphs are doing
    cgc-dump placed.mlir --pass-pipeline 'pair-comm,verify-schedule'

Exit codes: 0; 1 if the graph, the IR, a topology or a profile is wrong; 2 if the command is.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import io
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from cgc.errors import CgcError, IRParseError, SourceError, did_you_mean
from cgc.ir import Topology, Unit, graphs_of, parse_module, place_actors, print_module
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.plan import Plan, plan_of
from cgc.passes.base import Pass
from cgc.passes.manager import IMPORTED, PassManager, PassRecord, PipelineResult
from cgc.passes.registry import PASSES, options_of, pass_class, passes_of, unknown_pass

EXAMPLES = __doc__.partition("\n\n")[2] if __doc__ else ""

EMISSIONS = ("ir", "programs", "dot", "svg", "ascii", "plan", "json")

SHELLS = ("bash", "zsh", "fish")

COMPILE_ERROR = 1
USAGE_ERROR = 2
INTERRUPTED = 130


class UsageError(Exception):
    """The command is wrong: exit code 2."""


@dataclass(slots=True)
class State:
    """The IR at one moment: after pass number `number`, or as it came in (0)."""

    number: int
    name: str
    text: str
    record: PassRecord | None = None


@dataclass(slots=True)
class _Recorder:
    """An observer that keeps the IR's text at every moment."""

    locations: bool
    states: list[State] = field(default_factory=list)

    def __call__(self, number: int, name: str, unit: Unit, record: PassRecord | None) -> None:
        self.states.append(State(number, name, print_module(unit.module, locations=self.locations), record))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # For terminals that have no µ.
    try:
        return _run(options)
    except UsageError as error:
        print(f"cgc-dump: {error}", file=sys.stderr)
        return USAGE_ERROR
    except CgcError as error:
        print(
            str(error) if isinstance(error, SourceError) else f"error: {str(error).removeprefix('error: ')}",
            file=sys.stderr,
        )
        return COMPILE_ERROR
    except KeyboardInterrupt:
        print("cgc-dump: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0


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


def load_unit(source: str) -> Unit:
    """
    The unit of `FILE.py:NAME`, `module:NAME`, an IR file, or `-` (IR from standard input).

    Raises:
        UsageError: There is no such thing.
        CgcError: It is no graph, or no IR.
    """
    if source == "-":
        return _parsed(0, "<stdin>")
    place, colon, name = source.rpartition(":")
    if colon and not Path(source).exists():
        if not place:
            raise UsageError(f"say where {name!r} is: FILE.py:NAME or module:NAME")
        if not name:
            raise UsageError(f"say what in {place} to compile: {place}:NAME")
        if not place.endswith(".py") and Path(place).is_file():
            raise UsageError(f"{place} is no Python file: without :{name} it is read as IR")
        return _unit_of_object(_module(place), name, source)
    if source.endswith(".py"):
        raise UsageError(f"say what in {source} to compile: {source}:NAME{_names_in(_module(source))}")
    return _parsed(source, source)


def _parsed(file: str | int, name: str) -> Unit:
    """The unit of an IR file, or of a file descriptor."""
    try:
        with open(file, encoding="utf-8-sig", closefd=isinstance(file, str)) as opened:
            text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"cannot read {name!r}: {reason}") from error
    return Unit(parse_module(text, name))


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


def _run(options: argparse.Namespace) -> int:
    if options.list_passes or options.status or options.print_completion is not None:
        told = passes_table() if options.list_passes else _status() if options.status else None
        _write(completion(options.print_completion) if told is None else told, "", None)
        return 0
    for option, value in (("-o", options.output), ("--topology", options.topology), ("--profile", options.profile)):
        if value == "":
            raise UsageError(f"{option} needs a name, got an empty one")
    if options.source is None:
        raise UsageError("say what to compile: FILE.py:NAME, module:NAME, an IR file, or -")
    if options.before and options.pass_name in (None, "all"):
        raise UsageError("--before needs --pass NAME")
    if (options.before or options.diff) and "ir" not in (options.emit or ["ir"]):
        raise UsageError(f"{'--before' if options.before else '--diff'} is for --emit ir")
    selected = options.pass_name
    if selected not in (None, "all", *PASSES):
        raise UsageError(unknown_pass(selected))
    given = _pipeline(options.pass_pipeline)
    cost = CostModel.load(options.profile or "")
    unit = load_unit(options.source)
    if options.topology is not None:
        topology = Topology.load(options.topology)
        place_actors(unit.module, topology)
        cost = dataclasses.replace(cost, topology=topology)
    passes = _until(default_passes(unit) if given is None else given, selected)
    verify_each, locations = True if options.verify_each else None, not options.no_locations
    result, states = states_of(unit, passes, verify_each=verify_each, locations=locations, cost=cost)
    for text in result.warnings:
        print(f"warning: {text}", file=sys.stderr)
    for kind in options.emit or ["ir"]:
        _emit(kind, result, states, options)
    if options.print_timing:
        print(result.timing_table(), file=sys.stderr)
    return 0


def _pipeline(text: str | None) -> list[Pass] | None:
    try:
        return None if text is None else passes_of(text)
    except IRParseError as error:
        raise UsageError(str(error)) from error


def _until(passes: list[Pass], selected: str | None) -> list[Pass]:
    """The passes up to the selected one; all if none is, or `all` are."""
    names = [each.name for each in passes]
    if selected in (None, "all"):
        return passes
    if selected not in names:
        raise UsageError(f"{selected} is none of the passes to run: {', '.join(names) or 'none'}")
    return passes[: names.index(selected) + 1]


def _emit(kind: str, result: PipelineResult, states: list[State], options: argparse.Namespace) -> None:
    if kind == "ir":
        _emit_ir(states, options)
    else:
        name, text = _EMITTERS[kind](result, states, result.cost)
        _write(text, name, options.output)


def _emit_ir(states: list[State], options: argparse.Namespace) -> None:
    every = options.pass_name == "all"
    for state in states if every else [states[-2] if options.before else states[-1]]:
        before = states[max(state.number - 1, 0)] if options.pass_name is not None else states[0]
        if options.output is not None:
            text = _diff(before, state) if options.diff else state.text
            _write(text, f"{state.number:02}_{state.name}.{'diff' if options.diff else 'mlir'}", options.output)
            continue
        same = state.number > 0 and state.text == before.text
        text = "// unchanged\n" if same and (every or options.diff) else state.text
        if options.diff and not same:
            text = _diff(before, state)
        _write(_described(state, text, alone=not every), "", None)


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


def _write(text: str, name: str, output: str | None) -> None:
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


def _plans(result: PipelineResult) -> list[Plan]:
    return [plan_of(graph, result.cost) for graph in graphs_of(result.unit.module)]


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


_EMITTERS: dict[str, Callable[[PipelineResult, list[State], CostModel], tuple[str, str]]] = {
    "programs": _programs,
    "dot": _dot,
    "svg": _svg,
    "plan": _plan,
    "ascii": _ascii,
    "json": _json,
}


def completion(shell: str) -> str:
    """
    The script that lets `shell` complete the command line; its first lines say where to put it.

    Raises:
        UsageError: The package shtab, which writes it, is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise UsageError("--print-completion needs the package shtab: pip install 'cgc[completion]'") from error
    parser = _parser()
    for action in parser._actions:
        if action.dest == "pass_name":
            action.choices = ["all", *PASSES]
        if action.metavar in _COMPLETED:
            action.complete = _COMPLETED[action.metavar](shtab)  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


_COMPLETED: dict[object, Callable[[Any], Any]] = {
    "SRC": lambda shtab: shtab.FILE,
    "FILE": lambda shtab: shtab.FILE,
    "DIR": lambda shtab: shtab.DIRECTORY,
}
"""What completes the arguments of each kind."""


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


def _module(place: str) -> ModuleType:
    """A module by name, or the one in a file."""
    path = Path(place)
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise UsageError(f"there is no file {place}")
        sys.path.insert(0, str(path.resolve().parent))
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and place.startswith(error.name):
            raise UsageError(f"there is no module {place}; an IR file or FILE.py:NAME would also do") from error
        raise _user_error(f"{place} does not import") from error
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise _user_error(f"{place} does not import") from error
    return module


def _unit_of_object(module: ModuleType, name: str, source: str) -> Unit:
    from cgc.ir.importer import import_graph

    if not hasattr(module, name):
        known = _graph_names(module)
        raise UsageError(f"{source}: there is no {name!r}{did_you_mean(name, known)}{_names_in(module)}")
    found = getattr(module, name)
    try:
        dag = found() if callable(found) and not _is_node(found) else found
    except CgcError:
        raise
    except (Exception, SystemExit) as error:
        raise _user_error(f"{source} failed") from error
    if not _is_node(dag):
        if inspect.iscoroutine(dag):
            dag.close()
        raise CgcError(
            f"{source} gives no graph: expected a ray.dag node (what `.bind` or MultiOutputNode gives),"
            f" got {type(dag).__name__}"
        )
    return import_graph(dag, name=name, max_inflight=10)


def _is_node(found: Any) -> bool:
    from ray.dag import DAGNode

    return isinstance(found, DAGNode)


def _graph_names(module: ModuleType) -> list[str]:
    """What in a module may be a graph: nodes, and functions that it defines."""
    return [
        name
        for name, found in vars(module).items()
        if not name.startswith("_")
        and (_is_node(found) or (callable(found) and getattr(found, "__module__", "") == module.__name__))
    ]


def _names_in(module: ModuleType) -> str:
    names = _graph_names(module)
    return f"; it has {', '.join(names)}" if names else ""


def _status() -> str:
    from cgc.runtime.inspection import live_graphs

    return "\n".join(map(str, live_graphs())) or "no compiled graph of this user runs on this machine"


def _user_error(what: str) -> CgcError:
    """The error for an exception of the user's code, with its traceback from there on."""
    frames = traceback.format_exc().splitlines()
    own = [i for i, line in enumerate(frames) if f'File "{__file__}"' in line or "<frozen importlib" in line]
    start = own[-1] + 1 if own else 1
    while start < len(frames) and frames[start].startswith("    "):
        start += 1
    return CgcError("\n".join([f"{what}:", *frames[start:]]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cgc-dump",
        description="Look at a graph on its way through the compiler. Needs no cluster.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "source",
        nargs="?",
        metavar="SRC",
        help="FILE.py:NAME or module:NAME (a node, or a function that returns one),"
        " an IR file, or - for IR from standard input",
    )
    add("--pass", dest="pass_name", metavar="NAME", help="print the IR after this pass, or after `all`")
    add("--before", action="store_true", help="print the IR before the pass instead")
    add("--pass-pipeline", metavar="STR", help="run these passes, such as 'pair-comm,overlap-comm{cost-model=p.json}'")
    add("--diff", action="store_true", help="print what changed instead of the IR")
    add("--emit", action="append", choices=EMISSIONS, help="what to print (default: ir); may be given several times")
    add("--profile", metavar="FILE", help="times of calls and links, for passes, plan and pictures")
    add("--topology", metavar="FILE", help="where actors are and what connects them (TOML)")
    add("--verify-each", action="store_true", help="verify after each pass, however large the graph is")
    add("--print-timing", action="store_true", help="print how long each pass took, to standard error")
    add("--no-locations", action="store_true", help="leave source locations out, to compare texts")
    add("--status", action="store_true", help="print what the actors of this user's running graphs are doing")
    add("--list-passes", action="store_true", help="list the passes with their options")
    add("--print-completion", choices=SHELLS, metavar="SHELL", help=f"print the completion script for {_or(SHELLS)}")
    add("-o", dest="output", metavar="DIR", help="write files into this directory instead of standard output")
    return parser


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


if __name__ == "__main__":
    sys.exit(main())
