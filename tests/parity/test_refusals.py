"""
What is refused when a graph is compiled: the same mistakes, the same words.

What Ray refuses and cgc does not is in `docs/ray-differences.md` and tested with cgc alone.
"""

import pytest
import ray
from ray.dag import InputNode, MultiOutputNode


def test_no_input_node(compiled, workers):
    call = workers[0].echo.bind(1)
    message = "No InputNode found in the DAG: when traversing upwards, no upstream node was found for"
    for dag in (call, MultiOutputNode([call]), MultiOutputNode([])):
        with pytest.raises(ValueError, match=message):
            compiled(dag)


def test_two_input_nodes(compiled, workers):
    with InputNode() as first:
        inner = workers[0].echo.bind(first)
    with InputNode() as second:
        dag = workers[0].add.bind(inner, second)
    with pytest.raises(AssertionError, match="More than one InputNode found"):
        compiled(dag)


def test_actor_class_that_is_not_instantiated(compiled, implementation):
    @ray.remote
    class Lazy:
        def echo(self, value):
            return value

    with InputNode() as inp:
        dag = Lazy.bind().echo.bind(inp)
    with pytest.raises(ValueError, match=r"already created with Actor.remote\(\)"):
        compiled(dag)


def test_whole_input_and_parts_of_it(compiled, workers):
    a, b, *_ = workers
    message = "All tasks must either use InputNode.. directly, or they must index to specific args or kwargs"
    with InputNode() as inp:
        dag = MultiOutputNode([a.echo.bind(inp), b.echo.bind(inp[0])])
    with pytest.raises(ValueError, match=message):
        compiled(dag)
    with InputNode() as inp:
        dag = a.add.bind(inp.x, inp)
    with pytest.raises(ValueError, match=message):
        compiled(dag)


def test_leaf_nodes(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        a.tag.bind(inp)
        dag = b.echo.bind(inp)
    with pytest.raises(ValueError, match=r"Compiled DAG doesn't support leaf nodes.*There are 1 leaf nodes.*'tag'"):
        compiled(dag)
    assert ray.get(b.echo.remote("untouched")) == "untouched"


def test_unused_input_attributes(compiled, workers):
    with InputNode() as inp:
        inp.unused
        dag = workers[0].echo.bind(inp.used)
    with pytest.raises(ValueError, match=r"Compiled Graph expects input to be accessed.*unused is unused"):
        compiled(dag)


def test_input_attribute_of_which_only_a_leaf_depends(compiled, workers):
    with InputNode() as inp:
        workers[1].echo.bind(inp.unused)
        dag = workers[0].echo.bind(inp.used)
    with pytest.raises(ValueError, match=r"Compiled Graph expects input to be accessed.*unused is unused"):
        compiled(dag)


def test_graph_that_was_compiled_at_another_node(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        inner = a.tag.bind(inp)
    graph = compiled(inner)
    message = "The DAG was compiled more than once. The following two nodes call `experimental_compile`: "
    for outer in (b.tag.bind(inner), MultiOutputNode([inner]), b.tag.bind(inp)):
        with pytest.raises(ValueError, match=message):
            compiled(outer)
    graph.teardown()
    with pytest.raises(ValueError, match=message):
        compiled(MultiOutputNode([inner]))


def test_inputs_do_not_travel_by_accelerator(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp.with_tensor_transport(transport="accelerator"))
    with pytest.raises(ValueError, match="DAG inputs cannot be transferred via accelerator"):
        compiled(dag)


def test_outputs_do_not_travel_by_accelerator(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        inner = a.echo.bind(inp).with_tensor_transport(transport="accelerator")
        dag = MultiOutputNode([b.echo.bind(inner), inner])
    with pytest.raises(ValueError, match=r"Driver cannot participate in the communicator group\."):
        compiled(dag)


def test_accelerator_between_actors_that_have_none(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = b.echo.bind(a.echo.bind(inp).with_tensor_transport(transport="accelerator"))
    with pytest.raises(ValueError, match="actor does not have an accelerator assigned by Ray"):
        compiled(dag)


def test_accelerator_without_a_communicator(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = b.echo.bind(a.echo.bind(inp).with_tensor_transport(transport="accelerator"))
    message = (
        r"has no custom communicator specified\. Please specify a custom communicator for the DAGNode using "
        r"`with_tensor_transport\(\)`, or specify a communicator or 'create' for _default_communicator when calling "
        r"experimental_compile\(\)"
    )
    with pytest.raises(ValueError, match=message):
        compiled(dag, _default_communicator=None)


def test_default_communicator_of_other_actors_than_the_collective_has(compiled, workers):
    pytest.importorskip("torch")
    from ray.experimental.channel.cpu_communicator import CPUCommunicator
    from ray.experimental.collective import allreduce

    a, b, c, _ = workers
    message = "The passed-in communicator must have the same set of actors as the collective operation"
    for members in ([a], [a, b, c]):
        with InputNode() as inp:
            dag = MultiOutputNode(allreduce.bind([a.echo.bind(inp), b.echo.bind(inp)]))
        with pytest.raises(ValueError, match=message):
            compiled(dag, _default_communicator=CPUCommunicator(len(members), members))


@pytest.mark.parametrize("size", [0, -1, "large", 1.5])
def test_buffer_size(size, compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    with pytest.raises(ValueError, match="`buffer_size_bytes` must be a positive integer"):
        compiled(dag, _buffer_size_bytes=size)


def test_default_communicator(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    with pytest.raises(ValueError, match="The only allowed string for default_communicator is 'create', got make"):
        compiled(dag, _default_communicator="make")
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    with pytest.raises(ValueError, match="The default_communicator must be None, a string, or a Communicator"):
        compiled(dag, _default_communicator=5)


def test_unknown_option(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    with pytest.raises(TypeError, match="_max_inflight"):
        compiled(dag, _max_inflight=1)


def test_refused_graph_leaves_the_actors_free(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        a.tag.bind(inp)
        dag = MultiOutputNode([a.echo.bind(inp), b.echo.bind(inp)])
    with pytest.raises(ValueError, match="leaf"):
        compiled(dag)
    with InputNode() as inp:
        dag = MultiOutputNode([a.echo.bind(inp), b.echo.bind(inp)])
    assert ray.get(compiled(dag).execute(1)) == [1, 1]
