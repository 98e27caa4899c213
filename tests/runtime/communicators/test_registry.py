"""The registry of communicators: one joining per key, counted uses, and ends that do not hang."""

from __future__ import annotations

import threading

import pytest

from cgc.runtime.communicators import registry
from cgc.runtime.communicators.registry import CommunicatorRegistry

DEADLINE = 10.0


class Recorder:
    """As much of a communicator as the registry touches."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def initialize(self, rank: int) -> None:
        self.events.append(f"join {rank}")

    def destroy(self) -> None:
        self.events.append("destroy")


class Abortable(Recorder):
    def abort(self, reason: str) -> None:
        self.events.append(f"abort: {reason}")


def test_the_first_use_joins_and_the_last_one_destroys() -> None:
    own, first, second = CommunicatorRegistry(), Recorder(), Recorder()
    assert own.acquire("k", first, 1) is first
    assert own.acquire("k", second, 1) is first
    own.release("k")
    assert first.events == ["join 1"]
    own.release("k")
    assert first.events == ["join 1", "destroy"]
    assert second.events == []
    assert own.keys == ()
    own.release("k")


def test_one_key_has_one_rank() -> None:
    own, communicator = CommunicatorRegistry(), Recorder()
    own.acquire("k", communicator, 0)
    with pytest.raises(ValueError, match="rank 0 of the communicator already"):
        own.acquire("k", communicator, 1)
    own.release("k")
    assert communicator.events == ["join 0", "destroy"]


def test_an_aborted_communicator_is_of_no_use_until_all_have_left() -> None:
    own, communicator = CommunicatorRegistry(), Abortable()
    own.acquire("k", communicator, 0)
    own.abort("k", "a peer died")
    own.abort("k", "again")
    with pytest.raises(RuntimeError, match="a peer died"):
        own.acquire("k", communicator, 0)
    own.release("k")
    own.acquire("k", Recorder(), 0)
    assert communicator.events == ["join 0", "abort: a peer died", "destroy"]


def test_without_abort_it_is_destroyed_once() -> None:
    own, communicator = CommunicatorRegistry(), Recorder()
    own.acquire("k", communicator, 0)
    own.abort("k", "a peer died")
    own.release("k")
    assert communicator.events == ["join 0", "destroy"]


def test_a_failed_joining_leaves_nothing() -> None:
    class Refuses(Recorder):
        def initialize(self, rank: int) -> None:
            raise OSError("no such network")

    own = CommunicatorRegistry()
    with pytest.raises(OSError, match="no such network"):
        own.acquire("k", Refuses(), 0)
    assert own.keys == ()


def test_a_destroy_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DESTROY_TIMEOUT_S", 0.05)
    finish = threading.Event()

    class Hangs(Recorder):
        def destroy(self) -> None:
            finish.wait(DEADLINE)
            super().destroy()

    own, communicator = CommunicatorRegistry(), Hangs()
    own.acquire("k", communicator, 0)
    own.release("k")
    assert communicator.events == ["join 0"]
    finish.set()


def test_two_threads_join_once() -> None:
    release = threading.Event()

    class Slow(Recorder):
        def initialize(self, rank: int) -> None:
            release.wait(DEADLINE)
            super().initialize(rank)

    own, communicator = CommunicatorRegistry(), Slow()
    threads = [threading.Thread(target=own.acquire, args=("k", communicator, 0)) for _ in range(2)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert communicator.events == ["join 0"]
