"""How transports are settled, and the errors that name both ends."""

import pytest
from ray.dag import InputNode, MultiOutputNode

from cgc.errors import GraphError
from cgc.ir import Link, Topology, Unit, parse_module
from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph
from cgc.passes.analysis.cost import CostModel
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of

CPU = abstract_actor("Stage", name="cpu")
GPUS = [abstract_actor("Stage", name=f"gpu{i}", devices=[f"gpu:{i}"]) for i in range(3)]


def _transports(sender, receivers, topology=None, **hint):
    """The transports of what `sender` sends to `receivers`, as the IR has them after `place-devices`."""
    with InputNode() as inp:
        value = sender.fwd.bind(inp).with_tensor_transport(**hint)
        dag = MultiOutputNode([receiver.fwd.bind(value) for receiver in receivers])
    unit = import_graph(dag)
    cost = CostModel(topology=topology)
    PassManager(passes_of("verify-graph,infer-types,place-devices"), cost=cost).run(unit)
    transfers = [op for op in unit.module.walk() if op.name == "cgc.transfer"]
    return [(t.transport.kind.data, len(t.receiver_names)) for t in transfers if t.sender_name == sender.info.name]


def _error(sender, receiver, **hint):
    with pytest.raises(GraphError) as caught:
        _transports(sender, [receiver], **hint)
    return str(caught.value)


def test_auto_between_cpu_actors_is_shared_memory():
    assert _transports(CPU, [GPUS[0]], transport="auto") == [("shm", 1)]


def test_auto_between_gpus_is_nccl_with_one_transfer_per_receiver():
    assert _transports(GPUS[0], GPUS[1:], transport="auto") == [("nccl", 1), ("nccl", 1)]


def test_auto_with_one_reader_without_gpu_is_shared_memory_for_all():
    assert _transports(GPUS[0], [GPUS[1], CPU], transport="auto") == [("shm", 2)]


def test_auto_between_actors_that_share_a_gpu_lends_with_one_transfer_for_all():
    shares = [abstract_actor("Stage", name=f"share{i}", devices=["gpu:0"]) for i in range(3)]
    elsewhere = abstract_actor("Stage", name="elsewhere", node="n1", devices=["gpu:0"])
    assert _transports(shares[0], [shares[1]], transport="auto") == [("cuda_ipc", 1)]
    assert _transports(shares[0], shares[1:], transport="auto") == [("cuda_ipc", 2)]
    assert _transports(shares[0], [elsewhere], transport="auto") == [("nccl", 1)]


def test_auto_with_one_reader_that_cannot_open_the_memory_does_not_lend():
    shares = [abstract_actor("Stage", name=f"share{i}", devices=["gpu:0"]) for i in range(2)]
    assert _transports(shares[0], [shares[1], CPU], transport="auto") == [("shm", 2)]
    assert _transports(shares[0], [shares[1], GPUS[1]], transport="auto") == [("shm", 2)]


def test_auto_for_the_host_is_shared_memory_between_actors_that_share_a_gpu():
    shares = [abstract_actor("Stage", name=f"share{i}", devices=["gpu:0"]) for i in range(2)]
    assert _transports(shares[0], [shares[1]], transport="auto", device="cpu") == [("shm", 1)]


def test_an_actor_of_two_gpus_does_not_lend():
    both = abstract_actor("Stage", name="both", devices=["gpu:0", "gpu:1"])
    assert _transports(both, [GPUS[0]], transport="auto") == [("shm", 1)]


def _topology(*peers):
    links = [Link(f"n0/{source}", f"n0/{target}", 2.0, 200.0, peers=True) for source, target in peers]
    return Topology({"n0": ("gpu:0", "gpu:1", "gpu:2")}, tuple(links))


def test_auto_between_peers_lends_the_way_that_the_topology_says():
    topology = _topology(("gpu:0", "gpu:1"))
    assert _transports(GPUS[0], [GPUS[1]], topology, transport="auto") == [("cuda_ipc", 1)]
    assert _transports(GPUS[1], [GPUS[0]], topology, transport="auto") == [("nccl", 1)]
    assert _transports(GPUS[0], GPUS[1:], topology, transport="auto") == [("nccl", 1), ("nccl", 1)]


def test_lending_between_devices_that_are_no_peers_names_both_ends():
    text = """
    cgc.graph @g level = graph {
      cgc.actor @driver driver on "n0"
      cgc.actor @a actor on "n0" devices ["gpu:0"]
      cgc.actor @b actor on "n0" devices ["gpu:1"]
      cgc.body {
        %0 = cgc.input : !cgc.object
        %1 = cgc.call @a::@f(%0) : !cgc.tensor<default, via cuda_ipc>
        %2 = cgc.call @b::@f(%1) : !cgc.object
        cgc.output [%2]
      }
    }"""
    with pytest.raises(GraphError, match=r"a\.f cannot go from a to b via cuda_ipc: they neither share their only GPU"):
        PassManager(passes_of("infer-types")).run(Unit(parse_module(text)))
    cost = CostModel(topology=_topology(("gpu:0", "gpu:1")))
    unit = PassManager(passes_of("infer-types,place-devices"), cost=cost).run(Unit(parse_module(text))).unit
    assert [op.transport.kind.data for op in unit.module.walk() if op.name == "cgc.transfer"] == [
        "shm",
        "cuda_ipc",
        "shm",
    ]


def test_nccl_to_an_actor_without_gpu_names_both_ends():
    message = _error(GPUS[0], CPU, transport="nccl")
    assert "the result of gpu0.fwd (test_infer_types.py:" in message
    assert "cannot go from gpu0 to cpu via nccl: cpu has no GPU; use transport 'auto' or 'shm'" in message


def test_nccl_between_actors_without_gpus_names_both():
    other = abstract_actor("Stage", name="other")
    assert "cpu and other have no GPU" in _error(CPU, other, transport="nccl")


def test_nccl_to_the_driver_is_refused():
    with InputNode() as inp:
        dag = GPUS[0].fwd.bind(inp).with_tensor_transport(transport="nccl")
    with pytest.raises(GraphError, match="from gpu0 to driver via nccl: the driver is in no communicator"):
        PassManager(passes_of("infer-types")).run(import_graph(dag))


def _collective(a: str, b: str, transport: str = "accelerator") -> Unit:
    return Unit(
        parse_module(f"""
    cgc.graph @g level = graph {{
      cgc.actor @driver driver on "n0"
      cgc.actor @a actor on {a}
      cgc.actor @b actor on {b}
      cgc.body {{
        %0 = cgc.input : !cgc.object
        %1 = cgc.call @a::@f(%0) : !cgc.object
        %2 = cgc.call @b::@f(%0) : !cgc.object
        %3, %4 = cgc.allreduce sum(%1, %2) on [@a, @b] via {transport} : !cgc.tensor<default>, !cgc.tensor<default>
        cgc.output [%3, %4]
      }}
    }}""")
    )


@pytest.mark.parametrize(
    ("a", "b", "transport"),
    [
        ('"n0"', '"n0"', "shm"),
        ('"n0" devices ["gpu:0"]', '"n0" devices ["gpu:1"]', "nccl"),
        ('"n0" devices ["gpu:0"]', '"n1" devices ["gpu:0"]', "nccl"),
    ],
)
def test_a_collective_goes_where_its_participants_can_meet(a, b, transport):
    unit = _collective(a, b)
    PassManager(passes_of("infer-types")).run(unit)
    (operation,) = [op for op in unit.module.walk() if op.name == "cgc.allreduce"]
    assert operation.transport.kind.data == transport


@pytest.mark.parametrize(
    ("a", "b", "transport", "message"),
    [
        ('"n0"', '"n0" devices ["gpu:0"]', "accelerator", "allreduce of a, b via nccl: a has no GPU; create"),
        ('"n0"', '"n1"', "accelerator", "allreduce of a, b via nccl: a and b have no GPU; create"),
        ('"n0"', '"n1"', "shm", "allreduce of a, b via shm: they are on several nodes; pass a communicator"),
    ],
)
def test_a_collective_whose_participants_cannot_meet_is_refused(a, b, transport, message):
    with pytest.raises(GraphError, match=message):
        PassManager(passes_of("infer-types")).run(_collective(a, b, transport))


def test_device_that_a_receiver_lacks_names_both_ends():
    message = _error(GPUS[0], CPU, transport="shm", device="gpu")
    assert "is wanted on gpu by cpu, which has no GPU, and comes from gpu0" in message
