"""
infer-types: every value knows how it travels.

Requires: level `graph`, verified by `verify-graph`.
Guarantees: no type asks for `auto` or `accelerator` any more; `nccl` and `cuda_ipc` are between actors with GPUs,
`cuda_ipc` between those that can open each other's memory, and no transport that needs a communicator ends at the
driver. A violation is a `GraphError` that names both ends.

`auto` is the first of these that serves all receivers of a value: `cuda_ipc`, where each shares the sender's only GPU
or has one that the topology calls a peer of it, unless the value is wanted on the host; `nccl`, where all have GPUs of
their own, since a communicator refuses two ranks on one device; `shm`. A collective that names no communicator goes
through `shm` where none of its participants has a GPU and all are on one node.

    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<cpu, via auto>   ->   … : !cgc.tensor<cpu, via shm>
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cgc.errors import GraphError
from cgc.ir import ActorOp, CollectiveOp, GraphOp, SSAValue, TensorType, Topology, TransportAttr
from cgc.passes.base import Pass, PassContext
from cgc.passes.graph_view import (
    actors_of,
    body_of,
    consumers_of_body,
    describe,
    driver_of,
    has_gpu,
    owner_of,
    retyped,
    set_type,
)

ACCELERATOR = "nccl"
"""What `accelerator` means, and `auto` between actors that have GPUs of their own."""

LENDS = "cuda_ipc"
"""What `auto` means between actors that can open each other's memory."""

NEEDS_DEVICE = frozenset({ACCELERATOR, LENDS})

RAYS_WORDS_OF_NO_GPU = "actor does not have an accelerator assigned by Ray"
"""For those who look for Ray's message."""


def settle_transports(graph: GraphOp, topology: Topology | None = None) -> int:
    """
    Replace all requests by transports; returns how many values and collectives had one.

    Which devices are peers, `topology` says; without one, none are.
    """
    driver, actors = driver_of(graph), actors_of(graph)
    block = body_of(graph).body.block
    consumers = consumers_of_body(block, driver)
    settled = 0
    problems: list[str] = []
    for operation in block.ops:
        if isinstance(operation, CollectiveOp):
            settled += operation.transport.is_request
            problems += _settle_collective(operation, actors)
        for value in operation.results:
            if isinstance(value.type, TensorType) and isinstance(value.type.request, TransportAttr):
                ends = [owner_of(value, driver), *consumers.get(value, ())]
                transport = _transport(value.type, ends, actors, topology)
                problems += _problems(value, transport, ends, actors, driver)
                problems += _unopened(value, transport, ends, actors, driver, topology)
                set_type(value, retyped(value.type, request=transport))
                settled += 1
    if problems:
        raise GraphError("\n  ".join(problems))
    return settled


def _transport(
    requested: TensorType, ends: list[str], actors: Mapping[str, ActorOp], topology: Topology | None
) -> TransportAttr:
    request = requested.request
    assert isinstance(request, TransportAttr), "only for values that ask for a transport"
    if not request.is_request:
        return request
    if request.kind.data == "accelerator":
        return TransportAttr.of(ACCELERATOR)
    sender, receivers = actors[ends[0]], [actors[end] for end in ends[1:] if end != ends[0]]
    is_for_host = requested.device.data == "cpu"  # shared memory takes it off its device once, for all receivers
    if receivers and not is_for_host and all(_can_open(sender, receiver, topology) for receiver in receivers):
        return TransportAttr.of(LENDS)
    return TransportAttr.of(ACCELERATOR if _can_meet(set(ends), actors) else "shm")


def _can_open(sender: ActorOp, receiver: ActorOp, topology: Topology | None) -> bool:
    """
    True if the receiver can open the memory of the sender's tensors.

    Only for actors of one device each: where several are, nobody knows yet on which the tensors will be.
    """
    if sender.node != receiver.node or not (has_gpu(sender) and has_gpu(receiver)):
        return False
    if len(sender.device_names) != 1 or len(receiver.device_names) != 1:
        return False
    (source,), (target,) = sender.device_names, receiver.device_names
    return source == target or (topology is not None and topology.are_peers(sender.node.data, source, target))


def _can_meet(ends: set[str], actors: Mapping[str, ActorOp]) -> bool:
    """True if the devices' own communicator can join the actors: each needs a device that no other one has."""
    devices = [(actors[end].node.data, device) for end in ends for device in actors[end].device_names]
    return len(ends) > 1 and all(has_gpu(actors[end]) for end in ends) and len(set(devices)) == len(devices)


def _problems(
    value: SSAValue, transport: TransportAttr, ends: list[str], actors: Mapping[str, ActorOp], driver: str
) -> list[str]:
    """Why the value cannot travel that way, one sentence for each receiver that it cannot reach."""
    kind = transport.kind.data
    found = []
    for receiver in ends[1:]:
        if receiver == ends[0]:
            continue
        if transport.is_rendezvous and driver in (ends[0], receiver):
            # Ray's sentences, for those who look for them.
            ray = (
                "DAG inputs cannot be transferred via accelerator because the driver cannot participate in the"
                " communicator group"
                if ends[0] == driver
                else "Driver cannot participate in the communicator group."
            )
            found.append(
                f"{describe(value, driver)} cannot go from {ends[0]} to {receiver} via {kind}: the driver is in no"
                f" communicator ({ray}); use transport 'shm' for values that the driver sends or gets"
            )
        elif kind in NEEDS_DEVICE and not (has_gpu(actors[ends[0]]) and has_gpu(actors[receiver])):
            without = [end for end in (ends[0], receiver) if not has_gpu(actors[end])]
            found.append(
                f"{describe(value, driver)} cannot go from {ends[0]} to {receiver} via {kind}: {_no_gpu(without)};"
                f" use transport 'auto' or 'shm', or create the actors with num_gpus=1 ({RAYS_WORDS_OF_NO_GPU})"
            )
    return found


def _unopened(
    value: SSAValue,
    transport: TransportAttr,
    ends: list[str],
    actors: Mapping[str, ActorOp],
    driver: str,
    topology: Topology | None,
) -> list[str]:
    """Why memory that the IR says is lent cannot be opened, one sentence for each receiver with a GPU."""
    if not transport.lends:
        return []
    sender, *receivers = ends
    return [
        f"{describe(value, driver)} cannot go from {sender} to {receiver} via {transport.kind.data}: they neither share"
        " their only GPU nor does the topology call their GPUs peers; use transport 'auto' or 'shm'"
        for receiver in receivers
        if receiver != sender and has_gpu(actors[receiver]) and has_gpu(actors[sender])
        if not _can_open(actors[sender], actors[receiver], topology)
    ]


def _settle_collective(operation: CollectiveOp, actors: Mapping[str, ActorOp]) -> list[str]:
    without = [name for name in operation.participant_names if not has_gpu(actors[name])]
    nodes = {actors[name].node for name in operation.participant_names}
    if operation.transport.is_request:
        shares = len(without) == len(operation.participant_names) and len(nodes) == 1
        operation.properties["transport"] = TransportAttr.of("shm" if shares else ACCELERATOR)
    if operation.transport.kind.data == "shm" and len(nodes) > 1:
        return [f"{_title(operation)}: they are on several nodes; pass a communicator, or default_communicator='gloo'"]
    if operation.transport.kind.data not in NEEDS_DEVICE or not without:
        return []
    return [
        f"{_title(operation)}: {_no_gpu(without)}; create the actors with num_gpus=1, or pass a communicator for CPU"
        f" tensors ({RAYS_WORDS_OF_NO_GPU})"
    ]


def _title(operation: CollectiveOp) -> str:
    name, kind = operation.name.removeprefix("cgc."), operation.transport.kind.data
    return f"{name} of {', '.join(operation.participant_names)} via {kind}"


def _no_gpu(actors: Sequence[str]) -> str:
    *others, last = actors
    return f"{', '.join(others)} and {last} have no GPU" if others else f"{last} has no GPU"


@dataclass(frozen=True)
class InferTypesPass(Pass):
    """See the top of this file."""

    name = "infer-types"
    accepts = ("graph",)

    def apply(self, graph: GraphOp, context: PassContext) -> None:
        settled = settle_transports(graph, context.cost.topology)
        context.count("settled", settled)
        if not settled:
            context.keep()
