"""
Refs: when they can be read, how often, in which order, and how many there may be.
"""

import copy
import gc
import pickle

import pytest
import ray
import ray.exceptions
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.compiled_dag_ref import CompiledDAGRef

CapacityExceeded = ray.exceptions.RayCgraphCapacityExceeded
ChannelTimeout = ray.exceptions.RayChannelTimeoutError


@pytest.fixture
def echo(compiled, workers):
    """A graph of one actor, compiled with the given options."""

    def compile_echo(**options):
        with InputNode() as inp:
            dag = workers[0].echo.bind(inp)
        return compiled(dag, **options)

    return compile_echo


@pytest.fixture
def two_outputs(compiled, workers):
    def compile_two(**options):
        with InputNode() as inp:
            dag = MultiOutputNode([workers[0].tag.bind(inp), workers[1].tag.bind(inp)])
        return compiled(dag, **options)

    return compile_two


def test_ref_is_rays_class_and_prints_like_it(echo):
    graph = echo()
    ref = graph.execute(1)
    assert isinstance(ref, CompiledDAGRef)
    assert str(ref) == f"CompiledDAGRef({graph.get_id()}, execution_index=0, channel_index=None)"
    assert ray.get(ref) == 1


def test_refs_of_several_outputs_print_their_index(two_outputs):
    graph = two_outputs()
    refs = graph.execute(1)
    assert [str(ref).rpartition(", ")[2] for ref in refs] == ["channel_index=0)", "channel_index=1)"]
    ray.get(refs)


def test_get_of_the_ref_itself(echo):
    graph = echo()
    assert graph.execute(1).get() == 1
    assert graph.execute(2).get(timeout=30) == 2


def test_a_ref_can_be_read_once(echo):
    ref = echo().execute(1)
    assert ray.get(ref) == 1
    with pytest.raises(
        ValueError, match=r"ray.get\(\) can only be called once on a CompiledDAGRef, and it was already called."
    ):
        ray.get(ref)


def test_the_same_ref_twice_in_a_list(echo):
    ref = echo().execute(1)
    with pytest.raises(ValueError, match="can only be called once"):
        ray.get([ref, ref])


def test_lists_of_refs(echo):
    graph = echo()
    refs = [graph.execute(i) for i in range(5)]
    assert ray.get(refs) == list(range(5))
    assert ray.get([]) == []


def test_lists_do_not_mix_with_object_refs(echo):
    ref = echo().execute(1)
    with pytest.raises(ValueError, match="must be a list of CompiledDAGRefs if there is any CompiledDAGRef within it"):
        ray.get([ref, ray.put(2)])
    assert ray.get(ref) == 1


def test_ray_wait_is_refused(echo):
    ref = echo().execute(1)
    with pytest.raises(TypeError, match=r"wait\(\) expected a list of ray.ObjectRef or ray.ObjectRefGenerator"):
        ray.wait([ref])
    with pytest.raises(TypeError, match="CompiledDAGRef"):
        ray.wait([ref])
    assert ray.get(ref) == 1


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (copy.copy, "CompiledDAGRef cannot be copied."),
        (copy.deepcopy, "CompiledDAGRef cannot be deep copied."),
        (pickle.dumps, "CompiledDAGRef cannot be pickled."),
    ],
)
def test_refs_are_not_copied(use, message, echo):
    ref = echo().execute(1)
    with pytest.raises(ValueError, match=message):
        use(ref)
    assert ray.get(ref) == 1


def test_refs_are_not_passed_to_tasks_or_stored(echo, workers):
    ref = echo().execute(1)
    with pytest.raises(TypeError, match="CompiledDAGRef cannot be used as Ray task/actor argument"):
        workers[1].echo.remote(ref)
    for use, argument in ((workers[1].echo.remote, [ref]), (ray.put, ref), (ray.put, {"ref": ref})):
        with pytest.raises(TypeError, match="Serialization of CompiledDAGRef is not supported"):
            use(argument)
    assert ray.get(ref) == 1


def test_refs_of_several_outputs_are_not_stored_and_not_waited_for(two_outputs):
    refs = two_outputs().execute(1)
    for value in (refs[0], refs):
        with pytest.raises(TypeError, match="Serialization of CompiledDAGRef is not supported"):
            ray.put(value)
    with pytest.raises(TypeError, match=r"<class 'ray\.experimental\.compiled_dag_ref\.CompiledDAGRef'>"):
        ray.wait(refs)
    assert ray.get(refs) == ["1>a", "1>b"]


def test_results_out_of_order(echo):
    graph = echo()
    refs = [graph.execute(i) for i in range(8)]
    order = [7, 0, 3, 2, 6, 1, 5, 4]
    assert [ray.get(refs[i]) for i in order] == order


def test_outputs_out_of_order_over_executions(two_outputs):
    graph = two_outputs()
    refs = [graph.execute(i) for i in range(3)]
    assert ray.get(refs[2][1]) == "2>b"
    assert ray.get(refs[0][0]) == "0>a"
    assert ray.get(refs[2][0]) == "2>a"
    assert ray.get([refs[1][1], refs[0][1], refs[1][0]]) == ["1>b", "0>b", "1>a"]


@pytest.mark.parametrize("limit", [1, 3])
def test_inflight_limit(limit, echo):
    graph = echo(_max_inflight_executions=limit)
    refs = [graph.execute(i) for i in range(limit)]
    message = (
        rf"The compiled graph can't have more than {limit} in-flight executions, and you currently have {limit} "
        r"in-flight executions. Retrieve an output using ray.get before submitting more requests or increase "
        r"`_max_inflight_executions`. `dag.experimental_compile\(_max_inflight_executions=...\)`"
    )
    for _ in range(2):
        with pytest.raises(CapacityExceeded, match=message):
            graph.execute(limit)
    assert ray.get(refs[0]) == 0
    refs.append(graph.execute(limit))
    assert ray.get(refs[1:]) == list(range(1, limit + 1))


def test_reading_a_later_result_ends_the_flight_of_earlier_ones(echo):
    graph = echo(_max_inflight_executions=3)
    refs = [graph.execute(i) for i in range(3)]
    assert ray.get(refs[2]) == 2
    more = [graph.execute(i) for i in range(3, 6)]
    with pytest.raises(CapacityExceeded):
        graph.execute(6)
    assert ray.get(more) == [3, 4, 5]
    assert ray.get(refs[:2]) == [0, 1]


def test_buffered_results_limit(echo):
    graph = echo(_max_buffered_results=1)
    refs = [graph.execute(i) for i in range(3)]
    message = (
        "The compiled graph can't have more than 1 buffered results, and you currently have 1 buffered results. "
        r"Call `ray.get\(\)` on CompiledDAGRef's \(or await on CompiledDAGFuture's\) to retrieve results, or increase "
        "`_max_buffered_results` if buffering is desired, note that this will increase driver memory usage."
    )
    with pytest.raises(CapacityExceeded, match=message):
        ray.get(refs[2])
    assert ray.get(refs[:2]) == [0, 1]


def test_buffered_results_limit_with_several_outputs(two_outputs):
    graph = two_outputs(_max_buffered_results=1)
    refs = [graph.execute(i) for i in range(3)]
    with pytest.raises(CapacityExceeded, match="more than 1 buffered results, and you currently have 1 buffered"):
        ray.get(refs[2])
    assert ray.get(refs[0]) == ["0>a", "0>b"]
    assert ray.get(refs[1]) == ["1>a", "1>b"]


def test_half_read_execution_counts_as_buffered(two_outputs):
    graph = two_outputs(_max_buffered_results=2)
    refs = [graph.execute(i) for i in range(4)]
    assert ray.get(refs[0][0]) == "0>a"
    assert ray.get(refs[1][1]) == "1>b"
    with pytest.raises(CapacityExceeded, match="more than 2 buffered results, and you currently have 2 buffered"):
        ray.get(refs[2][0])
    assert ray.get(refs[0][1]) == "0>b"
    assert ray.get(refs[2][1]) == "2>b"


def test_dropped_refs_release_their_slots(echo):
    graph = echo(_max_inflight_executions=2)
    for i in range(10):
        graph.execute(i)
    ref = graph.execute("kept")
    assert ray.get(ref) == "kept"


def test_dropped_refs_between_kept_ones(echo):
    graph = echo(_max_inflight_executions=10)
    refs = {i: graph.execute(i) for i in range(10)}
    for i in (1, 2, 5, 9):
        del refs[i]
    gc.collect()
    assert {i: ray.get(ref) for i, ref in refs.items()} == {i: i for i in (0, 3, 4, 6, 7, 8)}
    assert ray.get([graph.execute(i) for i in range(10)]) == list(range(10))


def test_dropped_outputs(two_outputs):
    graph = two_outputs(_max_inflight_executions=2, _max_buffered_results=2)
    for i in range(6):
        first, _ = graph.execute(i)
        assert ray.get(first) == f"{i}>a"
        del first, _
    for i in range(6):
        graph.execute(i)
    assert ray.get(graph.execute("end")) == ["end>a", "end>b"]


def test_time_out_names_the_variable(compiled, workers):
    a = workers[0]
    with InputNode() as inp:
        dag = a.wait_for.bind(inp)
    graph = compiled(dag)
    ref = graph.execute("slow")
    message = "If the execution is expected to take a long time, increase RAY_CGRAPH_get_timeout which is currently 60"
    with pytest.raises(ChannelTimeout, match=message):
        ray.get(ref, timeout=0.1)
    ray.get(a.open.remote("slow"))
    later = graph.execute("slow")
    assert ray.get(later, timeout=30) == "slow"


def test_time_out_of_zero_tries_once(compiled, workers):
    a = workers[0]
    with InputNode() as inp:
        dag = a.wait_for.bind(inp)
    graph = compiled(dag)
    late = graph.execute("zero")
    with pytest.raises(ChannelTimeout):
        ray.get(late, timeout=0)
    ray.get(a.open.remote("zero"))
    second, third = graph.execute("zero"), graph.execute("zero")
    assert ray.get(third) == "zero"
    assert ray.get(second, timeout=0) == "zero"


def test_time_out_of_minus_one_waits(compiled, workers):
    a = workers[0]
    with InputNode() as inp:
        dag = a.wait_for.bind(inp)
    graph = compiled(dag)
    ref = graph.execute("ever")
    a.open.remote("ever")
    assert ray.get(ref, timeout=-1) == "ever"


@pytest.mark.parametrize("timeout", [-2, -0.5])
def test_other_negative_time_outs_are_refused(timeout, echo):
    graph = echo()
    with pytest.raises(AssertionError, match=r"Timeout must be non-negative or -1\."):
        ray.get(graph.execute(1), timeout=timeout)
    assert ray.get(graph.execute(2)) == 2


@pytest.mark.parametrize("timeout", [0, 5, -1])
def test_submit_timeout_does_not_matter_within_the_limits(timeout, echo):
    graph = echo(_submit_timeout=timeout)
    for i in range(3):
        assert ray.get(graph.execute(i)) == i


def test_time_out_of_a_list_applies_to_each(compiled, workers):
    a = workers[0]
    with InputNode() as inp:
        dag = a.wait_for.bind(inp)
    graph = compiled(dag)
    refs = [graph.execute(key) for key in ("one", "two")]
    ray.get(a.open.remote("one"))
    with pytest.raises(ChannelTimeout):
        ray.get(refs, timeout=1)
    ray.get(a.open.remote("two"))
    assert ray.get(graph.execute("two"), timeout=30) == "two"
