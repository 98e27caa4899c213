"""CUDA devices: transfers with real streams, pinning, IPC and NCCL. Needs a GPU; some tests need two."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
import ray
import torch

from cgc.runtime.accelerators.base import Accelerator, find
from cgc.runtime.accelerators.transfers import Transfers

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


@ray.remote(num_cpus=0, num_gpus=0.5)
class Half:
    """Two of these share a device."""

    def lend(self, values: list[float]) -> Any:
        from cgc.runtime.accelerators.cuda_ipc import Lender

        self.returned = 0
        self.lender = Lender(lambda: self.returned)
        return self.lender.lend(torch.tensor(values, device="cuda") * 2)

    def note(self, number: int) -> int:
        self.returned = number
        self.lender.let_go()
        return self.lender.lent

    def borrow(self, handle: Any) -> tuple[list[float], list[int]]:
        from cgc.runtime.accelerators.cuda_ipc import borrow

        said: list[int] = []
        loan = borrow(handle, said.append)
        values = (loan.tensor + 1).tolist()
        loan.give_back()
        return values, said


def test_a_tensor_is_lent_to_another_process(ray_session: None) -> None:
    owner, reader = Half.remote(), Half.remote()
    handle = ray.get(owner.lend.remote([1.0, 2.0]))
    values, said = ray.get(reader.borrow.remote(handle))
    assert values == [3.0, 5.0]
    assert said == [1]
    assert ray.get(owner.note.remote(1)) == 0


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
