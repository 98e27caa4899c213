"""
Cost model: how long calls and messages are expected to take.

Times are microseconds, bandwidths gigabytes per second (10^9), sizes bytes. The defaults describe CPU actors on one
host; only their ratios matter for the order that the passes choose. A profile replaces them by measured figures. It is
what `graph.profile(path)` writes, TOML, or JSON with the same keys; all of them are optional:

    default-call-us = 500.0
    object-bytes = 1024

    [calls]
    "Stage.forward" = 1250.0
    "Stage.backward" = 2400.0

    [links]
    shm = { latency-us = 2.0, gb-per-s = 10.0, overhead-us = 1.0 }

A topology says more of single links than a profile, which has one figure for each transport.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cgc.ir import Placement, Topology
from cgc.settings_file import Section, open_settings

DEFAULT_CALL_US = 1000.0
DEFAULT_OBJECT_BYTES = 1024

HOST_TRANSPORTS = frozenset({"local", "shm", "tcp"})
"""Transports between nodes, not between devices."""


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
    "copy": Link(latency_us=5.0, gb_per_s=50.0, overhead_us=5.0),
}
"""By transport, and `copy`: between an actor's device and its host memory."""


@dataclass(frozen=True)
class CostModel:
    """
    Expected times of calls and messages; the top of this file shows the profile that it reads and writes.

    Attributes:
        calls: Microseconds by (class name, method).
        links: By transport; `DEFAULT_LINKS` for those that it lacks.
        default_call_us: For calls that no profile has.
        object_bytes: Size of a value of which nothing is known.
        topology: Links between places, which win over those of `links`.
        source: Where the figures come from, for messages.
    """

    calls: Mapping[tuple[str, str], float] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    default_call_us: float = DEFAULT_CALL_US
    object_bytes: int = DEFAULT_OBJECT_BYTES
    topology: Topology | None = None
    source: str = "the profile"

    def call_us(self, class_name: str, method: str) -> float:
        """Expected microseconds of one call of `method`; the default where no profile has it."""
        return self.calls.get((class_name, method), self.default_call_us)

    def link(self, transport: str, source: Placement | None = None, target: Placement | None = None) -> Link:
        """
        The link of a transport, between two places if they are given.

        An unknown transport (a user's communicator) counts as `gloo`.
        """
        kind = transport if transport in self.links or transport in DEFAULT_LINKS else "gloo"
        link = self.links.get(kind) or DEFAULT_LINKS[kind]
        if not self._between or source is None or target is None:
            return link
        found = self._between.get((source.node, target.node))
        if transport not in HOST_TRANSPORTS:
            # On one node, the link of the node to itself is its memory.
            found = found if source.node != target.node else None
            found = self._between.get((_device(source), _device(target)), found)
        return link if found is None else Link(*found, link.overhead_us)

    @cached_property
    def _between(self) -> Mapping[tuple[str, str], tuple[float, float]]:
        links = () if self.topology is None else self.topology.links
        return {(link.source, link.target): (link.latency_us, link.gb_per_s) for link in links}

    @staticmethod
    def load(path: str | os.PathLike[str]) -> CostModel:
        """
        Read a profile, TOML or (by its suffix) JSON; the defaults for an empty path.

        Raises:
            SourceError: The file cannot be read, is malformed, or has a key that is not known; shows the line.
        """
        if not path:
            return CostModel()
        with open_settings(path) as root:
            links = root.section("links")
            return CostModel(
                calls=dict(_calls(root.section("calls"), "")),
                links={name: _link(links.section(name)) for name in links.content},
                default_call_us=root.number("default-call-us", DEFAULT_CALL_US),
                object_bytes=int(root.number("object-bytes", DEFAULT_OBJECT_BYTES)),
                source=os.fspath(path),
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile that `load` reads; without the topology."""
        file = Path(path)
        file.write_text(json.dumps(self._content(), indent=2) + "\n" if file.suffix == ".json" else str(self))

    def __str__(self) -> str:
        """The profile as TOML."""
        content = self._content()
        calls, links = content.pop("calls"), content.pop("links")
        lines = [f"{key} = {value}" for key, value in content.items()]
        lines += ["", "[calls]  # microseconds", *(f"{json.dumps(name)} = {us}" for name, us in calls.items())]
        lines += ["", "[links]"] if links else []
        for name, figures in links.items():
            lines.append(f"{name} = {{ {', '.join(f'{key} = {value}' for key, value in figures.items())} }}")
        return "\n".join([*lines, ""])

    def _content(self) -> dict[str, Any]:
        return {
            "default-call-us": self.default_call_us,
            "object-bytes": self.object_bytes,
            "calls": {f"{class_name}.{method}": us for (class_name, method), us in self.calls.items()},
            "links": {
                name: {"latency-us": link.latency_us, "gb-per-s": link.gb_per_s, "overhead-us": link.overhead_us}
                for name, link in self.links.items()
            },
        }


def _calls(section: Section, prefix: str) -> Iterator[tuple[tuple[str, str], float]]:
    """The times of calls; TOML makes a table of `Stage` from an unquoted `Stage.forward`."""
    for key, value in section.content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _calls(section.section(key), f"{name}.")
            continue
        class_name, dot, method = name.rpartition(".")
        if not dot:
            section.fail(f"{name!r} is not of the form Class.method", key)
        yield (class_name, method), section.number(key)


def _link(section: Section) -> Link:
    return Link(
        section.number("latency-us"), section.number("gb-per-s", positive=True), section.number("overhead-us", 0.0)
    )


def _device(place: Placement) -> str:
    return f"{place.node}/{place.devices[0]}" if place.devices else place.node
