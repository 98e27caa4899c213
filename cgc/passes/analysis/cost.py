"""
Cost model: how long calls and messages are expected to take.

Times are microseconds, bandwidths gigabytes per second (10^9), sizes bytes. The defaults describe CPU actors on one
host; only their ratios matter for the order that the passes choose. A profile replaces them by measured figures:

    {"default-call-us": 500.0,
     "object-bytes": 1024,
     "calls": {"Stage.forward": 1250.0, "Stage.backward": 2400.0},
     "links": {"shm": {"latency-us": 2.0, "gb-per-s": 10.0}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgc.errors import PassError

DEFAULT_CALL_US = 1000.0
DEFAULT_OBJECT_BYTES = 1024

_FIELDS = {"default-call-us", "object-bytes", "calls", "links"}


@dataclass(frozen=True, slots=True)
class Link:
    """
    What one transport costs.

    Attributes:
        latency_us: From the end of the sender's work until the receiver can start its own.
        gb_per_s: Bandwidth of one copy.
        overhead_us: What each party is kept busy for, whatever the size.
    """

    latency_us: float
    gb_per_s: float
    overhead_us: float = 0.0

    def copy_us(self, nbytes: int) -> float:
        """Microseconds that one party is busy with a message of `nbytes`."""
        return self.overhead_us + nbytes / (self.gb_per_s * 1e3)


DEFAULT_LINKS: Mapping[str, Link] = {
    "local": Link(latency_us=0.0, gb_per_s=1e6),
    "shm": Link(latency_us=1.0, gb_per_s=10.0, overhead_us=1.0),
    "tcp": Link(latency_us=50.0, gb_per_s=1.0, overhead_us=10.0),
    "nccl": Link(latency_us=5.0, gb_per_s=50.0, overhead_us=10.0),
    "gloo": Link(latency_us=50.0, gb_per_s=1.0, overhead_us=10.0),
    "cuda_ipc": Link(latency_us=5.0, gb_per_s=50.0, overhead_us=5.0),
}


@dataclass(frozen=True)
class CostModel:
    """Expected times of calls and messages; see the top of this file for the profile that it reads."""

    calls: Mapping[tuple[str, str], float] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=lambda: DEFAULT_LINKS)
    default_call_us: float = DEFAULT_CALL_US
    object_bytes: int = DEFAULT_OBJECT_BYTES

    def call_us(self, class_name: str, method: str) -> float:
        """Expected microseconds of one call of `method`; the default where no profile has it."""
        return self.calls.get((class_name, method), self.default_call_us)

    def link(self, transport: str) -> Link:
        """The link of a transport; an unknown one (a user's communicator) counts as `gloo`."""
        return self.links.get(transport) or self.links.get("gloo") or DEFAULT_LINKS["gloo"]

    @staticmethod
    def load(path: str, pass_name: str) -> CostModel:
        """
        Read a JSON profile for the pass of that name; the defaults for an empty path.

        Raises:
            PassError: The file is missing, is not JSON or has a field that is not known.
        """
        if not path:
            return CostModel()
        try:
            return _parse(json.loads(Path(path).read_text()))
        except OSError as error:
            raise PassError(f"cannot read the cost model {path}: {error.strerror}", pass_name) from error
        except json.JSONDecodeError as error:
            where = f"{path}:{error.lineno}:{error.colno}"
            raise PassError(f"{where}: the cost model is not JSON: {error.msg}", pass_name) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PassError(f"{path}: the cost model is malformed: {error}", pass_name) from error


def _parse(data: Mapping[str, Any]) -> CostModel:
    unknown = sorted(set(data) - _FIELDS)
    if unknown:
        raise ValueError(f"unknown fields {unknown}; known: {sorted(_FIELDS)}")
    calls = {_class_and_method(name): float(us) for name, us in data.get("calls", {}).items()}
    links = {**DEFAULT_LINKS, **{name: _link(fields) for name, fields in data.get("links", {}).items()}}
    default_call_us = float(data.get("default-call-us", DEFAULT_CALL_US))
    object_bytes = int(data.get("object-bytes", DEFAULT_OBJECT_BYTES))
    if min([default_call_us, object_bytes, *calls.values()]) < 0:
        raise ValueError("times and sizes cannot be negative")
    return CostModel(calls, links, default_call_us, object_bytes)


def _class_and_method(name: str) -> tuple[str, str]:
    class_name, dot, method = name.rpartition(".")
    if not dot:
        raise ValueError(f"{name!r} is not of the form Class.method")
    return class_name, method


def _link(fields: Mapping[str, Any]) -> Link:
    bandwidth = float(fields["gb-per-s"])
    if bandwidth <= 0:
        raise ValueError("gb-per-s must be positive")
    return Link(float(fields["latency-us"]), bandwidth, float(fields.get("overhead-us", 0.0)))
