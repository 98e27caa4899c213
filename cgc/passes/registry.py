"""The passes by name. Each is imported when it is used, so that listing them costs nothing."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from cgc.errors import PassError, did_you_mean
from cgc.passes.base import Pass
from cgc.passes.pipeline_text import PassSpec, parse_pipeline, pipeline_error

PASSES: dict[str, str] = {
    "verify-graph": "cgc.passes.verify_graph:VerifyGraphPass",
    "anchor-calls": "cgc.passes.anchor_calls:AnchorCallsPass",
    "infer-types": "cgc.passes.infer_types:InferTypesPass",
    "place-devices": "cgc.passes.place_devices:PlaceDevicesPass",
    "pair-comm": "cgc.passes.pair_comm:PairCommPass",
    "overlap-comm": "cgc.passes.overlap_comm:OverlapCommPass",
    "group-comm": "cgc.passes.group_comm:GroupCommPass",
    "allocate-channels": "cgc.passes.allocate_channels:AllocateChannelsPass",
    "verify-schedule": "cgc.passes.verify_schedule:VerifySchedulePass",
    # By name only: the last pass makes programs, which are the runtime's, and passes know nothing of the runtime.
    "emit-programs": "cgc.backend.emit_programs:EmitProgramsPass",
}
"""Name to `module:class`, in the order of the default pipeline."""


def pass_class(name: str) -> type[Pass]:
    """
    The class of a pass.

    Raises:
        PassError: No pass has that name; the message lists those that exist.
    """
    if name not in PASSES:
        raise PassError(unknown_pass(name), name)
    module, _, attribute = PASSES[name].partition(":")
    found: type[Pass] = getattr(import_module(module), attribute)
    return found


def unknown_pass(name: str) -> str:
    """What to tell somebody who named a pass that does not exist."""
    return f"there is no pass {name!r}{did_you_mean(name, PASSES)}; the passes are {', '.join(PASSES)}"


def passes_of(text: str) -> list[Pass]:
    """
    The passes of a pipeline's text, with their options.

    Raises:
        IRParseError: The text is malformed, or names a pass or an option that does not exist; shows the column.
    """
    return [_instance(spec, text) for spec in parse_pipeline(text)]


@cache  # hints are text, which takes long to evaluate
def options_of(found: type[Pass]) -> Mapping[str, tuple[str, Any]]:
    """The options of a pass: name as in pipelines to (type, default)."""
    hints = typing.get_type_hints(found)
    return {
        field.name.replace("_", "-"): (hints[field.name].__name__, field.default) for field in dataclasses.fields(found)
    }


def _instance(spec: PassSpec, text: str) -> Pass:
    if spec.name not in PASSES:
        pipeline_error(text, spec.column, unknown_pass(spec.name), len(spec.name))
    found = pass_class(spec.name)
    known = options_of(found)
    values: dict[str, Any] = {}
    for option, value in spec.options.items():
        column = (spec.option_columns or {}).get(option, spec.column)
        if option not in known:
            names = ", ".join(known) or "none"
            hint = did_you_mean(option, known)
            pipeline_error(text, column, f"{spec.name} has no option {option!r}{hint}; it has {names}", len(option))
        try:
            values[option.replace("-", "_")] = _CONVERT[known[option][0]](value)
        except (KeyError, ValueError):
            reason = f"option {option} of {spec.name} takes {_ARTICLE[known[option][0]]}, got {value!r}"
            pipeline_error(text, column, reason, len(option))
    return found(**values)


_CONVERT: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": {"true": True, "false": False}.__getitem__}
_ARTICLE = {"int": "an integer", "float": "a number", "str": "a string", "bool": "true or false"}
