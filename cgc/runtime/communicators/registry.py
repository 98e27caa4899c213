"""
The communicators of one process: joined when the first graph needs one, left when the last graph is torn down.

Graphs refer to a communicator by a key that the driver chose. Within a graph everything that has the same actors and
kind shares one communicator. Graphs do not share any, although the registry would let them: collectives of two graphs
that run at the same time would meet in any order, on each rank another one, which no communicator can sort out.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ray.experimental.channel.communicator import Communicator

DESTROY_TIMEOUT_S = 5.0
"""How long to wait for a communicator's `destroy`; one that hangs is left to its own thread."""


@dataclass(slots=True)
class _Entry:
    communicator: Communicator
    rank: int
    users: int = 0
    joining: threading.Lock = field(default_factory=threading.Lock)
    joined: bool = False
    broken: str = ""
    destroyed: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


class CommunicatorRegistry:
    """Communicators by key, counted. Thread-safe."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def acquire(self, key: str, communicator: Communicator, rank: int) -> Communicator:
        """
        The joined communicator of `key`: `communicator` itself, or the one that was joined first under this key.

        Blocks until all ranks have called this. Every call that returns needs one `release`.

        Raises:
            ValueError: The key is in use with another rank.
            RuntimeError: The key's communicator was aborted and has not been released by all its users.
            Exception: Whatever the communicator's `initialize` raises; then the key is free again.
        """
        with self._lock:
            entry = self._entries.setdefault(key, _Entry(communicator, rank))
            entry.users += 1
        try:
            with entry.joining:
                _join(entry, rank)
        except BaseException:
            self.release(key)
            raise
        return entry.communicator

    def release(self, key: str) -> None:
        """End one use; the last one destroys the communicator, without waiting for peers. Unknown keys are ignored."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return
            entry.users -= 1
            if entry.users > 0:
                return
            del self._entries[key]
        if entry.destroyed:
            entry.ended.wait(DESTROY_TIMEOUT_S)  # who is told that this process has left may use its addresses again
        else:
            _end(entry.communicator.destroy)

    def abort(self, key: str, reason: str) -> None:
        """
        Wake everybody who waits in the communicator; it stays of no use until all its users have released it.

        A communicator without `abort` is destroyed, which is what Ray does in this case. Unknown keys are ignored.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.broken:
                return
            entry.broken = reason
            abort = getattr(entry.communicator, "abort", None)
            entry.destroyed = abort is None
        _end(entry.communicator.destroy if abort is None else lambda: abort(reason))
        entry.ended.set()

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys in use."""
        with self._lock:
            return tuple(self._entries)


REGISTRY = CommunicatorRegistry()
"""This process's own."""


def _join(entry: _Entry, rank: int) -> None:
    if entry.rank != rank:
        raise ValueError(f"this process is rank {entry.rank} of the communicator already, and cannot be {rank} too")
    if entry.broken:
        raise RuntimeError(f"the communicator is of no more use ({entry.broken}); tear down the graphs that use it")
    if not entry.joined:
        entry.communicator.initialize(rank)
        entry.joined = True


def _end(action: Callable[[], None]) -> None:
    """Run a communicator's clean-up, which is the user's code and may hang or raise."""

    def run() -> None:
        with contextlib.suppress(Exception):
            action()

    thread = threading.Thread(target=run, name="cgc-communicator-end", daemon=True)
    thread.start()
    thread.join(DESTROY_TIMEOUT_S)
