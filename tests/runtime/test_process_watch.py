"""Who ended, told at once and without cost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from cgc.runtime import process_watch
from cgc.runtime.process_watch import ProcessWatcher, is_running, wait_until_ended
from tests.runtime.helpers import DEADLINE, eventually


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture(params=["pidfd", "proc"])
def how(request, monkeypatch) -> str:
    """With pidfds, and as where the kernel or a sandbox refuses them."""
    if request.param == "proc":
        monkeypatch.setattr(process_watch, "_open_pidfd", lambda _: -1)
    return request.param


def test_a_death_is_told_once(how, sleeper):
    watcher = ProcessWatcher()
    told = threading.Semaphore(0)
    watcher.watch(sleeper.pid, told.release)
    assert not told.acquire(timeout=0.1)
    sleeper.kill()  # not waited for: a zombie has ended too
    assert told.acquire(timeout=DEADLINE)
    assert not told.acquire(timeout=0.1)
    eventually(lambda: watcher._thread is None, "the thread ends when nothing is watched")


def test_a_process_that_has_ended_before(how):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    told = threading.Event()
    ProcessWatcher().watch(process.pid, told.set)
    assert told.wait(DEADLINE)


def test_a_forgotten_process_is_not_told_of(how, sleeper):
    watcher = ProcessWatcher()
    forgotten, kept = threading.Event(), threading.Event()
    token = watcher.watch(sleeper.pid, forgotten.set)
    watcher.watch(sleeper.pid, kept.set)
    watcher.forget(token)
    watcher.forget(token)
    sleeper.kill()
    assert kept.wait(DEADLINE)
    assert not forgotten.is_set()


def test_a_callback_that_fails_does_not_end_the_watch(sleeper, caplog):
    watcher = ProcessWatcher()
    told = threading.Event()

    def fail() -> None:
        raise ValueError("on purpose")

    watcher.watch(sleeper.pid, fail)
    watcher.watch(sleeper.pid, told.set)
    sleeper.kill()
    assert told.wait(DEADLINE)
    assert "on purpose" in caplog.text


def test_nothing_is_left(sleeper):
    before = len(os.listdir("/proc/self/fd"))
    watcher = ProcessWatcher()
    for _ in range(20):
        watcher.forget(watcher.watch(sleeper.pid, lambda: None))
    eventually(lambda: watcher._thread is None, "the thread ends")
    assert len(os.listdir("/proc/self/fd")) == before


def test_waiting_for_an_end(how, sleeper):
    assert is_running(sleeper.pid)
    assert not wait_until_ended(sleeper.pid, 0.05)
    threading.Timer(0.1, sleeper.kill).start()
    assert wait_until_ended(sleeper.pid, DEADLINE)
    assert not is_running(sleeper.pid)
