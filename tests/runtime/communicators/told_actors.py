"""Actors that do what they are told, and graphs of them whose tensors go through gloo or shared memory."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import ray
import torch
from ray.dag import InputNode

import cgc
from cgc.runtime.communicators.gloo import GlooCommunicator

DEADLINE = 60.0

WAYS: dict[str, Callable[[list[Any]], Any]] = {"gloo": GlooCommunicator, "shm": lambda actors: "accelerator"}
"""What collectives of the actors have to name as `transport` to go that way."""


@dataclasses.dataclass
class Batch:
    inputs: Any
    extra: Any


@ray.remote(num_cpus=0)
class Actor:
    """Does what it is told."""

    def apply(self, function: Callable[[], Any]) -> Any:
        return function()

    def make(self, value: Any) -> Any:
        return value

    def look(self, value: Any, *beside: Any) -> Any:
        """The value as the driver can compare it, and nothing of what was made beside it."""
        return told(value)

    def idle(self, value: Any) -> None:
        """Something to do beside communication."""

    def sample(self, value: torch.Tensor) -> tuple[float, int]:
        """The last element of a large tensor, and how many it has."""
        return value[-1].item(), value.numel()

    def hide(self, module: str) -> None:
        """Let it be as if a library were not installed."""
        import sys

        for name in [name for name in sys.modules if name == module or name.startswith("cgc.runtime.communicators.")]:
            del sys.modules[name]
        sys.modules[module] = None

    def keys(self) -> tuple[str, ...]:
        from cgc.runtime.communicators.registry import REGISTRY

        return REGISTRY.keys


@ray.remote(num_cpus=0, max_concurrency=2)
class Gate:
    """Lets one actor wait for what another one does."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        assert self._open.wait(DEADLINE)


def told(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        data = value.detach()
        numbers = (data.float() if data.dtype is torch.bfloat16 else data).tolist()
        return str(value.dtype), tuple(value.shape), numbers, value.requires_grad
    if isinstance(value, dict):
        return {key: told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [told(item) for item in value]
    return told(dataclasses.astuple(value)) if isinstance(value, Batch) else value


VALUES = [
    lambda: torch.arange(6).reshape(2, 3),
    lambda: torch.arange(6.0).reshape(2, 3).t(),
    lambda: torch.tensor(2.5, dtype=torch.bfloat16, requires_grad=True),
    lambda: torch.empty(0, 4),
    lambda: torch.tensor([1 + 2j]).conj(),
    lambda: {"a": torch.ones(3, dtype=torch.bool), "b": [torch.zeros(1, dtype=torch.int8), "text", None]},
    lambda: Batch(torch.ones(2, 2), (torch.zeros(0), {"k": torch.tensor(7)})),
    lambda: [(shared := torch.ones(4)), shared, shared[:2]],
    lambda: "no tensor at all",
]
"""What makes values of all forms that a value with tensors can have."""


def compile_edge(actors: list[Any], **hint: Any) -> Any:
    """Driver → apply on the first → look on the second → driver, the middle edge over gloo."""
    first, second = actors
    with InputNode() as inp:
        value = first.apply.bind(inp).with_tensor_transport(transport=GlooCommunicator(actors), **hint)
        return cgc.compile(second.look.bind(value))


def failure(ref: Any) -> Exception:
    with pytest.raises(Exception) as error:  # noqa: PT011  the caller looks at it
        ray.get(ref, timeout=DEADLINE)
    return error.value


def raise_value_error() -> Any:
    raise ValueError("spilt")


def eventually_left(actor: Any) -> None:
    """Wait until the actor is in no communicator any more; it answers normal calls meanwhile."""
    deadline = time.monotonic() + DEADLINE
    while ray.get(actor.keys.remote()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
