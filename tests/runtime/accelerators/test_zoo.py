"""The workers' own steps on adversarial devices: right numbers for every graph of the zoo, and every wait is needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from cgc.runtime.accelerators.crossing import Crossing
from cgc.runtime.accelerators.lending import Borrower, Lender
from cgc.runtime.accelerators.transfers import Arrival, Transfers
from cgc.runtime.communicators.edges import Receiver
from cgc.runtime.program import Collective
from tests.runtime.accelerators.machine import ZOO, Machine, QueuedCommunicator, compiled, has_broadcasts, has_groups
from tests.runtime.accelerators.test_transfers import (
    arrive_without_keeping,
    arrive_without_waiting,
    depart_without_keeping,
    depart_without_waiting,
)
from tests.runtime.accelerators.world import World

SEEDS = range(int(os.environ.get("CGC_TEST_SEEDS", "2")))
"""`CGC_TEST_SEEDS=1000 python -m pytest --timeout=0 tests/runtime/accelerators/test_zoo.py` takes hours."""

MUTANT_SEEDS = range(10)

BROADCASTING = [name for name in ZOO if has_broadcasts(name)]
"""Graphs of the zoo in which the cost model finds broadcasts shorter than single messages."""

GROUPING = [name for name in ZOO if has_groups(name)]
"""Graphs in which messages cross, which are groups by default."""

SHARING = [name for name in ZOO if name != "collectives"]
"""Graphs whose actors may share a device: a communicator needs one for each."""

pytestmark = pytest.mark.usefixtures("ray_session")  # the driver's half asks Ray whether it runs in an actor


def run(name: str, streams: bool, seeds: range, *, broadcast: bool = False, lent: bool = False) -> None:
    for seed in seeds:
        try:
            Machine(name, World(seed), streams, broadcast=broadcast, lent=lent).run()
        except AssertionError as error:
            raise AssertionError(f"{name}, seed {seed}: {error}") from error


@pytest.mark.parametrize("streams", [False, True], ids=["programs", "streams"])
@pytest.mark.parametrize("name", ZOO)
def test_numbers_are_right(name: str, streams: bool) -> None:
    run(name, streams, SEEDS)


@pytest.mark.parametrize("streams", [False, True], ids=["programs", "streams"])
@pytest.mark.parametrize("name", BROADCASTING)
def test_numbers_of_broadcasts_are_right(name: str, streams: bool) -> None:
    run(name, streams, SEEDS, broadcast=True)


@pytest.mark.parametrize("name", GROUPING)
def test_numbers_are_right_where_a_communicator_has_no_groups(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then both ends do one message of a group after the other."""
    monkeypatch.delattr(QueuedCommunicator, "grouped")
    run(name, False, SEEDS)


def exchange_without_waiting(
    self: Transfers, arrays: Any, start: Callable[[], Any], ready: Any = None
) -> list[Arrival]:
    with self.accelerator.on_stream(self._collectives):
        results = start()
    event = self._collectives.record_event()
    return [Arrival(result, event, self.accelerator) for result in results]


def test_a_group_has_to_wait_for_what_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transfers, "exchange", exchange_without_waiting)
    with pytest.raises(AssertionError, match=r"all to all, seed \d+: \nArrays are not equal"):
        run("all to all", False, MUTANT_SEEDS)


def exchange_without_keeping(
    self: Transfers, arrays: Any, start: Callable[[], Any], ready: Any = None
) -> list[Arrival]:
    self._collectives.wait_event(ready or self.accelerator.current_stream().record_event())
    return exchange_without_waiting(self, arrays, start, ready)


@pytest.mark.parametrize(
    ("owner", "method", "mutant", "streams"),
    [
        (Transfers, "exchange", exchange_without_waiting, False),
        (Transfers, "exchange", exchange_without_waiting, True),
        (Transfers, "exchange", exchange_without_keeping, True),  # else the computation waits before it lets go
        (Arrival, "wait", arrive_without_waiting, False),
        (Arrival, "wait", arrive_without_waiting, True),
        (Arrival, "wait", arrive_without_keeping, False),
        (Arrival, "wait", arrive_without_keeping, True),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_each_wait_of_a_collective_is_needed(
    owner: type, method: str, mutant: Callable[..., Any], streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, method, mutant)
    with pytest.raises(AssertionError, match=r"collectives, seed \d+: \nArrays are not equal"):
        run("collectives", streams, MUTANT_SEEDS)


def test_collectives_are_on_streams_beside_calls() -> None:
    programs = compiled("collectives", True).values()
    operations = [each for program in programs for each in program.operations if isinstance(each, Collective)]
    assert {each.kind for each in operations if each.stream is not None} >= {"allreduce", "allgather"}
    assert all(each.communicator for each in operations)


@pytest.mark.parametrize("name", SHARING)
def test_numbers_are_right_where_all_share_a_device(name: str) -> None:
    channels = {c for program in compiled(name, False, lent=True).values() for c in program.channels}
    assert any(channel.returns for channel in channels)
    assert not any(channel.communicator for channel in channels)
    run(name, False, SEEDS, lent=True)


def leave_without_settling(self: Crossing) -> None:
    self._leaving.clear()


def receive_and_forget(self: Receiver) -> tuple[Any, tuple[()]]:
    self._number += 1
    self._arrivals = []
    return self._receive(), ()


@pytest.mark.parametrize("streams", [False, True], ids=["programs", "streams"])
@pytest.mark.parametrize(
    ("owner", "method", "mutant"),
    [
        (Arrival, "wait", arrive_without_waiting),
        (Arrival, "wait", arrive_without_keeping),
        (Transfers, "_depart", depart_without_waiting),
        (Transfers, "_depart", depart_without_keeping),
        (Crossing, "settle", leave_without_settling),
        (Receiver, "begin", receive_and_forget),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_each_wait_is_needed(
    owner: type, method: str, mutant: Callable[..., Any], streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("skip edges", streams, range(1))
    monkeypatch.setattr(owner, method, mutant)
    with pytest.raises(AssertionError, match=r"skip edges, seed \d+: \nArrays are not equal"):
        run("skip edges", streams, MUTANT_SEEDS)


def borrow_without_waiting(self: Borrower, accelerator: Any) -> None:
    self._event = b""
    self._stream = accelerator.current_stream()


def lend_without_holding(self: Lender) -> bytes:
    token = _token(self)
    if self._current is not None:
        self._current.holds.clear()
    return token


def lend_without_an_event(self: Lender) -> bytes:
    if self._current is not None:
        self._current.event.record = lambda: None  # type: ignore[method-assign]
    return _token(self)


_token = Lender.token


@pytest.mark.parametrize(
    ("owner", "method", "mutant"),
    [
        (Borrower, "_await_arrays", borrow_without_waiting),
        (Lender, "token", lend_without_holding),
        (Lender, "token", lend_without_an_event),
        (Lender, "_is_back", lambda self, reader, lent: True),
    ],
    ids=["reader waits", "writer holds", "writer records", "writer waits"],
)
def test_each_wait_and_hold_of_what_is_lent_is_needed(
    owner: type, method: str, mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("skip edges", False, range(1), lent=True)
    monkeypatch.setattr(owner, method, mutant)
    with pytest.raises(AssertionError, match=r"skip edges, seed \d+: \nArrays are not equal"):
        run("skip edges", False, MUTANT_SEEDS, lent=True)
