"""
What there is of accelerators: the table of kinds of devices, and the names that another kind needs to enter it.

A kind implements `Accelerator`, and `Lending` if other processes can open its arrays; `interface` says how.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cgc.runtime.accelerators import crossing
from cgc.runtime.accelerators.interface import (
    Accelerator,
    Array,
    Event,
    Exported,
    Lending,
    LentTo,
    PinnedMemory,
    SharedEvent,
    Stream,
)

if TYPE_CHECKING:
    from ray.experimental.channel.communicator import Communicator

__all__ = [
    "Accelerator",
    "Array",
    "Event",
    "Exported",
    "Lending",
    "LentTo",
    "PinnedMemory",
    "SharedEvent",
    "Stream",
    "assign",
    "assigned",
    "find",
    "make_communicator",
    "register",
]

RAYS_NAMES = {"gpu": "cuda"}
"""What Ray calls a resource, to the device type of its accelerators; others are called alike."""

_KINDS: dict[str, str] = {"cpu": "cgc.runtime.accelerators.cpu", "cuda": "cgc.runtime.accelerators.cuda"}
"""Device type to the module that has `ACCELERATOR`."""

_COMMUNICATORS: dict[str, str] = {
    "cpu": "cgc.runtime.communicators.gloo:GlooCommunicator",
    "cuda": "cgc.runtime.communicators.nccl:NcclCommunicator",
}
"""Device type to the class of its own communicator, which a driver makes without the device's library."""

_found: dict[str, Accelerator] = {}
_assigned: dict[str, tuple[str, ...]] = {}


def register(accelerator: Accelerator) -> None:
    """Make a kind of device, with its class of arrays, known to this process; replaces one of the same name."""
    _found[accelerator.name] = accelerator
    crossing.support(accelerator.array_type, partial(find, accelerator.name))


def assign(name: str, devices: Sequence[str]) -> None:
    """
    Say, in an actor's constructor, that the actor has devices of a kind that Ray does not know.

    `name` is that of the registered accelerator, `devices` are node-wide numbers, so that equal ones are one device.
    Ray's own assignments need no such call.
    """
    _assigned[name] = tuple(devices)


def assigned() -> dict[str, tuple[str, ...]]:
    """What `assign` was told in this process."""
    return dict(_assigned)


def find(name: str) -> Accelerator:
    """
    The kind of device called `name`, by its own name or Ray's.

    Raises:
        LookupError: There is none of that name.
        ImportError: Its library is not installed; the message names the extra to install.
    """
    name = RAYS_NAMES.get(name, name)
    if name not in _found:
        if name not in _KINDS:
            raise LookupError(_unknown(name))
        try:
            module = importlib.import_module(_KINDS[name])
        except ImportError as error:
            raise ImportError(f"tensors on {name} need PyTorch: pip install 'cgc[torch]' ({error})") from error
        _found[name] = module.ACCELERATOR
    return _found[name]


def make_communicator(name: str, actors: Sequence[Any]) -> Communicator:
    """A communicator of the kind of device called `name`. Raises LookupError if there is no such kind."""
    name = RAYS_NAMES.get(name, name)
    if name in _found:
        return _found[name].make_communicator(actors)
    if name not in _COMMUNICATORS:
        raise LookupError(_unknown(name))
    module, _, class_name = _COMMUNICATORS[name].partition(":")
    communicator: Communicator = getattr(importlib.import_module(module), class_name)(actors)
    return communicator


def _unknown(name: str) -> str:
    known = ", ".join(sorted({*_KINDS, *_found}))
    return f"no accelerator is called {name!r}; known: {known}, and what accelerators.base.register adds"
