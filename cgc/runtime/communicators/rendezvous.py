"""
How the ranks of a gloo group find each other: a small key-value store that all of them can reach.

Neither kind listens on a port or leaves a file behind, and nothing that comes out of either is unpickled:

- `MemfdRendezvous`: an anonymous file of the process that made it, opened by the others through `/proc`. One node, one
  user: the kernel checks that. Gone with its maker, however that ends.
- `RayRendezvous`: keys in Ray's own store (the GCS), for actors on any nodes. It can be reached by exactly those who
  can reach the Ray cluster.

torch's `TCPStore` is not used: it serves whoever can connect. What does listen is gloo itself, once per group, on the
address that `gloo_group` binds: it authenticates nobody, so the group listens on the loopback address if all ranks
are on one node, and else on the nodes' own addresses, within the network that Ray trusts.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import ray

from cgc.runtime import ray_internals

LOOPBACK = "127.0.0.1"


def _never() -> bool:
    return False


class Rendezvous(Protocol):
    """How ranks meet: picklable, unlike the stores it opens."""

    def open(self, timeout: float, is_cancelled: Callable[[], bool] = _never) -> Any:
        """A `torch.distributed.Store` whose reads wait up to `timeout` seconds, or until they are cancelled."""

    def host(self, store: Any, rank: int, world_size: int) -> str:
        """The address on which this rank is to listen. Called by all ranks, with what `open` returned."""

    def close(self) -> None:
        """Forget all keys. For the process that made the rendezvous, once all ranks are connected. Idempotent."""


class MemfdRendezvous:
    """A rendezvous in an anonymous file, for processes of one user on one node."""

    def __init__(self) -> None:
        descriptor = os.memfd_create("cgc-rendezvous")
        self.path = f"/proc/{os.getpid()}/fd/{descriptor}"
        self._close_descriptor: weakref.finalize[..., Any] | None = weakref.finalize(self, os.close, descriptor)

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, path: str) -> None:
        self.path = path
        self._close_descriptor = None

    def open(self, timeout: float, is_cancelled: Callable[[], bool] = _never) -> Any:
        """Reads cannot be cancelled: ranks on one node are there, or dead."""
        from cgc.runtime.communicators import stores

        return stores.open_file(self.path, timeout)

    def host(self, store: Any, rank: int, world_size: int) -> str:
        return LOOPBACK

    def close(self) -> None:
        if self._close_descriptor is not None:
            self._close_descriptor()


class RayRendezvous:
    """A rendezvous in Ray's internal key-value store, for actors and drivers of one cluster."""

    def __init__(self, name: str) -> None:
        """`name` is unique in the cluster."""
        self.prefix = f"rendezvous/{name}/".encode()

    def open(self, timeout: float, is_cancelled: Callable[[], bool] = _never) -> Any:
        from cgc.runtime.communicators import stores

        return stores.RayStore(self.prefix, timeout, is_cancelled)

    def host(self, store: Any, rank: int, world_size: int) -> str:
        node = ray.get_runtime_context().get_node_id().encode()
        store.set(f"node/{rank}", node)
        if all(store.get(f"node/{other}") == node for other in range(world_size)):
            return LOOPBACK
        return str(ray.util.get_node_ip_address())

    def close(self) -> None:
        ray_internals.cluster_delete(self.prefix)
