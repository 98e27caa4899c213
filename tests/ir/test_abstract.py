"""Abstract actors bind like real ones."""

from __future__ import annotations

import pickle

import pytest
import ray
from ray.dag import ClassMethodNode

from cgc.ir.abstract import abstract_actor


class Stage:
    limit = 3

    def fwd(self, value):
        return value

    @ray.method(num_returns=2)
    def split(self, value):
        return value, value


@pytest.mark.parametrize("cls", [Stage, ray.remote(Stage)], ids=["plain", "remote"])
def test_methods_are_those_of_the_class(cls):
    actor = abstract_actor(cls)
    assert actor.info.class_name == "Stage"
    node = actor.fwd.bind(1)
    assert isinstance(node, ClassMethodNode)
    assert node.get_method_name() == "fwd"
    assert [output.output_idx for output in actor.split.bind(1)] == [0, 1]
    with pytest.raises(AttributeError, match=r"abstract_actor\(Stage\) has no method 'bwd' \(did you mean 'fwd'\?\)"):
        actor.bwd.bind(1)


def test_any_method_of_a_name():
    actor = abstract_actor("Model", name="m", node="n1", devices=["gpu:0"])
    assert actor.anything.bind().get_method_name() == "anything"
    assert len(actor.anything.options(num_returns=3).bind()) == 3
    assert (actor.info.name, actor.info.node, actor.info.devices) == ("m", "n1", ("gpu:0",))
    assert repr(actor) == "abstract_actor(m)"


def test_binds_are_counted_per_actor():
    first, second = abstract_actor(Stage), abstract_actor(Stage)
    nodes = [first.fwd.bind(1), second.fwd.bind(1), first.fwd.bind(1)]
    assert [node._get_bind_index() for node in nodes] == [0, 0, 1]


def test_actors_are_distinct_and_hashable():
    first, second = abstract_actor(Stage), abstract_actor(Stage)
    assert len({first, second, first}) == 2
    assert first != second


def test_nothing_but_bind_works():
    actor = abstract_actor(Stage)
    with pytest.raises(AttributeError):
        actor.fwd.remote(1)
    with pytest.raises(AttributeError):
        actor._private


def test_pickles():
    copy = pickle.loads(pickle.dumps(abstract_actor(Stage, name="s")))
    assert copy.info.name == "s"
    assert copy.split.bind(1)[0].num_returns == 2
