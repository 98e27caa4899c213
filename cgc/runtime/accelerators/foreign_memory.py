"""
Memory of other processes that this process has open, for the arrays over it that are lent.

Opening is slow, so what was used last stays open while no array is in it, and nothing is opened twice. What stays open
its owner cannot free.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from cgc.runtime.accelerators.interface import Lending

MOST_MAPPINGS = 64
"""Pieces of memory of others that a process keeps open although no array is in them."""


class Mappings:
    """Pieces of other processes' memory that this process has open with one accelerator. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, Any] = OrderedDict()
        self._users: dict[bytes, int] = {}

    def open(self, accelerator: Lending, memory: bytes) -> Any:
        """The mapping of a piece of memory, which stays until it is closed as often as opened, and is not needed."""
        with self._lock:
            if memory not in self._open:
                self._open[memory] = accelerator.map_memory(memory)
            self._open.move_to_end(memory)
            self._users[memory] = self._users.get(memory, 0) + 1
            return self._open[memory]

    def close(self, accelerator: Lending, memories: Sequence[bytes]) -> None:
        """Give up mappings; those that were used last stay open for the next time."""
        with self._lock:
            for memory in memories:
                self._users[memory] -= 1
            self._close_but(accelerator, MOST_MAPPINGS)

    def close_unused(self, accelerator: Lending) -> None:
        """Close what nobody uses, so that its owner can free it."""
        with self._lock:
            self._close_but(accelerator, 0)

    def _close_but(self, accelerator: Lending, most: int) -> None:
        unused = [memory for memory in self._open if not self._users[memory]]
        for memory in unused[: max(0, len(unused) - most)]:
            del self._users[memory]
            accelerator.unmap_memory(self._open.pop(memory))


def mappings_of(accelerator: Lending) -> Mappings:
    """What this process has open with an accelerator."""
    with _mappings_lock:
        found = _mappings.get(accelerator)
        if found is None:
            found = _mappings[accelerator] = Mappings()
        return found


_mappings: weakref.WeakKeyDictionary[Lending, Mappings] = weakref.WeakKeyDictionary()
_mappings_lock = threading.Lock()
