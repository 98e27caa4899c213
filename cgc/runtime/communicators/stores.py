"""torch stores over what `rendezvous` names. Apart from it because this module imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from ray.exceptions import RayChannelError, RayChannelTimeoutError
from torch.distributed import FileStore, Store

from cgc.runtime import ray_internals

POLL_S = 0.001
"""Seconds between two looks for a key that somebody else will set."""


def open_file(path: str, timeout: float) -> Store:
    """A store in the file `path`, which stays when the store goes."""
    store = FileStore(path, -1)  # given a world size, it would delete the file
    store.set_timeout(timedelta(seconds=timeout))
    return store


class RayStore(Store):  # type: ignore[misc]
    """The part of a torch store that gloo's handshake needs, over Ray's internal key-value store."""

    def __init__(self, prefix: bytes, timeout: float, is_cancelled: Callable[[], bool]) -> None:
        super().__init__()
        self._prefix = prefix
        self._timeout = timeout
        self._is_cancelled = is_cancelled

    def set(self, key: str, value: bytes) -> None:
        ray_internals.cluster_put(self._prefix + key.encode(), bytes(value))

    def get(self, key: str) -> bytes:
        """Raises `RayChannelTimeoutError` if nobody sets the key in time, `RayChannelError` if it is cancelled."""
        deadline = time.monotonic() + self._timeout
        while True:
            value = ray_internals.cluster_get(self._prefix + key.encode())
            if value is not None:
                return value
            if self._is_cancelled():
                raise RayChannelError(f"joining was cancelled while no rank had set {key!r}")
            if time.monotonic() > deadline:
                raise RayChannelTimeoutError(f"no rank has set {key!r} within {self._timeout:g} s")
            time.sleep(POLL_S)

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        for key in keys:
            self.get(key)
