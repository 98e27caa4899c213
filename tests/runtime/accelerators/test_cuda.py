"""CUDA devices: transfers with real streams, pinning, IPC and NCCL. Needs a GPU; some tests need two."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.runtime import _core
from cgc.runtime.accelerators import pages
from cgc.runtime.accelerators.base import Accelerator, find
from cgc.runtime.accelerators.transfers import Transfers

torch = pytest.importorskip("torch", reason="needs PyTorch for CUDA")
pytestmark = pytest.mark.gpu

MIB = 1 << 20
SIZES = [0, 1, 4096, 4 * MIB]
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    accelerator = find("cuda")
    monkeypatch.setattr(type(accelerator), "device", lambda self: torch.device("cuda", 0))  # no actor, no assignment
    return accelerator


@pytest.mark.parametrize("nbytes", SIZES)
def test_a_value_goes_in_and_out_beside_computation(cuda: Accelerator, nbytes: int) -> None:
    with cuda.on_device():
        transfers = Transfers(cuda)
        memory, back = cuda.pinned(nbytes), cuda.pinned(nbytes)
        for step in range(20):
            memory.view[:] = bytes([step]) * nbytes
            array = transfers.upload(memory, (nbytes,), torch.uint8).wait()
            busy = torch.ones(512, 512, device="cuda")
            for _ in range(5):
                busy = busy @ busy
            transfers.download(array + 1, back).wait()
            assert bytes(back.view) == bytes([step + 1]) * nbytes
            transfers.drain()


def test_memory_of_others_can_be_pinned(cuda: Accelerator) -> None:
    with cuda.on_device(), mmap.mmap(-1, 4 * mmap.PAGESIZE) as pages:
        view = memoryview(pages)[100:5000]
        pinned = cuda.pin(view)
        view[:] = bytes(range(256)) * 19 + bytes(36)
        array = Transfers(cuda).upload(pinned, (4900,), torch.uint8).wait()
        assert bytes(array.cpu().numpy()) == bytes(view)
        pinned.release()
        pinned.release()
        view.release()
        pinned.view.release()


def test_a_tensor_goes_straight_from_a_channel_and_back(cuda: Accelerator) -> None:
    arena = _core.Arena.create([(1, 2, 1024)], 0)
    peer = _core.Arena.attach(arena.handle)
    assert arena.offer_pages()
    assert peer.offer_pages()
    writer, reader = arena.writer(0), peer.reader(0, 0)
    with cuda.on_device():
        transfers = Transfers(cuda)
        for step in range(20):
            room = writer.reserve(MIB)
            memory, offset = pages.pinned(cuda, room) or pytest.fail("a writer's pages were not registered")
            made = torch.full((MIB,), step, dtype=torch.uint8, device="cuda")
            transfers.download(made, memory, offset, lease=room).wait()
            writer.write(0, b"", [room])
            del room
            transfers.let_go()
            _, _, (view,) = reader.read()
            place = pages.pinned(cuda, view)
            if place is None:
                pytest.skip("this device registers no read-only memory")
            array = transfers.upload(place[0], (MIB,), torch.uint8, place[1], lease=view).wait()
            del view
            assert bool((array == step).all())
        transfers.drain()


def test_memory_is_not_used_again_too_early(cuda: Accelerator) -> None:
    with cuda.on_device():
        transfers = Transfers(cuda)
        sources = []
        for step in range(50):
            memory = cuda.pinned(MIB)
            memory.view[:] = bytes([step]) * MIB
            sources.append(memory)
        total = torch.zeros(MIB, dtype=torch.int32, device="cuda")
        for memory in sources:
            total += transfers.upload(memory, (MIB,), torch.uint8).wait()  # freed at once
        assert int(total[0]) == int(total[-1]) == sum(range(50))
        transfers.drain()


def test_an_actor_without_gpu_is_told(ray_session: None) -> None:
    @ray.remote(num_cpus=0)
    class Without:
        def ask(self) -> str:
            with pytest.raises(RuntimeError) as error:
                find("cuda").device()
            return str(error.value)

    assert "num_gpus=1" in ray.get(Without.remote().ask.remote())


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64]


@ray.remote(num_cpus=0, num_gpus=0.5)
class Stage:
    """Computes on the device for a while, so that what is not waited for is seen."""

    def double(self, value: Any) -> Any:
        tensors = value["tensors"] if isinstance(value, dict) else [value]
        assert all(tensor.is_cuda for tensor in tensors), value
        busy = torch.ones(1024, 1024, device="cuda")
        for _ in range(10):
            busy = busy @ busy
        doubled = [tensor + tensor for tensor in tensors]
        return {**value, "tensors": doubled} if isinstance(value, dict) else doubled[0]

    def where(self, value: Any) -> str:
        return str(value["tensors"][0].device.type)


def doubled(tensor: torch.Tensor, times: int) -> torch.Tensor:
    for _ in range(times):
        tensor = tensor + tensor
    return tensor


def run_and_compare(dag: Any, hops: int, **options: Any) -> None:
    """Several executions in flight, whose results are 2**hops times their inputs, in every dtype."""
    with cgc.compile(dag, **options) as graph:
        for size in (0, 1, 1000, MIB):
            inputs = [[torch.arange(size).remainder(3 + step).to(dtype) for dtype in DTYPES] for step in range(4)]
            refs = [graph.execute({"tensors": each, "text": "beside"}) for each in inputs]
            for ref, each in zip(refs, inputs, strict=True):
                result = ray.get(ref)
                assert result["text"] == "beside"
                for arrived, tensor in zip(result["tensors"], each, strict=True):
                    assert torch.equal(arrived, doubled(tensor, hops))
                    assert arrived.device.type == "cpu"  # the driver has no device


@pytest.mark.parametrize("hint", [{}, {"transport": "shm"}, {"device": "gpu"}, {"transport": "shm", "device": "cuda"}])
def test_graphs_move_tensors_to_the_device_and_back(ray_session: None, hint: dict[str, Any]) -> None:
    first, second = Stage.remote(), Stage.remote()  # on one device
    with InputNode() as inp:
        value = first.double.bind(inp.with_tensor_transport(device="gpu")).with_tensor_transport(**hint)
        dag = second.double.bind(value)
    run_and_compare(dag, 2)


@pytest.mark.parametrize("readers", [1, 3])
def test_tensors_are_lent_on_one_device(ray_session: None, readers: int) -> None:
    first, *others = [Stage.options(num_gpus=0.25).remote() for _ in range(readers + 1)]
    with InputNode() as inp:
        value = first.double.bind(inp.with_tensor_transport(device="gpu")).with_tensor_transport()
        dag = MultiOutputNode([other.double.bind(value) for other in others])
    with cgc.compile(dag) as graph:
        lent = {each for program in graph.programs.values() for each in program.channels if each.returns}
        assert [len(channel.readers) for channel in lent] == [readers]
        for step in range(100):
            tensors = [torch.arange(MIB).remainder(3 + step).to(dtype) for dtype in DTYPES]
            for result in ray.get(graph.execute({"tensors": tensors, "text": "beside"})):
                for arrived, tensor in zip(result["tensors"], tensors, strict=True):
                    assert torch.equal(arrived, doubled(tensor, 2))


def test_a_lent_tensor_lies_in_the_owners_memory(ray_session: None) -> None:
    @ray.remote(num_cpus=0, num_gpus=0.5)
    class Half:
        kept: Any = None

        def make(self, value: float) -> Any:
            self.kept = torch.full((1000,), value, device="cuda")
            return self.kept

        def keep(self, value: Any) -> int:
            self.kept = value
            return value.numel()

        def write(self, value: float) -> None:
            self.kept.fill_(value)
            torch.cuda.synchronize()

        def mean(self) -> float:
            return float(self.kept.mean())

    owner, reader = Half.remote(), Half.remote()
    with InputNode() as inp:
        dag = reader.keep.bind(owner.make.bind(inp).with_tensor_transport())
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute(1.0)) == 1000
    ray.get(owner.write.remote(2.0))
    assert ray.get(reader.mean.remote()) == 2.0


def test_a_tensor_may_be_wanted_on_the_host(ray_session: None) -> None:
    first, second = Stage.remote(), Stage.remote()
    with InputNode() as inp:
        value = first.double.bind(inp.with_tensor_transport(device="gpu")).with_tensor_transport(device="cpu")
        dag = second.where.bind(value)
    with cgc.compile(dag) as graph:
        assert ray.get(graph.execute({"tensors": [torch.ones(3)]})) == "cpu"


@two_gpus
@pytest.mark.parametrize("streams", [False, True])
def test_graphs_over_nccl(ray_session: None, streams: bool) -> None:
    first, second = (Stage.options(num_gpus=1).remote() for _ in range(2))
    with InputNode() as inp:
        value = first.double.bind(inp.with_tensor_transport(device="gpu"))
        value = second.double.bind(value.with_tensor_transport(transport="nccl"))
        value = first.double.bind(value.with_tensor_transport(transport="nccl"))
        dag = second.double.bind(value.with_tensor_transport(transport="nccl"))
    run_and_compare(dag, 4, overlap_gpu_communication=streams)


@two_gpus
def test_values_cross_over_nccl_as_one_group(ray_session: None) -> None:
    first, second = (Stage.options(num_gpus=1).remote() for _ in range(2))
    with InputNode() as inp:
        x, y = (
            stage.double.bind(inp.with_tensor_transport(device="gpu")).with_tensor_transport(transport="nccl")
            for stage in (first, second)
        )
        dag = MultiOutputNode([first.double.bind(y), second.double.bind(x)])
    with cgc.compile(dag) as graph:
        assert all("group { " in str(graph.programs[name]) for name in ("Stage_0", "Stage_1"))
        for size in (1, 1000, 8 * MIB):  # the last is more than any buffer of nccl has room for
            refs = [graph.execute({"tensors": [torch.full((size,), float(step))]}) for step in range(4)]
            for step, ref in enumerate(refs):
                for result in ray.get(ref):
                    assert torch.equal(result["tensors"][0], torch.full((size,), 4.0 * step))


@two_gpus
def test_nccl_equals_gloo(ray_session: None) -> None:
    from cgc.runtime.communicators.nccl import NcclCommunicator

    @ray.remote(num_cpus=0, num_gpus=1)
    class Whole:
        def run(self, communicator: NcclCommunicator, rank: int) -> list[list[float]]:
            communicator.initialize(rank)
            mine = torch.arange(4.0, device="cuda") + rank
            total, everything = torch.empty_like(mine), torch.empty(8, device="cuda")
            communicator.allreduce(mine, total)
            communicator.allgather(mine, everything)
            small = mine.to(torch.int16)
            communicator.allreduce(small, small)
            if rank == 0:
                communicator.send(mine, 1)
                received = mine
            else:
                received = communicator.recv((4,), torch.float32, 0)
            torch.cuda.current_stream().synchronize()
            communicator.check()
            communicator.destroy()
            return [t.tolist() for t in (total, everything, small, received)]

    actors = [Whole.remote() for _ in range(2)]
    communicator = NcclCommunicator(actors)
    first, second = ray.get([actor.run.remote(communicator, rank) for rank, actor in enumerate(actors)])
    assert first == second == [[1, 3, 5, 7], [0, 1, 2, 3, 1, 2, 3, 4], [1, 3, 5, 7], [0, 1, 2, 3]]
