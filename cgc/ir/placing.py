"""Actors of a module get the places that a topology gives them."""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr

from cgc.errors import GraphError
from cgc.ir.graph_ops import ActorOp, GraphOp
from cgc.ir.topology import Placement, Topology


def place_actors(module: ModuleOp, topology: Topology, *, movable: bool = True) -> None:
    """
    Place all actors, and the driver, of a module as `topology` says.

    Above level `graph` transports have been chosen by where actors are, so that there, and if they are not `movable`
    because they live somewhere, the topology has to agree.

    Raises:
        GraphError: The topology lacks an actor, or the node or device that it is on; or it says something else.
    """
    for graph in module.body.block.ops:
        if not isinstance(graph, GraphOp):
            continue
        for actor in graph.body.block.ops:
            if isinstance(actor, ActorOp) and actor.kind.data in ("driver", "actor"):
                _place(actor, topology, movable and graph.level.data == "graph", graph.level.data)


def _place(actor: ActorOp, topology: Topology, movable: bool, level: str) -> None:
    symbol, own = actor.sym_name.data, Placement(actor.node.data, actor.device_names)
    is_driver = actor.kind.data == "driver"
    found = Placement(topology.driver_node) if is_driver else topology.placement(symbol, own)
    if found == own:
        return
    if not movable:
        where = f"the IR of level {level} has it" if level != "graph" else "it lives"
        remedy = "; start from level graph" if level != "graph" else ""
        raise GraphError(f"{topology.source} has @{symbol} on {_text(found)}, but {where} on {_text(own)}{remedy}")
    actor.properties["node"] = StringAttr(found.node)
    actor.properties.pop("devices", None)
    if found.devices:
        actor.properties["devices"] = ArrayAttr([StringAttr(device) for device in found.devices])


def _text(place: Placement) -> str:
    return ", ".join(f"{place.node}/{device}" for device in place.devices) or place.node
