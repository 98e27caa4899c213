"""
Values in, values out: every shape of graph, input and output that Ray takes.
"""

import numpy as np
import pytest
import ray
from ray.dag import InputNode, MultiOutputNode


def test_echo_many_times(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    graph = compiled(dag)
    assert [ray.get(graph.execute(i)) for i in range(30)] == list(range(30))


def test_chain_over_actors_and_back(compiled, workers):
    a, b, c, _ = workers
    with InputNode() as inp:
        dag = a.tag.bind(c.tag.bind(b.tag.bind(a.tag.bind(inp))))
    graph = compiled(dag)
    assert [ray.get(graph.execute(i)) for i in range(3)] == [f"{i}>a>b>c>a" for i in range(3)]


def test_several_calls_of_one_actor_run_in_the_order_of_bind(compiled, workers):
    a = workers[0]
    ray.get(a.forget.remote())
    with InputNode() as inp:
        outputs = [a.record.bind(label, inp) for label in "pqr"]
        dag = MultiOutputNode(outputs[::-1])
    graph = compiled(dag)
    for i in range(3):
        longest = ray.get(graph.execute(i))[0]
    assert longest == [(label, i) for i in range(3) for label in "pqr"]


def test_multi_output_returns_a_list_of_refs(compiled, workers):
    a, b, c, _ = workers
    with InputNode() as inp:
        dag = MultiOutputNode([a.tag.bind(inp), b.tag.bind(inp), c.tag.bind(inp)])
    graph = compiled(dag)
    refs = graph.execute("m")
    assert isinstance(refs, list)
    assert ray.get(refs) == ["m>a", "m>b", "m>c"]
    first, second, third = graph.execute("n")
    assert [ray.get(third), ray.get(first), ray.get(second)] == ["n>c", "n>a", "n>b"]


def test_multi_output_of_one_is_still_a_list(compiled, workers):
    with InputNode() as inp:
        dag = MultiOutputNode([workers[0].echo.bind(inp)])
    graph = compiled(dag)
    refs = graph.execute(1)
    assert len(refs) == 1
    assert ray.get(refs) == [1]


def test_inner_values_may_be_outputs_too(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        inner = a.tag.bind(inp)
        dag = MultiOutputNode([inner, b.tag.bind(inner)])
    graph = compiled(dag)
    assert ray.get(graph.execute(0)) == ["0>a", "0>a>b"]


def test_diamond(compiled, workers):
    a, b, c, d = workers
    with InputNode() as inp:
        source = a.tag.bind(inp)
        dag = d.add.bind(b.tag.bind(source), c.tag.bind(source))
    graph = compiled(dag)
    assert ray.get(graph.execute(0)) == "0>a>b0>a>c"


def test_crossing_transfers_between_two_actors(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        from_a, from_b = a.tag.bind(inp), b.tag.bind(inp)
        dag = MultiOutputNode([a.tag.bind(from_b), b.tag.bind(from_a)])
    graph = compiled(dag)
    assert [ray.get(graph.execute(i)) for i in range(3)] == [[f"{i}>b>a", f"{i}>a>b"] for i in range(3)]


def test_positional_and_keyword_inputs(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = MultiOutputNode([a.total.bind(inp[0], inp[1], inp.bias), b.add.bind(inp[1], inp["bias"])])
    graph = compiled(dag)
    assert ray.get(graph.execute(1, 10, bias=100)) == [111, 110]
    assert ray.get(graph.execute(2, 20, bias=200)) == [222, 220]


def test_one_input_may_go_to_several_actors_and_twice_to_one(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = MultiOutputNode([a.add.bind(inp.x, inp.x), b.add.bind(inp.x, inp.y), a.add.bind(inp.y, inp.x)])
    graph = compiled(dag)
    assert ray.get(graph.execute(x=1, y=10)) == [2, 11, 11]


def test_index_leaves_out_the_inputs_before_it(compiled, workers):
    """`inp[1]` alone is refused as long as `inp[0]` counts as an input, so both are bound."""
    with InputNode() as inp:
        dag = workers[0].total.bind(inp[2], inp[0], inp[1])
    graph = compiled(dag)
    assert ray.get(graph.execute(1, 2, 3)) == 6


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "must be called with 1 positional args, got 0"),
        ((1, 2), {"bias": 1}, "must be called with 1 positional args, got 2"),
        ((1,), {}, "must be called with kwarg `bias`"),
    ],
)
def test_wrong_inputs_are_value_errors_and_the_graph_lives_on(args, kwargs, message, compiled, workers):
    with InputNode() as inp:
        dag = workers[0].add.bind(inp[0], inp.bias)
    graph = compiled(dag)
    with pytest.raises(ValueError, match=message):
        graph.execute(*args, **kwargs)
    assert ray.get(graph.execute(1, bias=2)) == 3


def test_surplus_keyword_is_ignored_where_inputs_are_named(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].add.bind(inp[0], inp.bias)
    graph = compiled(dag)
    assert ray.get(graph.execute(1, bias=2, unused=3)) == 3


def test_constants_positional_and_by_keyword(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = b.add.bind(a.add.bind(inp, 3, scale=10), np.array([1, 2]))
    graph = compiled(dag)
    np.testing.assert_array_equal(ray.get(graph.execute(1)), [41, 42])


def test_method_with_several_returns(compiled, workers):
    a, b, c, _ = workers
    with InputNode() as inp:
        left, right = a.split.bind(inp)
        dag = MultiOutputNode([b.tag.bind(left), c.tag.bind(right), right])
    graph = compiled(dag)
    for i in range(3):
        assert ray.get(graph.execute((i, -i))) == [f"{i}>b", f"{-i}>c", -i]


def test_num_returns_by_options(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        left, right = a.echo.options(num_returns=2).bind(inp)
        dag = b.add.bind(right, left)
    graph = compiled(dag)
    assert ray.get(graph.execute(("l", "r"))) == "rl"


VALUES = {
    "none": None,
    "bool": True,
    "big int": 1 << 100,
    "text": "grüße",
    "bytes": b"\x00\xff" * 70_000,
    "empty": [b"", "", [], {}, ()],
    "nested": {"k": [1, (2.5, {3, 4}), frozenset()], ("t", 1): None},
    "exception": KeyError("a value, not raised"),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_pass_unchanged(name, compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = b.echo.bind(a.echo.bind(inp))
    graph = compiled(dag)
    result = ray.get(graph.execute(VALUES[name]))
    assert type(result) is type(VALUES[name])
    assert repr(result) == repr(VALUES[name])


def test_growing_values(compiled, workers):
    with InputNode() as inp:
        dag = workers[1].echo.bind(workers[0].echo.bind(inp))
    graph = compiled(dag, _buffer_size_bytes=1000)
    for size in (10, 100_000, 10, 5_000_000, 10):
        assert ray.get(graph.execute(b"x" * size)) == b"x" * size


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (1 << 18,)])
def test_numpy_results_are_read_only(shape, compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    graph = compiled(dag)
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float64).reshape(shape)
    result = ray.get(graph.execute(array))
    np.testing.assert_array_equal(result, array)
    assert result.dtype == array.dtype
    assert not result.flags.writeable


@pytest.mark.parametrize("array", [np.arange(6)[::2], np.arange(3)[::-1], np.array(["2026-01-01"], "M8[D]")])
def test_numpy_arrays_with_gaps_and_of_dates_may_be_written(array, compiled, workers):
    def overwrite(received, value):
        received[0] = value
        return received

    with InputNode() as inp:
        dag = workers[0].call.bind(overwrite, inp.array, inp.value)
    graph = compiled(dag)
    result = ray.get(graph.execute(array=array, value=array[-1]))
    assert result.tolist() == [array[-1], *array[1:]]


def test_structured_numpy(compiled, workers):
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp)
    graph = compiled(dag)
    for array in (np.array(["a", "bc"]), np.array([1, "x", None], dtype=object), np.zeros(2, dtype="i4,f8")):
        result = ray.get(graph.execute(array))
        np.testing.assert_array_equal(result, array)
        assert result.dtype == array.dtype
        del result


def test_functions_and_local_classes(compiled, workers):
    class Local:
        def __init__(self, value):
            self.value = value

    factor = 7
    with InputNode() as inp:
        dag = workers[0].call.bind(inp.function, inp.value)
    graph = compiled(dag)
    assert ray.get(graph.execute(function=lambda x: x * factor, value=6)) == 42
    assert ray.get(graph.execute(function=lambda x: Local(x), value=5)).value == 5


def test_object_refs_and_actor_handles_inside_values(compiled, workers):
    a, b, *_ = workers
    with InputNode() as inp:
        dag = a.get.bind(inp)
    graph = compiled(dag)
    assert ray.get(graph.execute([ray.put("stored")])) == "stored"
    with InputNode() as inp:
        dag = b.call.bind(lambda handle: ray.get(handle.tag.remote("via handle")), inp)
    graph = compiled(dag)
    assert ray.get(graph.execute(workers[2])) == "via handle>c"


@pytest.mark.parametrize(
    "hint", [{}, {"transport": "shm"}, {"transport": "shm", "device": "cpu"}, {"transport": "auto"}]
)
def test_torch_cpu_tensors(hint, compiled, workers):
    torch = pytest.importorskip("torch")
    a, b, *_ = workers
    with InputNode() as inp:
        middle = a.echo.bind(inp)
        dag = b.add.bind(middle.with_tensor_transport(**hint) if hint else middle, 1)
    graph = compiled(dag)
    for count in (1, 1000, 10):
        result = ray.get(graph.execute(torch.arange(count)))
        assert torch.equal(result, torch.arange(count) + 1)


def test_tensors_inside_other_data(compiled, workers):
    torch = pytest.importorskip("torch")
    with InputNode() as inp:
        dag = workers[0].echo.bind(inp.with_tensor_transport(transport="shm"))
    graph = compiled(dag)
    result = ray.get(graph.execute({"t": [torch.ones(3), 2], "f": torch.zeros(2, 2, dtype=torch.float16)}))
    assert torch.equal(result["t"][0], torch.ones(3))
    assert result["f"].dtype is torch.float16
    assert result["t"][1] == 2


def test_no_state_leaks_between_executions(compiled, workers):
    """Each execution gets its own copy: what a method does to an argument does not show elsewhere."""
    a, b, *_ = workers
    with InputNode() as inp:
        changed = a.call.bind(lambda items: items.append(1) or items, inp)
        dag = MultiOutputNode([changed, b.echo.bind(inp)])
    graph = compiled(dag)
    items = [0]
    assert ray.get(graph.execute(items)) == [[0, 1], [0]]
    assert ray.get(graph.execute(items)) == [[0, 1], [0]]
    assert items == [0]


def test_outputs_are_as_they_were_returned(compiled, workers):
    """What a later call of the actor does to a result does not show in it, although both go to the driver."""
    a, b, *_ = workers

    def collect(items, value):
        items.append(value)
        return items

    def fill(box, value):
        if not box:
            box.append(np.zeros(4))
        box[0][:] = value
        return box[0]

    kept, box = [], []
    with InputNode() as inp:
        lists = [a.call.bind(collect, kept, inp.item) for _ in range(3)]
        arrays = [b.call.bind(fill, box, inp.number), b.call.bind(fill, box, inp.other)]
        dag = MultiOutputNode([*lists, *arrays])
    graph = compiled(dag)
    for i in range(2):
        first, second, third, low, high = ray.get(graph.execute(item=i, number=i, other=i + 10))
        assert (len(second), len(third)) == (len(first) + 1, len(first) + 2)
        assert (low.tolist(), high.tolist()) == ([i] * 4, [i + 10] * 4)
        del low, high


def test_references_in_a_result_that_waits_for_another_one(compiled, workers):
    a = workers[0]
    with InputNode() as inp:
        dag = MultiOutputNode([a.call.bind(ray.put, inp), a.odd.bind(inp)])
    graph = compiled(dag)
    for i in (1, 3):
        stored, odd = ray.get(graph.execute(i))
        assert (ray.get(stored), odd) == (i, i)


@pytest.mark.parametrize("transport", ["communicator", "default"])
def test_cpu_communicator_between_two_actors(transport, compiled, workers):
    """Ray's `CPUCommunicator` has collectives only: values between two actors go through shared memory."""
    torch = pytest.importorskip("torch")
    from ray.experimental.channel.cpu_communicator import CPUCommunicator

    a, b, *_ = workers
    communicator = CPUCommunicator(2, [a, b])
    hint = communicator if transport == "communicator" else "auto"
    with InputNode() as inp:
        dag = b.call.bind(torch.sum, a.echo.bind(inp).with_tensor_transport(transport=hint))
    graph = compiled(dag, _default_communicator=communicator)
    for size in (1, 10):
        assert ray.get(graph.execute(torch.ones(size))).item() == size


def test_collective_that_the_communicator_does_not_implement(compiled, workers):
    torch = pytest.importorskip("torch")
    from ray.experimental.channel.cpu_communicator import CPUCommunicator
    from ray.experimental.collective import allgather

    participants = workers[:2]
    with InputNode() as inp:
        values = [worker.call.bind(torch.ones, inp) for worker in participants]
        gathered = allgather.bind(values, transport=CPUCommunicator(2, participants))
        dag = MultiOutputNode([worker.echo.bind(value) for worker, value in zip(participants, gathered, strict=True)])
    graph = compiled(dag)
    for _ in range(2):
        for ref in graph.execute(2):
            with pytest.raises(NotImplementedError):
                ray.get(ref)
