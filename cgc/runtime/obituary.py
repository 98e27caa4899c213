"""
Why an actor of a graph is dead: what we saw at once, and Ray's own account as soon as there is one.

A pidfd tells of a death within milliseconds, and Ray's account follows 1 to 14 ms after the end of the process, but it
comes from the cluster's control plane, which may be late or away. Nobody is kept waiting for it for long: the first
error may say that there is no account yet, and later ones of the same graph have it.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import ray
import ray.exceptions

from cgc.runtime import ray_internals
from cgc.runtime.cluster import Member
from cgc.runtime.process_watch import is_running, wait_until_ended
from cgc.runtime.task_errors import fresh_copy

REASON_TIMEOUT = 0.3
"""Seconds in which Ray may say why an actor died, before the first error does without; twenty times what it takes."""

KILL_TIMEOUT = 2.0
"""Seconds for a process to end after `ray.kill`, which returns before; a busy machine takes up to one."""

logger = logging.getLogger(__name__)


class Obituary:
    """
    The end of one actor, for the errors that tell of it. Not thread-safe.

    Args:
        member: The actor.
        graph: The graph's id.
        seen: What we know: `its process ended`, for example.
        patience: Seconds that the first error waits for the end of the process, and for Ray's account.
        may_answer: Whether it may answer calls until its process has ended: it is asked after that only.
    """

    def __init__(
        self, member: Member, graph: str, seen: str, *, patience: float = REASON_TIMEOUT, may_answer: bool = True
    ) -> None:
        self._member = member
        info = member.info
        self._where = f"Actor {member} of compiled graph {graph}, on node {info.node_ip} ({info.node_id}),"
        self._seen = seen
        self._patience = patience
        self._may_answer = may_answer
        self._answer: ray.ObjectRef[Any] | None = None
        self._account: Exception | None = None
        self.is_complete = False
        """Whether asking again cannot tell more."""

    def error(self) -> Exception:
        """The `ActorDiedError`, with Ray's account if there is one by now."""
        patience, self._patience = self._patience, 0.0
        if not self.is_complete:
            self._look(patience)
        if self._account is not None:
            return self._account
        yet = "" if self.is_complete else " Ray has not told a cause yet."
        info = self._member.info
        return ray_internals.actor_died_error(
            self._member.handle,
            reason=f"{self._where} has died: {self._seen}.{yet}",
            pid=info.pid,
            name=info.name,
            node_ip=info.node_ip,
        )

    def _look(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        try:
            if self._answer is None:
                if not self._may_ask(timeout):
                    return
                self._answer = ray_internals.ping(self._member.handle)
            ray.get(self._answer, timeout=min(REASON_TIMEOUT, max(0.0, deadline - time.monotonic())))
            self.is_complete = True  # it answers: Ray has restarted it, and has no account of the death
        except ray.exceptions.ActorDiedError as error:
            # A copy: the caught one has frames, and they what the user holds.
            self._account = fresh_copy(
                ray_internals.prefix_actor_error(error, f"{self._where} has died: {self._seen}. ")
            )
            self.is_complete = True
        except ray.exceptions.GetTimeoutError:
            logger.debug("graph of %s: Ray has no account of the death yet", self._member)
        except Exception:  # it is being restarted, or Ray is shut down
            logger.debug("graph of %s: Ray has no account of the death", self._member, exc_info=True)
            self.is_complete = True

    def _may_ask(self, timeout: float) -> bool:
        pid = self._member.info.pid
        return not self._may_answer or not is_running(pid) or (timeout > 0 and wait_until_ended(pid, timeout))
