"""
Hand-over of ObjectRefs and actor handles that travel inside messages.

Ray counts references per process, and the owner of an object learns of a new holder only when the reference is an
argument or a result of a Ray call. A reference that goes through a channel alone is therefore good for as long as the
sender keeps its own. So for messages that carry references, which are rare, a Ray call goes along:

- The sender makes an *offer* of the references, which travels in the message as a token, and keeps it until the slot of
  the message is used again: then every reader is done with the message.
- A reader fetches the references with a call on the sending actor before it decodes the message. It is a holder in
  Ray's books from then on.
- A driver that is no actor cannot be called: it brings the references to its readers by a call, and they wait for it.
"""

from __future__ import annotations

import logging
import pickle
import struct
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import ray
import ray.actor

from cgc.runtime import _core, ray_internals

TIMEOUT = 10.0
"""Seconds that a reader waits for references; then it goes on without being a holder in Ray's books."""

CARRIED: tuple[type, ...] = (ray.ObjectRef, ray.actor.ActorHandle)
"""What is handed over."""

logger = logging.getLogger(__name__)

_offers: weakref.WeakValueDictionary[str, Offer] = weakref.WeakValueDictionary()
_brought: dict[str, list[Any]] = {}
_news = threading.Condition()
_prefix = struct.Struct("<I")


class Offer:
    """References of one message; they can be fetched for as long as this object lives."""

    def __init__(self, references: Sequence[Any]) -> None:
        self.token = uuid.uuid4().hex
        self.references = list(references)
        _offers[self.token] = self

    def head(self) -> bytes:
        """What goes in front of the message: who is to be asked, and for what."""
        blob, _ = ray_internals.dumps_in_band((_this_actor(), self.token), ray_internals.CloudPickler, None)
        return _prefix.pack(len(blob)) + blob


class OfferKeeper:
    """Keeps the offers of one channel's messages until every reader is done with them."""

    __slots__ = ("_bring", "_slots", "_writer", "entries")

    def __init__(self, writer: _core.Writer, slots: int, bring: Callable[[Offer], None] | None = None) -> None:
        self._writer = writer
        self._slots = slots
        self._bring = bring
        self.entries: deque[tuple[int, tuple[Offer, ...]]] = deque()
        """(messages published, offers of the last one). While this is empty and there is no offer, skip `update`."""

    def update(self, offers: tuple[Offer, ...]) -> None:
        """After a message with `offers`: keep those, and let go of what is old."""
        published = self._writer.published
        while self.entries and self.entries[0][0] + self._slots < published:
            self.entries.popleft()
        if offers:
            self.entries.append((published, offers))
            if self._bring is not None:
                for offer in offers:
                    self._bring(offer)


def bring_to(readers: Sequence[ray.actor.ActorHandle]) -> Callable[[Offer], None] | None:
    """How the driver brings an offer to its readers; None where they can fetch it."""
    if _this_actor() is not None:
        return None

    def bring(offer: Offer) -> None:
        for reader in readers:
            ray_internals.call_on_actor(reader, _receive, offer.token, offer.references)

    return bring


def take_over(message: Any) -> tuple[list[Any], memoryview]:
    """
    Become a holder of a message's references: gives them, and the message without its head.

    The references must be kept until the message is decoded.
    """
    view = memoryview(message)
    (size,) = _prefix.unpack_from(view)
    end = _prefix.size + size
    sender, token = pickle.loads(view[_prefix.size : end])
    references = _wait_for(token) if sender is None else _fetch(sender, token)
    return references, view[end:]


def _fetch(sender: ray.actor.ActorHandle, token: str) -> list[Any]:
    try:
        references: list[Any] = ray.get(ray_internals.call_on_actor(sender, _give, token), timeout=TIMEOUT)
        return references
    except Exception:  # the sender has died: its references are as good as they are
        logger.debug("references could not be fetched from %s", sender, exc_info=True)
        return []


def _give(_instance: object, token: str) -> list[Any]:
    """Runs on the sender."""
    offer = _offers.get(token)
    return [] if offer is None else offer.references


def _receive(_instance: object, token: str, references: list[Any]) -> None:
    """Runs on the reader."""
    with _news:
        _brought[token] = references
        _news.notify_all()


def _wait_for(token: str) -> list[Any]:
    with _news:
        if not _news.wait_for(lambda: token in _brought, TIMEOUT):
            logger.debug("references %s were not brought", token)
        return _brought.pop(token, [])


def _this_actor() -> ray.actor.ActorHandle | None:
    context = ray.get_runtime_context()
    return None if context.get_actor_id() is None else context.current_actor
