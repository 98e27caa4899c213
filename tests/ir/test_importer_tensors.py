"""`import_graph`: hints for tensors, communicators and collectives."""

from __future__ import annotations

from types import ModuleType

import pytest
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.channel.communicator import Communicator
from ray.experimental.util.types import ReduceOp

from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph
from tests.ir.imported import Stage, body, expected

HINTS = {
    "auto": "default, via auto",
    "shm": "default, via shm",
    "nccl": "default, via accelerator",
    "accelerator": "default, via accelerator",
}


@pytest.mark.parametrize("transport", HINTS)
def test_transport_hints_are_types(transport):
    a = abstract_actor(Stage)
    with InputNode() as inp:
        dag = a.fwd.bind(inp).with_tensor_transport(transport)
    assert f"!cgc.tensor<{HINTS[transport]}>" in body(import_graph(dag))


def test_hints_of_devices_flags_inputs_and_results():
    a = abstract_actor(Stage)
    with InputNode() as inp:
        inp.with_tensor_transport(device="cpu")
        x, y = a.split.bind(inp)
        y.with_tensor_transport(device="cuda", _static_shape=True, _direct_return=True)
        dag = MultiOutputNode([x, y])
    text = body(import_graph(dag))
    assert "%0 = cgc.input : !cgc.tensor<cpu, via auto>" in text
    assert " : !cgc.object, !cgc.tensor<gpu, via auto, static, direct>" in text


@pytest.mark.parametrize(("transport", "via"), HINTS.items())
def test_hints_of_attributes_and_items_of_the_input(transport, via):
    a = abstract_actor(Stage)
    with InputNode() as inp:
        attribute, item = inp.x.with_tensor_transport(transport), inp[0].with_tensor_transport(transport)
        dag = MultiOutputNode([a.fwd.bind(attribute), a.fwd.bind(item), a.fwd.bind(inp.y)])
    assert body(import_graph(dag)) == expected(f"""
        %0 = cgc.input
        %1 = cgc.input_attr %0 attr "x" : !cgc.tensor<{via}>
        %2 = cgc.input_attr %0[0] : !cgc.tensor<{via}>
        %3 = cgc.call @Stage_0::@fwd(%1)
        %4 = cgc.call @Stage_0::@fwd(%2)
        %5 = cgc.input_attr %0 attr "y"
        %6 = cgc.call @Stage_0::@fwd(%5)
        cgc.output [%3, %4, %6]
    """)


class LocalCommunicator(Communicator):
    """A communicator of the user; only its identity matters here."""

    def __init__(self, handles):
        self._handles = handles

    def initialize(self, rank): ...
    def get_rank(self, actor): ...
    def get_world_size(self): ...
    def get_self_rank(self): ...
    def get_actor_handles(self):
        return self._handles

    def send(self, value, peer_rank): ...
    def recv(self, shape, dtype, peer_rank, allocator=None): ...
    def allgather(self, send_buf, recv_buf): ...
    def allreduce(self, send_buf, recv_buf, op): ...
    def reducescatter(self, send_buf, recv_buf, op): ...
    def destroy(self): ...
    def get_transport_name(self):
        return "accelerator"

    @property
    def recv_stream(self): ...
    @property
    def send_stream(self): ...
    @classmethod
    def generate_communicator_id(cls): ...


def test_a_communicator_of_the_user_is_an_object(collective: ModuleType):
    a, b = abstract_actor(Stage), abstract_actor(Stage)
    communicator = LocalCommunicator([a, b])
    with InputNode() as inp:
        x = a.fwd.bind(inp).with_tensor_transport(communicator)
        dag = MultiOutputNode(collective.allreduce.bind([x, b.fwd.bind(inp)], transport=communicator))
    unit = import_graph(dag)
    assert body(unit).count('via custom<0, "LocalCommunicator">') == 2
    assert unit.constants[0] is communicator


def test_collectives_are_one_operation(collective: ModuleType):
    a, b = abstract_actor(Stage), abstract_actor(Stage)
    with InputNode() as inp:
        pair = [a.fwd.bind(inp), b.fwd.bind(inp)]
        pair = collective.allreduce.bind(pair, op=ReduceOp.MAX)
        pair = collective.allgather.bind(pair)
        dag = MultiOutputNode(collective.reducescatter.bind(pair))
    types = " : !cgc.tensor<default, direct>, !cgc.tensor<default, direct>"
    assert body(import_graph(dag)) == expected(f"""
        %0 = cgc.input
        %1 = cgc.call @Stage_0::@fwd(%0)
        %2 = cgc.call @Stage_1::@fwd(%0)
        %3, %4 = cgc.allreduce max(%1, %2) on [@Stage_0, @Stage_1] via accelerator{types}
        %5, %6 = cgc.allgather(%3, %4) on [@Stage_0, @Stage_1] via accelerator{types}
        %7, %8 = cgc.reduce_scatter sum(%5, %6) on [@Stage_0, @Stage_1] via accelerator{types}
        cgc.output [%7, %8]
    """)


def test_a_collective_of_several_tensors(collective: ModuleType):
    a, b = abstract_actor(Stage), abstract_actor(Stage)
    with InputNode() as inp:
        first = [a.fwd.bind(inp), b.fwd.bind(inp)]
        second = [a.fwd.bind(inp), b.fwd.bind(inp)]
        (a0, a1), (b0, b1) = collective.allreduce.bind([first, second])
        dag = MultiOutputNode([a0, b0, a1, b1])
    text = body(import_graph(dag))
    # Grouped by participant: both tensors of the first actor, then both of the second.
    assert "%5, %6, %7, %8 = cgc.allreduce sum(%1, %3, %2, %4) on [@Stage_0, @Stage_1]" in text
    assert text.endswith("cgc.output [%5, %7, %6, %8]")
