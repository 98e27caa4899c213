"""The graphs that the tests of the passes compile, on actors that exist on paper only."""

from ray.dag import InputNode, MultiOutputNode

from cgc.ir.abstract import abstract_actor


def _actors(count, **settings):
    return [abstract_actor("Stage", name=name, **settings) for name in "abcdefgh"[:count]]


def echo():
    (a,) = _actors(1)
    with InputNode() as inp:
        return a.echo.bind(inp)


def chain():
    a, b, c = _actors(3)
    with InputNode() as inp:
        return c.fwd.bind(b.fwd.bind(a.fwd.bind(inp)))


def fan_out():
    """One input for three actors, all of whose results are outputs."""
    actors = _actors(3)
    with InputNode() as inp:
        return MultiOutputNode([actor.fwd.bind(inp) for actor in actors])


def diamond():
    """One value with two readers, and two values that meet."""
    a, b, c, d = _actors(4)
    with InputNode() as inp:
        x = a.split.bind(inp)
        return d.join.bind(b.left.bind(x), c.right.bind(x))


def crossing():
    """Two actors that send to each other at the same time (ray issue 45594)."""
    a, b = _actors(2)
    with InputNode() as inp:
        x, y = a.first.bind(inp), b.first.bind(inp)
        return MultiOutputNode([a.second.bind(y), b.second.bind(x)])


def crossing_with_communicator():
    """The same over a transport on which both ends meet."""
    a, b = (abstract_actor("Stage", name=name, devices=[device]) for name, device in (("a", "gpu:0"), ("b", "gpu:1")))
    with InputNode() as inp:
        x = a.first.bind(inp).with_tensor_transport(transport="nccl")
        y = b.first.bind(inp).with_tensor_transport(transport="nccl")
        return MultiOutputNode([a.second.bind(y), b.second.bind(x)])


def broadcast():
    """One value for three actors over a communicator, which is one message with the option `broadcast`."""
    a, b, c, d = (abstract_actor("Stage", name=name, devices=[f"gpu:{i}"]) for i, name in enumerate("abcd"))
    with InputNode() as inp:
        x = a.fwd.bind(inp).with_tensor_transport(transport="nccl")
        return MultiOutputNode([actor.fwd.bind(x) for actor in (b, c, d)])


def turns():
    """Two actors that take turns: what one sends is taken before it sends again, so that one ring does."""
    a, b = _actors(2)
    with InputNode() as inp:
        return b.last.bind(a.second.bind(b.answer.bind(a.first.bind(inp))))


def several_calls():
    """One actor is called three times; its calls keep their order."""
    a, b = _actors(2)
    with InputNode() as inp:
        x = a.one.bind(inp)
        y = b.work.bind(x)
        z = a.two.bind(inp)
        return MultiOutputNode([a.three.bind(y), z])


def edge_within_an_actor():
    a, b = _actors(2)
    with InputNode() as inp:
        x = a.one.bind(inp)
        return b.join.bind(a.two.bind(x), x)


def input_attributes():
    """Parts of the input by position, item and attribute; two parts go to the same actor."""
    a, b = _actors(2)
    with InputNode() as inp:
        return MultiOutputNode([a.add.bind(inp[0], inp["scale"]), b.add.bind(inp.bias, 1)])


def several_results():
    """A method with two results for the same reader, and one with two results for different ones."""
    a, b, c = _actors(3)
    with InputNode() as inp:
        x, y = a.split.options(num_returns=2).bind(inp)
        u, v = b.split.options(num_returns=2).bind(x, y)
        return MultiOutputNode([c.fwd.bind(u), a.fwd.bind(v)])


def unused_result():
    """A method with two results, one of which nobody takes."""
    a, b = _actors(2)
    with InputNode() as inp:
        x, _ = a.split.options(num_returns=2).bind(inp)
        return b.fwd.bind(x)


def constants_and_keywords():
    a, b = _actors(2)
    with InputNode() as inp:
        x = a.scale.bind(inp, 2, 0.5, "text", None, True, factor=[1, 2])
        return b.join.bind(3, left=x, right=inp, name="é")


def several_outputs_of_one_actor():
    """All that goes to the driver alone shares a message."""
    a, b = _actors(2)
    with InputNode() as inp:
        x, y = a.one.bind(inp), a.two.bind(inp)
        return MultiOutputNode([x, y, b.fwd.bind(y), a.three.bind(inp)])


def two_nodes():
    """Values for another node go over the network, once for all readers there."""
    a = abstract_actor("Stage", name="a", node="n0")
    b, c = (abstract_actor("Stage", name=name, node="n1") for name in "bc")
    d = abstract_actor("Stage", name="d", node="n0")
    with InputNode() as inp:
        x = a.fwd.bind(inp)
        return MultiOutputNode([b.fwd.bind(x), c.fwd.bind(x), d.fwd.bind(x)])


def hints():
    """What the user said about tensors: `auto` without GPUs is shared memory, and shapes may be known."""
    a, b = _actors(2)
    with InputNode() as inp:
        x = a.fwd.bind(inp).with_tensor_transport(transport="auto")
        return b.fwd.bind(x).with_tensor_transport(device="cpu")


def tensors_between_gpus():
    """`auto` between GPUs is nccl, with one transfer per receiver; through host memory a hint for a GPU is a copy."""
    a, b, c = (abstract_actor("Stage", name=name, devices=[f"gpu:{i}"]) for i, name in enumerate("abc"))
    with InputNode() as inp:
        x = a.fwd.bind(inp).with_tensor_transport(transport="auto")
        y = b.fwd.bind(x).with_tensor_transport(transport="shm", device="gpu")
        return MultiOutputNode([c.join.bind(x, y)])


def tensors_on_one_gpu():
    """`auto` between actors that share a GPU lends: one message for all readers, in which handles travel."""
    a, b, c = (abstract_actor("Stage", name=name, devices=["gpu:0"]) for name in "abc")
    with InputNode() as inp:
        x = a.fwd.bind(inp).with_tensor_transport(transport="auto")
        y = b.fwd.bind(x).with_tensor_transport(transport="auto", device="gpu")
        return MultiOutputNode([c.join.bind(x, y)])


def nodes_within_containers():
    """Lists, tuples and dicts with nodes in them are made anew for each call."""
    a, b = _actors(2)
    with InputNode() as inp:
        x, y = a.one.bind(inp), a.two.bind([inp, 1])
        return b.join.bind([x, 2], {"left": (x, y)}, last=y)


def calls_of_constants():
    """What takes nothing begins with the execution: by a part of the input, or by a trigger."""
    a, b = _actors(2)
    with InputNode() as inp:
        x = a.load.bind("weights")
        y = b.load.bind(1)
        return MultiOutputNode([a.apply.bind(x, inp), y, inp])
