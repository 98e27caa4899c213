"""Every rule of `verify-graph`, broken once: the message has the place and the remedy."""

import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

from cgc.errors import GraphError
from cgc.ir import Unit, parse_module
from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph
from cgc.passes.manager import PassManager
from cgc.passes.verify_graph import VerifyGraphPass


@ray.remote
class Stage:
    def fwd(self, value):
        return value


@ray.remote
def function(value):
    return value


def _error(dag):
    with pytest.raises(GraphError) as caught:
        PassManager([VerifyGraphPass()]).run(import_graph(dag))
    assert isinstance(caught.value, ValueError), "what Ray raises for the same mistakes"
    return str(caught.value)


def _text_error(body):
    text = (
        'cgc.graph @g level = graph { cgc.actor @driver driver on "n0" cgc.actor @a actor on "n0"'
        f' cgc.actor @b actor on "n0" cgc.body {{ {body} }} }}'
    )
    with pytest.raises(GraphError) as caught:
        PassManager([VerifyGraphPass()]).run(Unit(parse_module(text)))
    return str(caught.value)


@pytest.fixture
def a():
    return abstract_actor("Stage", name="a")


def test_no_input(a):
    assert "the graph has no InputNode: wrap its construction in `with InputNode() as inp:`" in _error(a.fwd.bind(3))


def test_two_inputs(a):
    with InputNode() as first, InputNode() as second:
        message = _error(a.add.bind(first, second))
    assert "a second InputNode; the graph has one from test_verify_graph.py:" in message
    assert "use that one everywhere" in message


def test_whole_input_and_a_part_of_it(a):
    with InputNode() as inp:
        message = _error(a.add.bind(a.fwd.bind(inp), inp.scale))
    assert "takes the whole input, while test_verify_graph.py:" in message
    assert "bind either `inp` itself everywhere, or only parts" in message


def test_part_of_the_input_that_nobody_uses(a):
    with InputNode() as inp:
        assert inp["forgotten"] is not None
        message = _error(a.fwd.bind(inp["used"]))
    assert "part ['forgotten'] of the input is not used: bind it to a call, or remove it" in message


def test_part_of_the_input_from_its_end(a):
    with InputNode() as inp:
        message = _error(a.add.bind(inp[0], inp[-1]))
    assert "part [-1] of the input: the number of inputs follows from the parts, so count them from 0" in message


def test_leaf_that_is_no_output(a):
    with InputNode() as inp:
        a.log.bind(inp)
        message = _error(a.fwd.bind(inp))
    assert "test_verify_graph.py:" in message
    assert "the result of a.log is not used, so that nobody would learn of its errors: add the node to the" in message


def test_one_of_several_results_may_stay_unused(a):
    with InputNode() as inp:
        used, _ = a.split.options(num_returns=2).bind(inp)
    PassManager([VerifyGraphPass()]).run(import_graph(used))


def test_actor_class_that_is_not_instantiated():
    with InputNode() as inp:
        message = _error(Stage.bind().fwd.bind(inp))
    assert message.count("\n") == 0, "one mistake, one line"
    assert "Stage is an actor class that is not instantiated: create the actor with `Stage.remote()`" in message


def test_remote_function_that_is_a_leaf(a):
    with InputNode() as inp:
        function.bind(inp)
        message = _error(a.fwd.bind(function.bind(inp)))
    assert "the result of function is not used, so that nobody would learn of its errors" in message


def test_nobody_is_called():
    with InputNode() as inp:
        assert "the graph calls nobody: bind at least one method" in _error(MultiOutputNode([inp]))


def test_no_output():
    assert "the graph has no output: give MultiOutputNode at least one node" in _error(MultiOutputNode([]))


def test_participant_of_a_collective_twice():
    body = """
      %0 = cgc.input : !cgc.object
      %1 = cgc.call @a::@f(%0) : !cgc.object
      %2 = cgc.call @a::@g(%0) : !cgc.object
      %3, %4 = cgc.allreduce sum(%1, %2) on [@a, @a] via nccl : !cgc.tensor<gpu>, !cgc.tensor<gpu>
      cgc.output [%3, %4]"""
    assert "a takes part twice: give at most one value of each actor" in _text_error(body)


def test_collective_that_nobody_uses():
    body = """
      %0 = cgc.input : !cgc.object
      %1 = cgc.call @a::@f(%0) : !cgc.object
      %2 = cgc.call @b::@g(%0) : !cgc.object
      %3, %4 = cgc.allreduce sum(%1, %2) on [@a, @b] via nccl : !cgc.tensor<gpu>, !cgc.tensor<gpu>
      cgc.output [%1, %2]"""
    assert "the results of the collective are not used" in _text_error(body)


def test_call_of_the_driver():
    body = "%0 = cgc.input : !cgc.object %1 = cgc.call @driver::@f(%0) : !cgc.object cgc.output %1"
    assert "f is bound to the driver, which cannot be called" in _text_error(body)


def test_input_that_nobody_uses():
    body = "%0 = cgc.input : !cgc.object %1 = cgc.call @a::@f(3) : !cgc.object cgc.output %1"
    assert "nobody uses the input" in _text_error(body)


def test_all_violations_are_in_one_error(a):
    with InputNode() as inp:
        a.log.bind(inp)
        message = _error(MultiOutputNode([a.add.bind(inp, Stage.bind().fwd.bind(inp.k)), inp]))
    assert message.startswith("graph graph cannot be compiled, for 3 reasons:\n  ")
    assert message.count("\n") == 3
