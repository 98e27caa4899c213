"""Every path of a tensor between actors, against NumPy: all dtypes, shapes and places in a value, 1 byte to 256 MiB."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allreduce

import cgc
from cgc.runtime.communicators.gloo import GlooCommunicator
from cgc.runtime.communicators.nccl import NcclCommunicator
from tests.runtime.communicators.socket_communicator import SocketCommunicator
from tests.runtime.communicators.told_actors import WAYS

DEADLINE = 120.0
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]
SIZES = [1, 100, 4_095, 4_096, 65_537, 1 << 20, (1 << 20) + 1, 16 << 20]
LARGE = [64 << 20, 256 << 20]
PATHS: dict[str, Callable[[list[Any]], dict[str, Any] | None]] = {
    "no hint": lambda actors: None,
    "auto": lambda actors: {},
    "shm on the host": lambda actors: {"transport": "shm", "device": "cpu"},
    "gloo": lambda actors: {"transport": GlooCommunicator(actors)},
    "gloo, static": lambda actors: {"transport": GlooCommunicator(actors), "_static_shape": True},
    "gloo, direct": lambda actors: {"transport": GlooCommunicator(actors), "_direct_return": True},
    "gloo, static and direct": lambda actors: {
        "transport": GlooCommunicator(actors),
        "_static_shape": True,
        "_direct_return": True,
    },
    "gloo, streams": lambda actors: {"transport": GlooCommunicator(actors)},
    "custom": lambda actors: {"transport": SocketCommunicator(actors)},
}
ALL_WAYS: dict[str, Callable[[list[Any]], Any]] = {**WAYS, "custom": SocketCommunicator}


@dataclasses.dataclass
class Batch:
    inputs: Any
    extra: Any


def numbers(dtype: torch.dtype, count: int, seed: int) -> np.ndarray:
    """What a tensor of `dtype` with these values holds, as NumPy has it; bfloat16 as float32."""
    values = (np.arange(count) * 7 + seed) % 5
    if dtype is torch.bfloat16:
        return values.astype(np.float32)
    if dtype.is_complex:
        return (values + 1j * values[::-1]).astype(torch.empty(0, dtype=dtype).numpy().dtype)
    return values.astype(torch.empty(0, dtype=dtype).numpy().dtype)


def tensor(dtype: torch.dtype, count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(numbers(dtype, count, seed)).to(dtype)


def octets(size: int, seed: int) -> np.ndarray:
    return np.resize(np.roll(np.arange(251, dtype=np.uint8), seed), size)


def as_numpy(value: torch.Tensor) -> np.ndarray:
    plain = value.detach().resolve_conj().resolve_neg()
    return (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()


@ray.remote(num_cpus=0)
class Peer:
    """What checks a value may get more, from calls beside it."""

    def idle(self, value: Any) -> None:
        """For streams: something to do beside a transfer."""

    def zoo_of_tensors(self, seed: int) -> dict[str, Any]:
        """Each dtype in each form, in each kind of container."""
        return {
            str(dtype): Batch(
                [tensor(dtype, 12, seed), tensor(dtype, 0, 0).reshape(0, 3), tensor(dtype, 1, seed).reshape(())],
                (
                    tensor(dtype, 12, seed).reshape(3, 4).t()[1:],
                    {"text": "beside", "view": tensor(dtype, 12, seed)[::3]},
                ),
            )
            for dtype in DTYPES
        }

    def check_zoo(self, value: dict[str, Any], seed: int, *beside: None) -> int:
        for dtype in DTYPES:
            right = numbers(dtype, 12, seed)
            batch = value[str(dtype)]
            whole, empty, scalar = batch.inputs
            transposed, rest = batch.extra
            for each in (whole, empty, scalar, transposed, rest["view"]):
                assert each.dtype is dtype
            np.testing.assert_array_equal(as_numpy(whole), right)
            np.testing.assert_array_equal(as_numpy(scalar), numbers(dtype, 1, seed).reshape(()))
            np.testing.assert_array_equal(as_numpy(transposed), right.reshape(3, 4).T[1:])
            np.testing.assert_array_equal(as_numpy(rest["view"]), right[::3])
            assert empty.shape == (0, 3)
            assert rest["text"] == "beside"
        return len(value)

    def twins(self, seed: int) -> Any:
        """One tensor in three places, and another one that has the same memory."""
        shared = tensor(torch.float32, 12, seed)
        return Batch([shared, shared], {"again": shared, "view": shared[:3]})

    def check_twins(self, value: Any, seed: int, *beside: None) -> int:
        first, second = value.inputs
        assert second is first
        assert value.extra["again"] is first
        np.testing.assert_array_equal(as_numpy(first), numbers(torch.float32, 12, seed))
        np.testing.assert_array_equal(as_numpy(value.extra["view"]), numbers(torch.float32, 12, seed)[:3])
        return seed

    def octets(self, size: int, seed: int) -> torch.Tensor:
        return torch.from_numpy(octets(size, seed))

    def check_octets(self, value: torch.Tensor, size: int, seed: int, *beside: None) -> int:
        assert np.array_equal(value.numpy(), octets(size, seed))
        return int(value.numel())

    def leaf(self, value: float) -> torch.Tensor:
        return torch.full((3,), value, requires_grad=True)

    def gradient(self, leaf: torch.Tensor, *arguments: Any) -> list[float]:
        assert leaf.is_leaf
        (leaf * leaf).sum().backward()
        gradient: list[float] = leaf.grad.tolist()
        return gradient

    def part(self, name: str, seed: int) -> torch.Tensor:
        return tensor(getattr(torch, name), 6, seed)

    def show(self, value: torch.Tensor) -> np.ndarray:
        return as_numpy(value)

    def join_nccl_without(self, module: str, communicator: NcclCommunicator) -> str:
        import sys

        for name in [name for name in sys.modules if name.partition(".")[0] == module]:
            del sys.modules[name]
        sys.modules[module] = None  # type: ignore[assignment]
        with pytest.raises(ImportError) as error:
            communicator.initialize(0)
        return str(error.value)


@pytest.fixture(scope="module")
def peers(ray_session: None) -> list[Any]:
    return [Peer.remote() for _ in range(2)]


@pytest.fixture(params=[path for path in PATHS if "direct" not in path])
def path(request: pytest.FixtureRequest) -> str:
    """For values of any kind."""
    name: str = request.param
    return name


def edge_by(path: str, peers: list[Any], make: str, take: str, inputs: int = 2) -> Any:
    graph = edge(peers, make, take, PATHS[path](peers), inputs, streams="streams" in path)
    assert ("on stream" in str(graph.programs["Peer_0"])) == ("streams" in path)
    return graph


def edge(
    peers: list[Any], make: str, take: str, hint: dict[str, Any] | None, inputs: int = 2, streams: bool = False
) -> Any:
    """
    Driver → `make` on the first → `take` on the second, which also gets the inputs → driver.

    With `streams` there are calls to run beside the transfer, without which none would be used.
    """
    first, second = peers
    with InputNode() as inp:
        given = [inp[number] for number in range(inputs)]
        made = getattr(first, make).bind(*given)
        if hint is not None:
            made = made.with_tensor_transport(**hint)
        beside = [peer.idle.bind(inp[0]) for peer in peers for _ in range(2 * streams)]
        dag = getattr(second, take).bind(made, *given, *beside)
        return cgc.compile(dag, overlap_gpu_communication=streams)


def test_every_dtype_and_form_anywhere_in_a_value(peers: list[Any], path: str) -> None:
    with edge_by(path, peers, "zoo_of_tensors", "check_zoo", inputs=1) as graph:
        for seed in range(3):
            assert ray.get(graph.execute(seed), timeout=DEADLINE) == len(DTYPES)


def test_a_tensor_that_appears_twice_arrives_as_one(peers: list[Any], path: str) -> None:
    with edge_by(path, peers, "twins", "check_twins", inputs=1) as graph:
        for seed in range(3):
            assert ray.get(graph.execute(seed), timeout=DEADLINE) == seed


@pytest.mark.parametrize("path", [path for path in PATHS if "static" not in path])
def test_every_size(peers: list[Any], path: str) -> None:
    with edge_by(path, peers, "octets", "check_octets") as graph:
        for seed in range(2):
            refs = [graph.execute(size, seed) for size in SIZES]
            assert [ray.get(ref, timeout=DEADLINE) for ref in refs] == SIZES


@pytest.mark.parametrize("path", ["gloo, static", "gloo, static and direct"])
@pytest.mark.parametrize("size", [SIZES[0], SIZES[4], SIZES[-1]])
def test_sizes_that_stay(peers: list[Any], path: str, size: int) -> None:
    with edge_by(path, peers, "octets", "check_octets") as graph:
        refs = [graph.execute(size, seed) for seed in range(4)]
        assert [ray.get(ref, timeout=DEADLINE) for ref in refs] == [size] * 4


@pytest.mark.slow
@pytest.mark.parametrize("path", ["no hint", "gloo, static", "gloo, static and direct", "custom"])
@pytest.mark.parametrize("size", LARGE)
def test_large_tensors(peers: list[Any], path: str, size: int) -> None:
    with edge_by(path, peers, "octets", "check_octets") as graph:
        for seed in range(2):
            assert ray.get(graph.execute(size, seed), timeout=DEADLINE) == size


@pytest.mark.parametrize("path", PATHS)
def test_a_leaf_arrives_as_a_leaf_that_collects_gradients(peers: list[Any], path: str) -> None:
    with edge_by(path, peers, "leaf", "gradient", inputs=1) as graph:
        for value in (1.0, 2.0):
            assert ray.get(graph.execute(value), timeout=DEADLINE) == [2 * value] * 3


@pytest.mark.parametrize("way", ALL_WAYS)
def test_a_sum_over_actors_in_every_dtype(peers: list[Any], way: str) -> None:
    with InputNode() as inp:
        parts = [peer.part.bind(inp[0], inp[1 + rank]) for rank, peer in enumerate(peers)]
        sums = allreduce.bind(parts, transport=ALL_WAYS[way](peers))
        dag = MultiOutputNode([peer.show.bind(total) for peer, total in zip(peers, sums, strict=True)])
    with cgc.compile(dag) as graph:
        for dtype in DTYPES:
            right = numbers(dtype, 6, 1) + numbers(dtype, 6, 2)
            for total in ray.get(graph.execute(str(dtype).removeprefix("torch."), 1, 2), timeout=DEADLINE):
                np.testing.assert_array_equal(total, right)


def test_an_actor_twice_in_a_collective_is_refused(peers: list[Any]) -> None:
    with InputNode() as inp, pytest.raises(ValueError, match="unique actor handles"):
        allreduce.bind([peers[0].part.bind("float32", inp), peers[0].part.bind("float32", inp)])


@pytest.mark.parametrize("kind", ["gpu", "cuda"])
def test_an_actor_without_gpu_is_asked_for_none(peers: list[Any], kind: str) -> None:
    with pytest.raises(ValueError, match=r"test_paths.py:\d+.*Peer_1, which has no GPU.*num_gpus=1"):
        edge(peers, "octets", "check_octets", {"device": kind})
    with pytest.raises(ValueError, match=r"test_paths.py:\d+.*ha(s|ve) no GPU; use transport 'auto' or 'shm'"):
        edge(peers, "octets", "check_octets", {"transport": "nccl"})


def test_nccl_without_cupy_names_the_extra(ray_session: None) -> None:
    actor = Peer.remote()
    message = ray.get(actor.join_nccl_without.remote("cupy", NcclCommunicator([actor])))
    assert "pip install 'cgc[gpu]', or 'cgc[gpu-cuda12]' where torch is built for CUDA 12" in message
