"""`cgc-dump --status` and what it reads: live graphs of real processes, seen from a process beside them."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cgc.runtime import inspection
from cgc.runtime.inspection import live_graphs, read_graph
from cgc.runtime.process_watch import process_state
from tests.runtime.helpers import Actor, BaseDriver, Gate, chain, eventually, pass_through, running

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


def of(driver: BaseDriver) -> inspection.LiveGraph | None:
    return next((graph for graph in live_graphs() if graph.graph == driver.get_id()), None)


def test_the_command_shows_what_a_hanging_graph_is_doing():
    gate = Gate.remote()
    with running(chain("apply", "echo"), [Actor.remote(), Actor.remote()]) as driver:
        ref = driver.execute(lambda _: pass_through(gate, "seen"))
        ray.get(gate.wait.remote("seen entered"))
        command = [sys.executable, "-m", "cgc.dump", "--status"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (own,) = [part for part in text.split("graph ") if part.startswith(driver.get_id())]
        assert f"driver pid {os.getpid()} (runs)" in own
        assert "is calling in execution 0 for" in own
        assert "call apply(r0)" in own
        assert "waiting in execution 0" in own
        assert str(driver.infos["a1"].pid) in own
        ray.get(gate.open.remote("seen"))
        ray.get(ref)
    assert of(driver) is None


def test_a_stopped_actor_is_told():
    with running(chain("echo"), [Actor.remote()]) as driver:
        ray.get(driver.execute(1))
        pid = driver.infos["a0"].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: process_state(pid) == "T", "the process is stopped")
            assert "[its process is stopped]" in str(of(driver))
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: "stopped" not in str(of(driver)), "the process goes on")


def test_a_description_that_is_too_large_for_a_slot():
    graph = chain("echo")
    noise = random.Random(1)
    graph.operations["a0"] = [
        dataclasses.replace(operation, location=noise.randbytes(4000).hex()) for operation in graph.operations["a0"]
    ]
    with running(graph, [Actor.remote()]) as driver:
        ray.get(driver.execute(1))
        eventually(lambda: driver.status()[0].activity == "waiting", "it waits for the next message")
        (status,) = of(driver).statuses
        assert status.operation.endswith(f"({graph.operations['a0'][0].location})")


def test_what_runs_equals_what_the_driver_says():
    with running(chain("echo", "echo"), [Actor.remote(), Actor.remote()]) as driver:
        ray.get(driver.execute(1))
        eventually(lambda: {status.activity for status in driver.status()} == {"waiting"}, "both wait")
        seen = of(driver)
        assert seen.driver == os.getpid()
        assert [status.operation for status in seen.statuses] == [status.operation for status in driver.status()]
        assert [status.actor for status in seen.statuses] == [status.actor for status in driver.status()]


def test_corrupt_memory_is_an_error_of_the_documented_kinds(tmp_path):
    with running(chain("echo"), [Actor.remote()]) as driver:
        path = next(path for path in Path("/proc/self/fd").iterdir() if _is_of(path, driver))
        with path.open("rb") as file:
            whole = file.read(1 << 16)
    chance = random.Random(5)
    copy = tmp_path / "memory"
    refused = 0
    for _ in range(300):
        spoilt = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            spoilt[chance.randrange(2000)] = chance.randrange(256)
        copy.write_bytes(spoilt[: chance.choice([len(whole), chance.randrange(len(whole))])])
        try:
            read_graph(copy)
        except (OSError, ValueError):
            refused += 1
    assert 100 < refused < 300


def _is_of(path: Path, driver: BaseDriver) -> bool:
    try:
        return inspection.LABEL in os.readlink(path) and read_graph(path).graph == driver.get_id()
    except (OSError, ValueError, AttributeError):
        return False
