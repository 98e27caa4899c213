"""The workers' own steps on adversarial devices: right numbers for every graph of the zoo, and every wait is needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from cgc.runtime.accelerators.crossing import Crossing
from cgc.runtime.accelerators.transfers import Arrival, Transfers
from cgc.runtime.communicators.edges import Receiver
from tests.runtime.accelerators.adversary import World
from tests.runtime.accelerators.machine import ZOO, Machine, QueuedCommunicator, has_broadcasts, has_groups
from tests.runtime.accelerators.test_transfers import (
    arrive_without_keeping,
    arrive_without_waiting,
    depart_without_keeping,
    depart_without_waiting,
)

SEEDS = range(int(os.environ.get("CGC_TEST_SEEDS", "2")))
"""`CGC_TEST_SEEDS=1000 python -m pytest --timeout=0 tests/runtime/accelerators/test_zoo.py` takes half an hour."""

MUTANT_SEEDS = range(10)

BROADCASTING = [name for name in ZOO if has_broadcasts(name)]
"""Graphs of the zoo in which the cost model finds broadcasts shorter than single messages."""

GROUPING = [name for name in ZOO if has_groups(name)]
"""Graphs in which messages cross, which are groups by default."""

pytestmark = pytest.mark.usefixtures("ray_session")  # the driver's half asks Ray whether it runs in an actor


def run(name: str, streams: bool, seeds: range, *, broadcast: bool = False) -> None:
    for seed in seeds:
        try:
            Machine(name, World(seed), streams, broadcast=broadcast).run()
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
