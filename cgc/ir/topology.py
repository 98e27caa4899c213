"""Where actors live and what connects them: plain data, as probed from a cluster or written down for a test."""

from __future__ import annotations

from dataclasses import dataclass

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
class Link:
    """
    A way from one place to another; places are nodes (`n0`) or devices of nodes (`n0/gpu:0`).

    Attributes:
        latency_us: Microseconds for an empty message.
        bandwidth_gb_s: Gigabytes (10^9 bytes) a second for a long one.
    """

    source: str
    target: str
    latency_us: float
    bandwidth_gb_s: float


@dataclass(frozen=True, slots=True)
class Topology:
    """
    Nodes and the links between them.

    Attributes:
        driver_node: The node of the driver.
        links: Directed; a pair that is not listed has no known cost.
    """

    driver_node: str = LOCAL_NODE
    links: tuple[Link, ...] = ()
