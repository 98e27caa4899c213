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
import io
import sys
from collections.abc import Sequence

from cgc.dump.command_line import UsageError, completion, parser_of
from cgc.dump.emissions import emit, passes_table, status_table, write
from cgc.dump.sources import load_unit
from cgc.dump.states import State, default_passes, states_of
from cgc.errors import CgcError, IRParseError, SourceError
from cgc.ir import Topology, place_actors
from cgc.passes.analysis.cost import CostModel
from cgc.passes.base import Pass
from cgc.passes.registry import PASSES, passes_of, unknown_pass

__all__ = ["State", "UsageError", "default_passes", "load_unit", "main", "states_of"]

EXAMPLES = __doc__.partition("\n\n")[2] if __doc__ else ""

COMPILE_ERROR = 1
USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser_of(EXAMPLES).parse_args(arguments)
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


def _run(options: argparse.Namespace) -> int:
    if options.list_passes or options.status or options.print_completion is not None:
        told = passes_table() if options.list_passes else status_table() if options.status else None
        write(completion(parser_of(EXAMPLES), options.print_completion) if told is None else told, "", None)
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
        emit(kind, result, states, options)
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
