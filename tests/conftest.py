"""
What all tests share: one Ray session, the meaning of the markers, and the check that shared memory is clean.

Tests that need Ray take `ray_session` (started once per test run, eight logical CPUs on any machine). After every test
that ran a graph, `clean_shared_memory` can state that nothing of it is left.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

# Ray's ten seconds for a result are not enough where a method imports torch first and others want the processor, too.
# The processes that tests start take it over.
for variable in ("RAY_CGRAPH_get_timeout", "RAY_CGRAPH_submit_timeout"):
    os.environ.setdefault(variable, "60")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")  # sixty are too few for a machine that is busy, too

# A deadline for an example would be a timed assertion: what is slow on a busy machine is not wrong.
settings.register_profile("cgc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cgc")

SHM = Path("/dev/shm")
ANONYMOUS = "memfd:cgc"
"""How the kernel shows the name of our anonymous shared memory."""
DEADLINE = 10.0
"""Seconds that asynchronous clean-up may take: a worker's loop ends, then its mappings go."""


def pytest_configure() -> None:
    """Take Ctrl-C again where a shell that started the run in the background has had it ignored: tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "test_chaos.py",
    "runtime/test_recovery.py",
    "runtime/test_failures.py",
    "test_ray_programs.py",
    "runtime/accelerators/test_actors.py",
    "runtime/accelerators/test_actor_failures.py",
    "runtime/accelerators/test_zoo.py",
    "test_tasks.py",
    "test_api.py",
    "test_fuzz_schedules.py",
    "runtime/communicators/test_training.py",
    "runtime/test_cluster_faults.py",
    "test_memory.py",
)
"""Files that run first, so that no process of a parallel run is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Begin with the longest files, and skip the tests marked `gpu` where there is no CUDA device.

    torch is asked for one only if there is such a test.
    """
    rank = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or _cuda_is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in marked:
        item.add_marker(skip)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """
    A local Ray with eight logical CPUs, shared by all tests of the run.

    Actors that a test creates should be dropped by the end of it: logical CPUs are not a limit for actors, which take
    none while they live, but their processes are real.
    """
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _release_actors(request: pytest.FixtureRequest) -> Iterator[None]:
    """
    End the actors that nobody here refers to any more after a test.

    Ray keeps an actor whose handle was pickled until its job ends, and `bind` pickles handles. An idle actor process
    costs about one per cent of a core, so those of a hundred tests would take a whole one.
    """
    yield
    if "ray_session" in request.fixturenames:
        gc.collect()
        _kill_forgotten_actors()


def _kill_forgotten_actors() -> None:
    import ray
    from ray._private import state, worker

    if not ray.is_initialized():
        return
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    actors = set(state.actors(job_id=job, actor_state_name="ALIVE"))
    if actors:
        actors -= {each._actor_id.hex() for each in gc.get_objects() if type(each) is ray.actor.ActorHandle}
    for actor in actors:
        worker.global_worker.core_worker.kill_actor(ray.ActorID.from_hex(actor), True)


@pytest.fixture
def swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop exceptions of destructors, as Python does: pytest keeps them, and their frames keep the refs alive."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


@pytest.fixture
def kill_actor(ray_session: None) -> Callable[[Any], None]:
    """Kill an actor and return once it is dead: `ray.kill` returns before, and the actor may still answer then."""
    import ray

    def kill(actor: Any) -> None:
        ray.kill(actor)
        with contextlib.suppress(ray.exceptions.ActorDiedError):
            while True:
                ray.get(actor.__ray_ready__.remote(), timeout=DEADLINE)

    return kill


@pytest.fixture
def clean_shared_memory() -> Iterator[None]:
    """Assert that the test leaves nothing in `/dev/shm` and no anonymous shared memory of cgc in this process."""
    before = _shared_memory_of_cgc()
    yield
    gc.collect()
    deadline = time.monotonic() + DEADLINE
    left = _shared_memory_of_cgc() - before
    while left and time.monotonic() < deadline:
        time.sleep(0.02)  # the interval of polling a condition with a deadline
        gc.collect()  # a thread that ends may leave the last cycle
        left = _shared_memory_of_cgc() - before
    assert not left, f"shared memory left behind: {sorted(left)}"


def _shared_memory_of_cgc() -> set[str]:
    """Named files of ours, and the anonymous ones that this process or one it started has open or mapped, by inode."""
    found = {str(path) for path in SHM.glob("*cgc*")}
    here = psutil.Process()
    for process in [here, *here.children(recursive=True)]:
        try:
            found |= _anonymous_files(Path(f"/proc/{process.pid}"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended, or is just ending
    return found


def _anonymous_files(process: Path) -> set[str]:
    found = set()
    for line in (process / "maps").read_text(encoding="utf-8").splitlines():
        if ANONYMOUS in line:
            found.add(f"process {process.name} maps inode {line.split()[4]}")
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if ANONYMOUS in os.readlink(descriptor):
                found.add(f"process {process.name} has inode {descriptor.stat().st_ino} open")
    return found


def _cuda_is_available() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())
