"""A class of actors, and how tests look at what was imported."""

from __future__ import annotations

import re
import textwrap

import ray

from cgc.ir import CallOp, Unit, print_module, verify_module


class Stage:
    def fwd(self, *args, **kwargs):
        return args

    @ray.method(num_returns=2)
    def split(self, value):
        return value


def body(unit: Unit) -> str:
    """The lines of the body, without locations and types that say nothing."""
    verify_module(unit.module)
    text = print_module(unit.module, locations=False)
    lines = text[text.index("cgc.body {") :].splitlines()[1:-2]
    return "\n".join(re.sub(r" : !cgc\.object(, !cgc\.object)*$", "", line.strip()) for line in lines)


def expected(text: str) -> str:
    return textwrap.dedent(text).strip()


def calls(unit: Unit) -> list[CallOp]:
    return [op for op in unit.module.walk() if isinstance(op, CallOp)]


def actor_lines(unit: Unit) -> list[str]:
    return [line.strip() for line in print_module(unit.module).splitlines() if line.strip().startswith("cgc.actor")]
