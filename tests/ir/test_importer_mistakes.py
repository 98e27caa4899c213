"""Faulty graphs that the IR cannot show: `import_graph` refuses them and names the node and its `.bind`."""

import pytest
from ray.dag import InputNode, MultiOutputNode

from cgc.errors import GraphError
from cgc.ir.abstract import abstract_actor
from cgc.ir.importer import import_graph
from tests.ir.imported import Stage


def test_cycle():
    a, b = abstract_actor(Stage), abstract_actor(Stage)
    with InputNode() as inp:
        x = a.fwd.bind(inp)
        y = b.fwd.bind(x)
        dag = a.fwd.bind(y)
    x._bound_args = (y,)
    with pytest.raises(GraphError) as caught:
        import_graph(dag)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the graph has a cycle")
    assert lines[1] == lines[-1]
    assert [line.rpartition(": ")[2] for line in lines[1:]] == ["Stage.fwd"] * 3
    assert len({line.split(":")[1] for line in lines[1:]}) == 2


def test_self_loop():
    a = abstract_actor(Stage)
    x = a.fwd.bind(1)
    x._bound_args = (x,)
    with pytest.raises(GraphError, match=r"cycle"):
        import_graph(x)


class Holder:
    def __init__(self, node):
        self.node = node


@pytest.mark.parametrize("wrap", [lambda n: {n}, lambda n: [Holder(n)], Holder], ids=["set", "in list", "object"])
@pytest.mark.parametrize("keyword", [False, True])
def test_nodes_where_no_value_can_be_put(wrap, keyword):
    a = abstract_actor(Stage)
    with InputNode() as inp:
        x = a.fwd.bind(inp)
        dag = a.fwd.bind(inp, k=wrap(x)) if keyword else a.fwd.bind(inp, wrap(x), 3)
    with pytest.raises(GraphError, match=r"mistakes\.py:\d+: Stage\.fwd: an argument is a \w+ with a node in it"):
        import_graph(dag)


def test_results_that_are_not_unpacked():
    a = abstract_actor(Stage)
    with pytest.raises(GraphError, match=r"output 0 is no node but a tuple; unpack it"):
        import_graph(MultiOutputNode([a.split.bind(1)]))
    with pytest.raises(GraphError, match=r"output 1 is no node but a int"):
        import_graph(MultiOutputNode([a.fwd.bind(1), 3]))


def test_generators():
    a = abstract_actor(Stage)
    x = a.fwd.bind(1)
    x._bound_options["num_returns"] = "streaming"
    with pytest.raises(GraphError, match=r"Stage\.fwd is a generator"):
        import_graph(x)


def test_a_multi_output_inside():
    a = abstract_actor(Stage)
    with pytest.raises(GraphError, match=r"MultiOutputNode can only be the end"):
        import_graph(a.fwd.bind(MultiOutputNode([a.fwd.bind(1)])))


@pytest.mark.parametrize("root", [3, None, [], "dag", Stage])
def test_roots_that_are_no_nodes(root):
    with pytest.raises(GraphError, match=r"expected a ray\.dag node"):
        import_graph(root)


def test_a_collective_that_is_not_connected(collective):
    a, b = abstract_actor(Stage), abstract_actor(Stage)
    with InputNode() as inp:
        x, _ = collective.allreduce.bind([a.fwd.bind(inp), b.fwd.bind(1)])
    with pytest.raises(GraphError, match=r"mistakes\.py:\d+: Stage\.allreduce.*2 participants, but only 1"):
        import_graph(x)
