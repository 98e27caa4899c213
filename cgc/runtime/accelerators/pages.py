"""
The pages of channels that a device copies from and to by itself: registered once for each mapping of a segment.

    place = pinned(accelerator, view)      the registration that `view` lies in, and where; None: copy it first
    copy_in(array, memory, offset)         while a reference to `view` keeps the segment leased, and with it mapped

The native core unmaps segments when their last user goes, which may be any thread within any call, and a registration
has to end before that. So a mapping that is registered is kept, the core tells when its last user is gone, and a thread
of this module, which is the only one that ends registrations, does that and has it unmapped (native/pages.h).

Where a device cannot register memory (a limit on locked memory, for example), it is not asked again in this process.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Any

from cgc.runtime import _core
from cgc.runtime.accelerators.interface import Accelerator, PinnedMemory

logger = logging.getLogger(__name__)


def pinned(accelerator: Accelerator, view: Any) -> tuple[PinnedMemory, int] | None:
    """
    Registered memory that a contiguous buffer lies in, and the buffer's offset in it in bytes.

    None for memory that is not of a channel whose arena offers its pages, and where the device registers none. Valid
    while there is a reference to the buffer.
    """
    place = _core.pages_of(view)
    if place is None:
        return None
    address, offset = place
    memory = _registry.memory_at(address, accelerator, view)
    return None if memory is None else (memory, offset)


def can_pin(accelerator: Accelerator) -> bool:
    """False once the device could not register a channel's pages."""
    return not _registry.refuses(accelerator)


class _Registry:
    """The registrations of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memories: dict[int, weakref.WeakKeyDictionary[Accelerator, PinnedMemory]] = {}  # by address
        self._kept: set[int] = set()  # addresses of what is kept mapped, registered or not
        self._refused: weakref.WeakSet[Accelerator] = weakref.WeakSet()
        self._thread: threading.Thread | None = None

    def memory_at(self, address: int, accelerator: Accelerator, view: Any) -> PinnedMemory | None:
        """The registration of the mapping at `address`, which `view` is in; None if the device refuses it."""
        with self._lock:
            memories = self._memories.get(address)
            memory = None if memories is None else memories.get(accelerator)
            if memory is None and accelerator not in self._refused:
                memory = self._register(address, accelerator, view)
            return memory

    def refuses(self, accelerator: Accelerator) -> bool:
        """True once the device could not register something."""
        return accelerator in self._refused

    def _register(self, address: int, accelerator: Accelerator, view: Any) -> PinnedMemory | None:
        pages = _core.keep_pages(view)
        self._kept.add(address)
        if self._thread is None:
            self._thread = threading.Thread(target=self._end_registrations, name="cgc-unpin", daemon=True)
            self._thread.start()
        try:
            memory = accelerator.pin(pages)
        except (RuntimeError, MemoryError, OSError) as error:
            # The text: the error itself would keep the view wherever the record is kept.
            why = str(error)
            logger.debug("%s does not pin channels, which are copied once more instead: %s", accelerator.name, why)
            self._refused.add(accelerator)
            return None
        self._memories.setdefault(address, weakref.WeakKeyDictionary())[accelerator] = memory
        return memory

    def _end_registrations(self) -> None:
        """The thread: until nothing is kept."""
        while True:
            for address in _core.retired_pages():
                with self._lock:  # not after unmapping: then the address may be another mapping's
                    memories = self._memories.pop(address, None)
                    self._kept.discard(address)
                for memory in list(memories.values()) if memories else ():
                    try:
                        memory.release()
                    except Exception:
                        logger.exception("cannot end the pinning of a channel's memory")
                _core.unmap_pages(address)
            with self._lock:
                if not self._kept:
                    self._thread = None
                    return


_registry = _Registry()
_of_parents: list[_Registry] = []


def _start_over_in_child() -> None:
    """A forked child has no driver, and not the thread: what its parent has registered is not its to end."""
    global _registry
    _of_parents.append(_registry)
    _registry = _Registry()


os.register_at_fork(after_in_child=_start_over_in_child)
