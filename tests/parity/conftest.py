"""
Each test of this folder holds for Ray's own implementation and for cgc behind `cgc.install()`.

The suite runs cgc's side. `make test-parity` runs both, to see that what is asserted is what Ray does; that takes
minutes, because idle graphs of Ray's implementation poll and its tear-down waits for time-outs.

`compiled` is the only way in: it compiles with `experimental_compile` and tears the graph down at the end of the test,
so that the actors, which all tests share, are free for the next one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
import ray.actor
from ray.dag import DAGContext, DAGNode

import cgc

GET_TIMEOUT = 60
"""Seconds that reading a result may take by default in these tests: the machine may be busy."""


class AppError(Exception):
    """An application's own exception."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@ray.remote
class Worker:
    """What the graphs of these tests are made of."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.gates: dict[Any, threading.Event] = {}
        self.calls: list[Any] = []

    def echo(self, value: Any) -> Any:
        return value

    def add(self, left: Any, right: Any = 0, *, scale: Any = 1) -> Any:
        return (left + right) * scale

    def total(self, *values: Any) -> Any:
        return sum(values)

    def tag(self, value: Any) -> str:
        return f"{value}>{self.name}"

    def record(self, label: str, value: Any) -> list[Any]:
        self.calls.append((label, value))
        return list(self.calls)

    def forget(self) -> None:
        self.calls.clear()

    @ray.method(num_returns=2)
    def split(self, pair: Any) -> Any:
        return pair[0], pair[1]

    def raise_error(self, value: Any, code: int = 0) -> Any:
        raise AppError(f"refused {value!r}", code)

    def odd(self, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"{value} is even")
        return value

    def kind(self, value: Any) -> str:
        return type(value).__name__

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def get(self, box: Any) -> Any:
        return ray.get(box[0])

    def wait_for(self, key: Any) -> Any:
        """Return once `open(key)` was called, in whichever order."""
        self.gates.setdefault(key, threading.Event()).wait()
        return key

    def open(self, key: Any) -> None:
        self.gates.setdefault(key, threading.Event()).set()

    def die(self, value: Any) -> Any:
        os._exit(1)

    def pid(self, _: Any = None) -> int:
        return os.getpid()


@pytest.fixture(params=["ray", "cgc"] if os.environ.get("CGC_TEST_PARITY") else ["cgc"])
def implementation(request: pytest.FixtureRequest, ray_session: None) -> Iterator[str]:
    """Which implementation `experimental_compile` belongs to during the test."""
    cgc.uninstall()
    if request.param == "cgc":
        cgc.install()
    yield request.param
    cgc.uninstall()


@pytest.fixture
def compiled(implementation: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Compile a DAG; the graph is torn down after the test."""
    graphs = []

    def compile_dag(dag: DAGNode, **options: Any) -> Any:
        graph = dag.experimental_compile(**options)
        assert isinstance(graph, cgc.CompiledGraph) == (implementation == "cgc")
        graphs.append(graph)
        return graph

    monkeypatch.setattr(DAGContext.get_current(), "get_timeout", GET_TIMEOUT)
    yield compile_dag
    for graph in graphs:
        graph.teardown()


@pytest.fixture(scope="session")
def workers(ray_session: None) -> list[ray.actor.ActorHandle]:
    """Four actors `a` to `d` that every test may use and none may harm."""
    handles = [Worker.remote(name) for name in "abcd"]
    ray.get([handle.pid.remote() for handle in handles])
    return handles


@pytest.fixture
def mortals(ray_session: None) -> Iterator[list[ray.actor.ActorHandle]]:
    """Three actors `x` to `z` of this test alone."""
    handles = [Worker.remote(name) for name in "xyz"]
    ray.get([handle.pid.remote() for handle in handles])
    yield handles
    for handle in handles:
        ray.kill(handle)


@pytest.fixture
def app_error() -> type[AppError]:
    """The class that `Worker.raise_error` raises."""
    return AppError
