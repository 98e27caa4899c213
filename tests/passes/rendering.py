"""What a snapshot of a graph on its way through the passes looks like: IR that parses, and the rest as comments."""

from __future__ import annotations

from collections.abc import Sequence

from cgc.dump import State
from cgc.ir import parse_module, print_module, verify_module
from cgc.passes.manager import PipelineResult

SEPARATOR = "// -----"


def rendered(states: Sequence[State], before: State | None = None) -> list[str]:
    """A part per state: its name, the remarks of its pass, and its IR where that is not the one of the state before."""
    parts = []
    for state, previous in zip(states, [before, *states], strict=False):
        title = f"{SEPARATOR} {'after ' if state.number else ''}{state.name}"
        remarks = [f"// {remark}" for remark in state.record.remarks] if state.record else []
        same = previous is not None and state.text == previous.text
        parts.append("\n".join([title + (": unchanged" if same else ""), *remarks, "" if same else state.text]))
    return parts


def programs_of(result: PipelineResult) -> list[str]:
    """The lines of the programs that were made, if any, as comments without locations."""
    programs = "\n\n".join(str(program) for program in result.products.get("programs", {}).values())
    return commented("\n".join(line.partition("    # ")[0] for line in programs.splitlines()))


def commented(text: str) -> list[str]:
    """The lines of `text` as comments of the IR."""
    return [f"// {line}".rstrip() for line in text.splitlines()]


def joined(parts: Sequence[str]) -> str:
    """The whole snapshot."""
    return "\n".join([*parts, ""]).replace("\n\n\n", "\n\n")


def parsed_back(text: str, name: str) -> int:
    """Parse, verify and print all IR of a snapshot, which has to give the same text; returns how many there are."""
    checked = 0
    for section in text.split(SEPARATOR)[1:]:
        title, _, body = section.partition("\n")
        ir = "\n".join(line for line in body.splitlines() if not line.startswith("//"))
        if ir.strip():
            module = parse_module(ir, f"{name} ({title.strip()})")
            verify_module(module)
            assert print_module(module).strip() == ir.strip()
            checked += 1
    return checked
