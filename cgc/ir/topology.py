"""
Where actors live and what connects them: plain data, written down in a file, or taken from a live Ray cluster.

    # cluster.toml
    driver = "n0"                        # node of the driver; without it, the first node

    [nodes.n0]
    devices = ["gpu:0", "gpu:1"]         # indices count per node

    [nodes.n1]

    [actors]                             # by symbol in the IR; with this table, every actor has to be in it
    encoder = "n0/gpu:0"                 # a node, a device of a node, or a list of devices of one node
    decoder = "n1"

    [[links]]
    between = ["n0", "n1"]               # both ways; one way: from = "n0", to = "n1"
    latency-us = 50
    gb-per-s = 1.2

    [[links]]
    between = ["n0/gpu:0", "n0/gpu:1"]
    latency-us = 2
    gb-per-s = 200
    peers = true                         # processes on one of the devices can open the other's memory

Places are nodes (`n0`) or devices (`n0/gpu:0`). A link between nodes is for messages through host memory, and for
communicators whose devices have no link of their own. What no link says is left to the cost model; devices that no link
calls peers are none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgc.errors import GraphError, did_you_mean
from cgc.settings_file import Section, open_settings

LOCAL_NODE = "n0"
"""Name of the node where nothing else is known."""


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """
    What the compiler knows of an actor.

    Attributes:
        class_name: Name of its class, without module.
        name: Symbol that it should have in the IR; None for class name and number.
        node: Name of the node that it runs on.
        devices: Its accelerators, e.g. `("gpu:0",)`; node-wide indices, so that equal names are one device.
        actor_id: Hexadecimal id, or None for an abstract actor.
    """

    class_name: str
    name: str | None = None
    node: str = LOCAL_NODE
    devices: tuple[str, ...] = ()
    actor_id: str | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an actor runs: a node, and devices of it."""

    node: str
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """
    A way from one place to another; places are nodes (`n0`) or devices of nodes (`n0/gpu:0`).

    Attributes:
        latency_us: Microseconds for an empty message.
        gb_per_s: Gigabytes (10^9 bytes) a second for a long one.
        peers: Whether a process on the target, a device of the same node, can open memory of the source.
    """

    source: str
    target: str
    latency_us: float
    gb_per_s: float
    peers: bool = False


@dataclass(frozen=True, slots=True)
class Topology:
    """
    Nodes with their devices, the links between them, and perhaps where each actor runs.

    Attributes:
        nodes: Devices by node. Empty if nothing is known of nodes; then actors may name any.
        links: Directed; a pair that is not listed has the cost model's figures.
        actors: By symbol. Empty if actors are where they say themselves.
        driver_node: The node of the driver.
        source: Where this comes from, for messages.
    """

    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    actors: Mapping[str, Placement] = field(default_factory=dict)
    driver_node: str = LOCAL_NODE
    source: str = "the topology"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Topology:
        """
        Read a file; the top of this module shows one.

        Raises:
            SourceError: The file cannot be read, or something in it is wrong; shows the line.
        """
        with open_settings(path) as root:
            nodes = _nodes(root)
            driver = root.name("driver", next(iter(nodes)))
            if driver not in nodes:
                root.fail(f"driver: there is no node {driver!r}{did_you_mean(driver, nodes)}", "driver")
            links = tuple(link for section in root.sections("links") for link in _links(section, nodes))
            table = root.section("actors")
            actors = {symbol: _placement(table, symbol, nodes) for symbol in table.content}
        return cls(nodes, links, actors, driver, os.fspath(path))

    @classmethod
    def from_ray(cls) -> Topology:
        """
        The nodes of the Ray cluster that this process is connected to, with their GPUs; `n0` is the node of the driver.

        Ray knows nothing of links: they can be added to what `save` writes.

        Raises:
            RuntimeError: Ray is not initialised.
        """
        import ray

        if not ray.is_initialized():
            raise RuntimeError("Topology.from_ray() needs a connection to a cluster: call ray.init() first")
        here = ray.get_runtime_context().get_node_id()
        alive = [node for node in ray.nodes() if node["Alive"]]
        alive.sort(key=lambda node: (node["NodeID"] != here, node["NodeManagerAddress"], node["NodeID"]))
        nodes = {f"n{number}": _gpus(node["Resources"]) for number, node in enumerate(alive)}
        return cls(nodes, source="the Ray cluster")

    def placement(self, symbol: str, own: Placement) -> Placement:
        """
        Where an actor runs that says of itself to be at `own`.

        Raises:
            GraphError: It is not in this topology.
        """
        if self.actors and symbol not in self.actors:
            raise GraphError(
                f"{self.source} has no actor @{symbol}{did_you_mean(symbol, self.actors)};"
                f" its table [actors] has {', '.join(self.actors)}: add a line for @{symbol}"
            )
        found = self.actors.get(symbol, own)
        if self.nodes and found.node not in self.nodes:
            raise GraphError(
                f"{self.source} has no node {found.node!r}, where actor @{symbol} is;"
                f" it has {', '.join(self.nodes)}: add the node, or place the actor in a table [actors]"
            )
        missing = [device for device in found.devices if self.nodes and device not in self.nodes[found.node]]
        if missing:
            raise GraphError(
                f"{self.source}: node {found.node!r} has no device {missing[0]!r}, which actor @{symbol} is to have;"
                f" it has {', '.join(self.nodes[found.node]) or 'none'}"
            )
        return found

    def are_peers(self, node: str, source: str, target: str) -> bool:
        """Whether a process on device `target` of a node can open memory of device `source` of that node."""
        ends = (f"{node}/{source}", f"{node}/{target}")
        return any(link.peers and (link.source, link.target) == ends for link in self.links)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file that `load` reads."""
        Path(path).write_text(str(self))

    def __str__(self) -> str:
        """The topology as a file that `load` reads."""
        lines = [f'driver = "{self.driver_node}"']
        for node, devices in self.nodes.items():
            lines += ["", f'[nodes."{node}"]', *([f"devices = {_list(devices)}"] if devices else [])]
        if self.actors:
            lines += ["", "[actors]"]
        for symbol, place in self.actors.items():
            places = [f"{place.node}/{device}" for device in place.devices] or [place.node]
            lines.append(f'"{symbol}" = {_list(places) if len(places) > 1 else _quoted(places[0])}')
        for link in self.links:
            lines += ["", "[[links]]", f"from = {_quoted(link.source)}", f"to = {_quoted(link.target)}"]
            lines += [f"latency-us = {link.latency_us!r}", f"gb-per-s = {link.gb_per_s!r}"]
            lines += ["peers = true"] if link.peers else []
        return "\n".join([*lines, ""])


def _nodes(root: Section) -> dict[str, tuple[str, ...]]:
    table = root.section("nodes")
    nodes = {name: table.section(name).names("devices", ()) for name in table.content}
    table.refuse_others()  # a misspelt list of devices shows here, not at the places that miss a device
    if not nodes:
        root.fail("the topology has no nodes: a table such as [nodes.n0] is one", "nodes")
    for name, devices in nodes.items():
        if not name or "/" in name:
            table.fail(f"{name!r} cannot be the name of a node", name)
        twice = next((device for device in devices if devices.count(device) > 1), None)
        if twice is not None:
            table.fail(f"node {name} has device {twice!r} twice", name, "devices")
    return nodes


def _links(section: Section, nodes: Mapping[str, tuple[str, ...]]) -> list[Link]:
    latency_us, gb_per_s = section.number("latency-us"), section.number("gb-per-s", positive=True)
    between, source, target = section.names("between", ()), section.name("from", ""), section.name("to", "")
    if bool(between) == bool(source or target) or bool(source) != bool(target):
        section.fail("a link has either `between`, or `from` and `to`")
    if between and len(between) != 2:
        section.fail(f"between takes two places, got {len(between)}", "between")
    ends = between or (source, target)
    for place, key in zip(ends, ("between", "between") if between else ("from", "to"), strict=True):
        _check_place(section, key, place, nodes)
    peers = section.flag("peers")
    if peers and not _are_devices_of_one_node(*ends):
        section.fail("peers are two devices of one node", "peers")
    forward = Link(ends[0], ends[1], latency_us, gb_per_s, peers)
    backward = Link(ends[1], ends[0], latency_us, gb_per_s, peers)
    return [forward, backward] if between and ends[0] != ends[1] else [forward]


def _are_devices_of_one_node(source: str, target: str) -> bool:
    (home, _, first), (node, _, second) = source.partition("/"), target.partition("/")
    return home == node and bool(first) and bool(second) and first != second


def _placement(table: Section, symbol: str, nodes: Mapping[str, tuple[str, ...]]) -> Placement:
    places = table.names(symbol)
    for place in places:
        _check_place(table, symbol, place, nodes)
    parts = [place.partition("/") for place in places]
    found = {node for node, _, _ in parts}
    if len(found) != 1 or (len(parts) > 1 and not all(device for _, _, device in parts)):
        table.fail(f"actor {symbol} is on one node, or on devices of one node, got {', '.join(places)}", symbol)
    return Placement(parts[0][0], tuple(device for _, _, device in parts if device))


def _check_place(section: Section, key: str, place: str, nodes: Mapping[str, tuple[str, ...]]) -> None:
    node, slash, device = place.partition("/")
    if node not in nodes:
        section.fail(f"there is no node {node!r}{did_you_mean(node, nodes)}; nodes are {', '.join(nodes)}", key)
    if slash and device not in nodes[node]:
        known = ", ".join(nodes[node]) or "none"
        section.fail(f"node {node} has no device {device!r}{did_you_mean(device, nodes[node])}; it has {known}", key)


def _gpus(resources: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"gpu:{index}" for index in range(int(resources.get("GPU", 0))))


def _list(names: Any) -> str:
    return "[" + ", ".join(_quoted(name) for name in names) + "]"


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
