"""Joining an nccl group is a call that nothing interrupts: who waits for it goes on without it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from ray.exceptions import RayChannelError, RayChannelTimeoutError

from cgc.runtime.communicators.nccl import within
from tests.runtime.helpers import eventually

LONG = 60.0
SOON = 5.0


class Joining:
    """A call that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.undone: list[str] = []

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(LONG)
        return "joined"


@pytest.fixture
def joining() -> Iterator[Joining]:
    call = Joining()
    yield call
    call.may_end.set()


def fail() -> str:
    raise TimeoutError("no network")


def test_the_result_or_the_error_of_the_call_is_passed_on(joining: Joining) -> None:
    joining.may_end.set()
    assert within(LONG, joining, "joining", lambda: "", joining.undone.append) == "joined"
    with pytest.raises(TimeoutError, match="no network"):
        within(LONG, fail, "joining", lambda: "", joining.undone.append)
    assert joining.undone == []


def test_who_is_told_that_the_graph_has_ended_goes_on_at_once(joining: Joining) -> None:
    begin = time.monotonic()
    with pytest.raises(RayChannelError, match="joining was cancelled: a peer died"):
        within(LONG, joining, "joining", lambda: "a peer died" if joining.begun.is_set() else "", joining.undone.append)
    assert time.monotonic() - begin < SOON
    joining.may_end.set()
    eventually(lambda: joining.undone == ["joined"], "what came too late is given up")


def test_joining_takes_no_longer_than_it_may(joining: Joining) -> None:
    with pytest.raises(RayChannelTimeoutError, match=r"joining took more than 0\.1 s: not all of its actors came"):
        within(0.1, joining, "joining", lambda: "", joining.undone.append)
