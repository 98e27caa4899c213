"""Pages that a device registers: found by address, kept until they are unmapped, and never lent to a second segment."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from cgc.runtime._core import Arena, keep_pages, map_private, pages_of, retired_pages, unmap_pages
from tests.runtime.core_peers import DEADLINE, run_alone

LARGE = 1 << 20


def filled(value: int, size: int = LARGE) -> np.ndarray:
    return np.full(size, value, np.uint8)


def address_of(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def is_mapped(address: int) -> bool:
    with open("/proc/self/maps") as maps:
        bounds = [line.split()[0].split("-") for line in maps]
    return any(int(first, 16) <= address < int(end, 16) for first, end in bounds)


def file_offset(address: int) -> int:
    """Where in its file the memory at an address is."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            bounds, _, offset, *_ = line.split()
            first, end = (int(bound, 16) for bound in bounds.split("-"))
            if first <= address < end:
                return int(offset, 16) + address - first
    raise AssertionError(f"nothing is mapped at {address:#x}")


def unmap_retired() -> list[int]:
    addresses = retired_pages(0)
    for address in addresses:
        unmap_pages(address)
    return addresses


class Ends:
    """The two ends of a ring, each with mappings of its own, as in two processes."""

    def __init__(self, offering: bool = True) -> None:
        self.arena = Arena.create([(1, 2, 1024)], 0)
        self.peer = Arena.attach(self.arena.handle)
        assert not offering or self.peer.offer_pages()
        self.writer, self.reader = self.arena.writer(0), self.peer.reader(0, 0)

    def send(self, value: int, size: int = LARGE) -> memoryview:
        self.writer.write(value, b"", [filled(value, size)])
        return self.reader.read(DEADLINE)[2][0]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "cgc-unpin":  # of tests of devices: it would unmap what is kept here
            thread.join(DEADLINE)
            assert not thread.is_alive()
    unmap_retired()
    yield
    gc.collect()
    unmap_retired()


@pytest.fixture
def arena() -> Arena:
    made = Arena.create([(1, 2, 1024)], 0)
    assert made.offer_pages()
    return made


def test_what_lies_in_a_segment_is_found_by_its_address(arena: Arena) -> None:
    writer, reader = arena.writer(0), arena.reader(0, 0)
    reserved = writer.reserve(LARGE)
    base, offset = pages_of(reserved) or (0, 0)
    assert base + offset == address_of(reserved)
    del reserved
    writer.write(0, b"", [filled(0), filled(1)])
    first, second = reader.read()[2]
    (base, at), (same, behind) = pages_of(first) or (0, 0), pages_of(second) or (0, 0)
    assert base == same
    assert behind - at == LARGE
    assert pages_of(np.frombuffer(second, np.uint8)[100:]) == (base, behind + 100), "however it is wrapped"
    assert pages_of(bytearray(LARGE)) is None
    assert pages_of(map_private(first)) is None
    with pytest.raises(TypeError, match="exports no buffer"):
        pages_of(1)  # type: ignore[arg-type]


def test_only_arenas_without_a_limit_offer_pages() -> None:
    for arena, offered in ((Arena.create([(1, 2, 1024)], 0), None), (Arena.create([(1, 2, 1024)], 0, 1 << 24), False)):
        assert offered is None or arena.offer_pages() is offered
        view = arena.writer(0).reserve(LARGE)
        assert pages_of(view) is None
        with pytest.raises(ValueError, match="does not lie in a segment"):
            keep_pages(view)


def test_kept_pages_stay_mapped_until_they_are_unmapped() -> None:
    ends = Ends()
    view = ends.send(7)
    address, _ = pages_of(view) or (0, 0)
    pages = keep_pages(view)
    assert address_of(pages) == address
    assert pages.readonly
    with pytest.raises(ValueError, match="were retired"):
        unmap_pages(address)  # while it is in use
    del ends
    assert retired_pages(0) == [], "a view is a user, and outlives its reader and its arena"
    del view
    assert (np.frombuffer(pages, np.uint8)[:LARGE] == 7).all(), "the device may still read it"
    with pytest.raises(ValueError, match="were retired"):
        unmap_pages(address)  # before anybody was told
    assert retired_pages(0) == [address]
    assert retired_pages(0) == [], "once"
    assert is_mapped(address)
    unmap_pages(address)
    assert not is_mapped(address)
    with pytest.raises(ValueError, match="were retired"):
        unmap_pages(address)


def test_pages_that_nobody_keeps_are_unmapped_with_their_last_user() -> None:
    ends = Ends()
    view = ends.send(1)
    address, _ = pages_of(view) or (0, 0)
    del ends, view
    assert retired_pages(0) == []
    assert not is_mapped(address)


def test_memory_for_a_device_is_writable_where_it_was_reserved(arena: Arena) -> None:
    view = arena.writer(0).reserve(LARGE)
    pages = keep_pages(view)
    assert not pages.readonly
    np.frombuffer(pages, np.uint8)[:3] = 5
    assert bytes(view[:3]) == b"\5\5\5"


@pytest.mark.parametrize("offering", [True, False])
def test_a_range_of_the_file_is_used_twice_only_where_no_pages_are_offered(offering: bool) -> None:
    """Else the device would have the pages of before, and the processor those of now."""
    ends = Ends(offering)
    first = ends.send(1)
    place = file_offset(address_of(first))
    if offering:
        keep_pages(first)
    del first
    larger = ends.send(2, 2 * LARGE)  # in place of the first segment, which is free
    again = ends.send(3)
    assert (file_offset(address_of(again)) == place) is not offering
    retired = retired_pages(0)
    assert (len(retired) == 1) is offering, "the reader lets go of what its writer has dropped"
    for address in retired:
        unmap_pages(address)
    assert (larger[0], again[0]) == (2, 3)


def test_views_dropped_by_any_thread_are_told_to_the_one_that_waits() -> None:
    ends = Ends()
    told: list[int] = []

    def unmap() -> None:
        while len(told) < 16:
            addresses = retired_pages(DEADLINE)
            assert addresses, "nothing was told in time"
            for address in addresses:
                unmap_pages(address)
            told.extend(addresses)

    waiting = threading.Thread(target=unmap)
    waiting.start()
    views = [ends.send(value) for value in range(16)]
    for view in views:
        keep_pages(view)
    addresses = {address for address, _ in (pages_of(view) or (0, 0) for view in views)}
    del view, ends
    dropping = [threading.Thread(target=views.pop) for _ in range(16)]
    for thread in dropping:
        thread.start()
    for thread in [*dropping, waiting]:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert len(addresses) == 16
    assert set(told) == addresses


def test_a_forked_child_leaves_the_parents_pages_alone() -> None:
    ends = Ends()
    view = ends.send(9)
    address, _ = pages_of(view) or (0, 0)
    keep_pages(view)
    child = os.fork()
    if child == 0:
        try:
            found = pages_of(view)
            del view, ends
            gc.collect()
            good = found is None and retired_pages(0) == [] and is_mapped(address)
            own = Ends()
            own_view = own.send(1)
            keep_pages(own_view)
            own_address, _ = pages_of(own_view) or (0, 0)
            del own_view, own
            os._exit(0 if good and retired_pages(0) == [own_address] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pages_of(view) == (address, address_of(view) - address)
    del view, ends
    assert retired_pages(0) == [address]
    unmap_pages(address)


def test_a_process_ends_while_pages_are_kept_and_waited_for() -> None:
    code = """
import threading
from cgc.runtime import _core
arena = _core.Arena.create([(1, 2, 1024)], 0)
arena.offer_pages()
view = arena.writer(0).reserve(1 << 20)
_core.keep_pages(view)
threading.Thread(target=_core.retired_pages, daemon=True).start()
"""
    assert run_alone(code).returncode == 0
