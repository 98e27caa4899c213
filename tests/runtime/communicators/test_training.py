"""Training by actors equals training without: a pipeline of four over gloo, and data-parallel replicas beside DDP."""

from __future__ import annotations

from typing import Any

import pytest
import ray
import torch
from ray.dag import InputNode, MultiOutputNode
from ray.experimental.collective import allreduce
from ray.experimental.util.types import ReduceOp

import cgc
from cgc.runtime.communicators.gloo import GlooCommunicator
from tests.runtime.communicators.told_actors import WAYS

STAGES = 4
MICRO_BATCHES = 6
STEPS = 3
WIDTH = 8
LEARNING_RATE = 0.1
REPLICAS = 2


def stage(number: int) -> torch.nn.Module:
    torch.manual_seed(number)
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh())


def replica() -> torch.nn.Module:
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, 16), torch.nn.ReLU(), torch.nn.Linear(16, WIDTH))


def batch(step: int, part: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 * step + part)
    return torch.randn(5, WIDTH, generator=generator), torch.randn(5, WIDTH, generator=generator)


def descend(module: torch.nn.Module) -> None:
    """One step of gradient descent. torch.optim would do the same, after seconds of importing its compiler."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= LEARNING_RATE * parameter.grad
            parameter.grad = None


@ray.remote(num_cpus=0)
class Trainer:
    """One stage of a pipeline, or one data-parallel replica."""

    def reset(self, number: int) -> None:
        torch.set_num_threads(1)
        self.rank = number
        self.module = stage(number)
        self.model = replica()
        self.saved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.total = 0.0

    def load(self, step: int, part: int) -> torch.Tensor:
        return batch(step, part)[0]

    def forward(self, inputs: torch.Tensor, part: int) -> torch.Tensor:
        inputs = inputs.detach().requires_grad_()
        outputs = self.module(inputs)
        self.saved[part] = inputs, outputs
        return outputs.detach()

    def loss(self, inputs: torch.Tensor, step: int, part: int) -> torch.Tensor:
        """The last stage's forward and backward; returns the gradient of its inputs."""
        inputs = inputs.detach().requires_grad_()
        value = torch.nn.functional.mse_loss(self.module(inputs), batch(step, part)[1]) / MICRO_BATCHES
        value.backward()
        self.total += value.item()
        return inputs.grad

    def backward(self, gradient: torch.Tensor, part: int) -> torch.Tensor:
        inputs, outputs = self.saved.pop(part)
        outputs.backward(gradient)
        return inputs.grad

    def update(self, *_: Any) -> float:
        """One step of descent; the last stage returns its loss."""
        descend(self.module)
        total, self.total = self.total, 0.0
        return total

    def gradient(self, step: int) -> torch.Tensor:
        inputs, targets = batch(step, self.rank)
        self.loss = torch.nn.functional.mse_loss(self.model(inputs), targets)
        self.loss.backward()
        return torch.cat([parameter.grad.view(-1) for parameter in self.model.parameters()])

    def apply(self, gradient: torch.Tensor) -> list[float]:
        position = 0
        for parameter in self.model.parameters():
            parameter.grad = gradient[position : position + parameter.numel()].view(parameter.shape).clone()
            position += parameter.numel()
        descend(self.model)
        return [self.loss.item(), *(parameter.sum().item() for parameter in self.model.parameters())]

    def train_with_ddp(self, rendezvous: Any, steps: int) -> list[list[float]]:
        """The same training by torch itself."""
        import torch.distributed as dist

        dist.init_process_group("gloo", store=rendezvous.open(30.0), rank=self.rank, world_size=REPLICAS)
        model = torch.nn.parallel.DistributedDataParallel(replica())
        # torch joins gloo's thread when the model goes, with the interpreter's lock, for which that thread may wait.
        self.kept = model
        history = []
        for step in range(steps):
            inputs, targets = batch(step, self.rank)
            loss = torch.nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            descend(model)
            history.append([loss.item(), *(p.sum().item() for p in model.parameters())])
        dist.destroy_process_group()
        return history


def one_forward_one_backward(actors: list[Any], communicator: GlooCommunicator) -> Any:
    """
    The classic schedule: the order of the calls on each actor is the order in which they are bound.

    Stage s runs STAGES - s forwards ahead, then one forward and one backward in turn.
    """

    def tensor(node: Any) -> Any:
        return node.with_tensor_transport(transport=communicator)

    with InputNode() as step:
        activation: dict[tuple[int, int], Any] = {}
        gradient: dict[tuple[int, int], Any] = {}
        todo = {s: _order(s) for s in range(STAGES)}
        while any(todo.values()):
            for s, queue in todo.items():
                kind, part = queue[0] if queue else ("", 0)
                if kind == "F" and (s == 0 or (s - 1, part) in activation):
                    source = actors[0].load.bind(step, part) if s == 0 else activation[s - 1, part]
                    if s == STAGES - 1:
                        gradient[s, part] = tensor(actors[s].loss.bind(source, step, part))
                    else:
                        activation[s, part] = tensor(actors[s].forward.bind(source, part))
                    queue.pop(0)
                elif kind == "B" and (s == STAGES - 1 or (s + 1, part) in gradient):
                    if s < STAGES - 1:
                        node = actors[s].backward.bind(gradient[s + 1, part], part)
                        gradient[s, part] = tensor(node) if s else node
                    queue.pop(0)
        last = [a.update.bind(*(gradient[s, n] for n in range(MICRO_BATCHES))) for s, a in enumerate(actors)]
        return MultiOutputNode(last)


def _order(s: int) -> list[tuple[str, int]]:
    ahead = min(STAGES - s - 1, MICRO_BATCHES)
    forwards, backwards = [("F", n) for n in range(MICRO_BATCHES)], [("B", n) for n in range(MICRO_BATCHES)]
    steady = [item for pair in zip(forwards[ahead:], backwards, strict=False) for item in pair]
    return [*forwards[:ahead], *steady, *backwards[MICRO_BATCHES - ahead :]]


def single_process_losses() -> list[float]:
    stages = [stage(number) for number in range(STAGES)]
    model = torch.nn.Sequential(*stages)
    losses = []
    for step in range(STEPS):
        total = 0.0
        for part in range(MICRO_BATCHES):
            inputs, targets = batch(step, part)
            loss = torch.nn.functional.mse_loss(model(inputs), targets) / MICRO_BATCHES
            loss.backward()
            total += loss.item()
        descend(model)
        losses.append(total)
    return losses


@pytest.fixture(scope="module")
def trainers(ray_session: None) -> list[Any]:
    return [Trainer.remote() for _ in range(STAGES)]


@pytest.mark.parametrize("streams", [False, True])
def test_a_pipeline_learns_as_one_process_does(trainers: list[Any], streams: bool) -> None:
    actors = trainers
    ray.get([actor.reset.remote(number) for number, actor in enumerate(actors)])
    dag = one_forward_one_backward(actors, GlooCommunicator(actors))
    with cgc.compile(dag, overlap_gpu_communication=streams) as graph:
        losses = [ray.get(graph.execute(step), timeout=60)[-1] for step in range(STEPS)]
    assert losses == pytest.approx(single_process_losses(), rel=1e-5)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("way", WAYS)
def test_replicas_learn_as_with_torchs_ddp(trainers: list[Any], way: str) -> None:
    from cgc.runtime.communicators.rendezvous import MemfdRendezvous

    actors = trainers[:REPLICAS]
    ray.get([actor.reset.remote(rank) for rank, actor in enumerate(actors)])
    with InputNode() as step:
        gradients = [actor.gradient.bind(step) for actor in actors]
        averages = allreduce.bind(gradients, op=ReduceOp.AVG, transport=WAYS[way](actors))
        dag = MultiOutputNode([actor.apply.bind(g) for actor, g in zip(actors, averages, strict=True)])
    with cgc.compile(dag) as graph:
        history = [ray.get(graph.execute(step), timeout=60) for step in range(STEPS * 2)]
    rendezvous = MemfdRendezvous()
    expected = ray.get([actor.train_with_ddp.remote(rendezvous, STEPS * 2) for actor in actors], timeout=200)
    rendezvous.close()
    for step, by_rank in enumerate(history):
        for rank in range(REPLICAS):
            assert by_rank[rank] == pytest.approx(expected[rank][step], rel=1e-5, abs=1e-6), f"step {step}, rank {rank}"
