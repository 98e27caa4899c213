"""Arrays that are made in the channel: sent without a copy, and no danger whatever becomes of them."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc

MIB = 1 << 20
COUNT = MIB // 8


@ray.remote(num_cpus=0)
class Worker:
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def total(self, array: Any) -> float:
        return float(np.asarray(array).sum())

    def look(self, array: np.ndarray) -> tuple[float, bool]:
        """The sum, and whether the memory can be written."""
        return float(array.sum()), array.flags.writeable

    def make(self, value: float) -> np.ndarray:
        array = cgc.alloc((COUNT // 4, 4))
        array[:] = value
        return array

    def make_dict(self, value: float) -> dict[str, Any]:
        array = cgc.alloc(COUNT, "float32")
        array[:] = value
        self.kept.append(array)
        return {"array": array, "text": "beside"}

    def is_in_channel(self, value: float) -> bool:
        return _is_in_channel(cgc.alloc(COUNT)) and not _is_in_channel(cgc.alloc(8))

    def elsewhere(self) -> bool:
        return _is_in_channel(cgc.alloc(COUNT))

    def kinds(self, value: Any) -> list[str]:
        return [str(cgc.alloc(4, kind).dtype) for kind in ("float32", "bool", "O")]

    def pair(self, value: float) -> tuple[np.ndarray, np.ndarray]:
        first, second = cgc.alloc(COUNT), cgc.alloc(COUNT)
        first[:], second[:] = value, -value
        return first, second

    def tensor_total(self, tensor: Any) -> float:
        return float(tensor.sum())


def _is_in_channel(array: np.ndarray) -> bool:
    """Whether the array's memory is a mapping of cgc's."""
    address = array.ctypes.data
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                return "memfd:cgc" in line
    return False


@pytest.fixture(scope="module")
def workers(ray_session: None) -> list[Any]:
    return [Worker.remote() for _ in range(2)]


def echo(worker: Any, method: str) -> Any:
    with InputNode() as inp:
        return cgc.compile(getattr(worker, method).bind(inp))


def test_an_input_lies_in_the_channel_and_is_not_copied(workers: list[Any], clean_shared_memory: None) -> None:
    with echo(workers[0], "look") as graph:
        for step in range(30):
            array = graph.alloc((4, COUNT // 4), np.float64)
            assert _is_in_channel(array)
            array[:] = step
            assert ray.get(graph.execute(array)) == (step * COUNT, False)
        before = graph.alloc(COUNT)
        before[:] = 1.0
        ref = graph.execute(before)
        assert ray.get(ref) == (COUNT, False)
        del array, before
        gc.collect()


def test_what_is_written_after_sending_is_seen(workers: list[Any]) -> None:
    """The rule that docs/tensors.md states: that nothing was copied is what this shows."""
    with InputNode() as inp:
        dag = workers[0].make.bind(inp)
    with cgc.compile(dag) as passing, echo(workers[1], "total") as graph:
        view = ray.get(passing.execute(2.0))
        assert not view.flags.writeable
        array = graph.alloc(COUNT)
        array[:] = 1.0
        assert ray.get(graph.execute(array)) == COUNT
        array[:] = 2.0
        assert ray.get(graph.execute(array)) == 2 * COUNT


def test_never_sent_sent_twice_sent_elsewhere_and_kept(workers: list[Any], clean_shared_memory: None) -> None:
    with echo(workers[0], "total") as graph, echo(workers[1], "total") as other:
        for _ in range(30):
            graph.alloc(COUNT)[:] = 5.0  # dropped unsent: its segment serves the next one
        array = graph.alloc(COUNT)
        array[:] = 3.0
        pending = [graph.execute(array), graph.execute(array), other.execute(array), graph.execute([array, array])]
        assert [ray.get(ref) for ref in pending] == [3.0 * COUNT] * 3 + [6.0 * COUNT]
        kept = [graph.alloc(COUNT) for _ in range(40)]
        assert _is_in_channel(kept[0])
        assert not _is_in_channel(kept[-1])  # ordinary memory rather than a wait
        for number, each in enumerate(kept):
            each[:] = number
        assert [ray.get(graph.execute(each)) for each in kept] == [float(n * COUNT) for n in range(40)]
    np.testing.assert_array_equal(array, 3.0)  # after the graph
    del array, kept, each
    gc.collect()


def test_results_of_methods(workers: list[Any], clean_shared_memory: None) -> None:
    with echo(workers[0], "make") as graph:
        results = [ray.get(graph.execute(float(step))) for step in range(20)]
        for step, result in enumerate(results):
            assert result.shape == (COUNT // 4, 4)
            np.testing.assert_array_equal(result, float(step))
        del results, result
    with echo(workers[0], "make_dict") as graph:
        for step in range(30):  # the actor keeps all of them
            result = ray.get(graph.execute(float(step)))
            assert result["text"] == "beside"
            np.testing.assert_array_equal(result["array"], np.float32(step))
        del result
    with echo(workers[0], "is_in_channel") as graph:
        assert ray.get(graph.execute(1.0))
    assert not ray.get(workers[0].elsewhere.remote())
    with echo(workers[0], "kinds") as graph:
        assert ray.get(graph.execute(1.0)) == ["float32", "bool", "object"]
    ray.get(workers[0].__ray_call__.remote(lambda worker: worker.kept.clear()))
    gc.collect()


def test_results_go_to_other_actors_and_several_outputs(workers: list[Any]) -> None:
    first, second = workers
    with InputNode() as inp:
        left, right = first.pair.options(num_returns=2).bind(inp)
        dag = MultiOutputNode([second.total.bind(left), second.total.bind(right), left])
    with cgc.compile(dag) as graph:
        for step in range(5):
            totals = ray.get(graph.execute(float(step)))
            assert totals[:2] == [step * COUNT, -step * COUNT]
            np.testing.assert_array_equal(totals[2], float(step))


def test_the_input_is_named_where_there_are_several(workers: list[Any]) -> None:
    first, second = workers
    with InputNode() as inp:
        dag = MultiOutputNode([first.total.bind(inp[0]), second.total.bind(inp.right)])
    with cgc.compile(dag) as graph:
        left, right = graph.alloc(COUNT, input=0), graph.alloc(COUNT, input="right")
        left[:], right[:] = 1.0, 2.0
        assert ray.get(graph.execute(left, right=right)) == [COUNT, 2 * COUNT]
        with pytest.raises(ValueError, match="the graph has no input 7 that is sent to an actor; it has 0, 'right'"):
            graph.alloc(COUNT, input=7)
    with pytest.raises(ray.exceptions.RayChannelError, match="torn down"):
        graph.alloc(COUNT)


def test_with_asyncio(workers: list[Any]) -> None:
    async def run(graph: Any) -> list[float]:
        futures = []
        for step in range(5):
            array = graph.alloc(COUNT)
            array[:] = step
            futures.append(await graph.execute_async(array))
        return [await future for future in futures]

    with InputNode() as inp:
        dag = workers[0].total.bind(inp)
    with cgc.compile(dag, enable_asyncio=True) as graph:
        assert asyncio.run(run(graph)) == [float(step * COUNT) for step in range(5)]


def test_tensors_over_allocated_arrays(workers: list[Any]) -> None:
    torch = pytest.importorskip("torch")
    with echo(workers[0], "tensor_total") as graph:
        for step in range(5):
            tensor = torch.from_numpy(graph.alloc(COUNT))
            tensor.fill_(step)
            assert ray.get(graph.execute(tensor)) == step * COUNT


def test_outside_of_graphs_it_is_an_ordinary_array() -> None:
    array = cgc.alloc((2, 3), np.int16)
    assert array.shape == (2, 3)
    assert array.dtype == np.int16
    assert not _is_in_channel(cgc.alloc(COUNT))
