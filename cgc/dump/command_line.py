"""The command line of `cgc-dump`: what can be written, how a shell completes it, and the error for what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from cgc.passes.registry import PASSES

EMISSIONS = ("ir", "programs", "dot", "svg", "ascii", "plan", "json")

SHELLS = ("bash", "zsh", "fish")


class UsageError(Exception):
    """The command is wrong: exit code 2."""


def parser_of(examples: str) -> argparse.ArgumentParser:
    """The parser of the command line; its help ends in `examples`."""
    parser = argparse.ArgumentParser(
        prog="cgc-dump",
        description="Look at a graph on its way through the compiler. Needs no cluster.",
        epilog=examples,
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


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """
    The script that lets `shell` complete the parser's command line; its first lines say where to put it.

    Raises:
        UsageError: The package shtab, which writes it, is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise UsageError("--print-completion needs the package shtab: pip install 'cgc[completion]'") from error
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


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
