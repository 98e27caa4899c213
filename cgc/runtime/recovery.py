"""
What the drivers share that outlive the deaths of their actors: `cgc.compile(dag, on_actor_death="restart")`.

When Ray restarts an actor (`max_restarts`), the graph is compiled again on the same actors. What was submitted and not
finished is submitted again if the user has declared the graph idempotent; otherwise those refs raise the death, and
only later executions work. Results that had arrived stay readable in either case.

Whoever notices the death starts the recovery in a thread of its own, so that everybody waits for it with a time-out,
and Ctrl-C ends the waiting only. References to the driver that has died stay in the executions until they are read.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import ray
import ray.actor
import ray.exceptions

from cgc.runtime import ray_internals
from cgc.runtime.base_driver import BaseDriver, GraphEndedError
from cgc.runtime.cluster import describe_handle
from cgc.runtime.measure import Sample
from cgc.runtime.status import ParticipantStatus
from cgc.runtime.task_errors import fresh_copy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cgc.runtime.alloc import Shape

RESTART_TIMEOUT = 60.0
"""Seconds in which all actors of a graph must be alive again."""

RESTART_POLL = 0.05
"""Seconds between two calls to an actor that is being restarted."""

JOIN_TIMEOUT = 5.0
"""Seconds that `teardown` waits for a recovery to notice."""

logger = logging.getLogger(__name__)

ENDED = (ray.exceptions.ActorDiedError, ray.exceptions.RayChannelError)
"""What the driver of a graph that has ended raises."""

AnyDriver = TypeVar("AnyDriver", bound=BaseDriver)


class Recovery(Generic[AnyDriver]):
    """
    A driver around the driver, which it replaces when an actor has died.

    Args:
        driver: The driver of the graph as it was first compiled.
        rebuild: Compiles the graph again on the same actors, and starts it.
        idempotent: Whether executions may run again, from the inputs that they had; those are kept, not copied.
    """

    def __init__(self, driver: AnyDriver, rebuild: Callable[[], AnyDriver], *, idempotent: bool) -> None:
        self._driver = driver
        self._rebuild = rebuild
        self._idempotent = idempotent
        self._id = driver.get_id()
        self.returns_list = driver.returns_list
        self._changed = threading.Condition()
        """Guards what follows; notified when a recovery has ended."""
        self._recovery: threading.Thread | None = None
        self._failure: Exception | None = None
        self._is_down = False

    @property
    def is_teardown(self) -> bool:
        """Whether the graph was torn down."""
        return self._is_down or (self._recovery is None and self._driver.is_teardown)

    @property
    def start_refs(self) -> Mapping[ray.actor.ActorHandle, ray.ObjectRef[Any]]:
        """By actor the call that started its present loop."""
        return self._driver.start_refs

    def get_id(self) -> str:
        """The graph's first id, which stays; in messages each restart has one of its own."""
        return self._id

    def status(self, stacks: bool = False) -> list[ParticipantStatus]:
        """What each actor is doing now."""
        return self._driver.status(stacks)

    def measurements(self) -> dict[str, list[list[Sample]]]:
        """What has been measured since the last restart."""
        return self._driver.measurements()

    def alloc(
        self, shape: Shape, dtype: npt.DTypeLike = "float64", input: int | str | None = None
    ) -> np.ndarray[Any, Any]:
        """See `CompiledGraph.alloc`; in memory of the present driver, so that it is copied after a restart."""
        return self._driver.alloc(shape, dtype, input)

    def death(self) -> Exception | None:
        """Why the graph has ended for good, if an actor's death was it."""
        return self._failure or (None if self._recovery is not None else self._driver.death())

    def teardown(self, kill_actors: bool = False) -> None:
        """End the graph, and a recovery that is going on. Idempotent."""
        with self._changed:
            self._is_down = True
            recovery = self._recovery
        if recovery is not None:
            recovery.join(JOIN_TIMEOUT)
        self._driver.teardown(kill_actors)

    def _wait_for_recovery(self, deadline: float | None) -> AnyDriver:
        with self._changed:
            while self._recovery is not None:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise ray.exceptions.RayChannelTimeoutError(
                        f"graph {self._id} is being restarted after the death of an actor: {self._driver.death()}"
                    )
                self._changed.wait(remaining)
            return self._driver

    def _recovers_from(self, driver: AnyDriver) -> bool:
        """After `driver` has raised: whether that was a death that is recovered from; starts the recovery."""
        with self._changed:
            if self._is_down or self._failure is not None:
                return False
            if self._driver is not driver or self._recovery is not None:
                return True
            if not driver.has_died:
                return False
            self._recovery = threading.Thread(
                target=self._recover, args=(driver,), name=f"cgc-{self._id}-recovery", daemon=True
            )
            self._recovery.start()
            return True

    def _recover(self, dead: AnyDriver) -> None:
        """The thread of a recovery."""
        failure: Exception | None = None
        try:
            deadline = time.monotonic() + RESTART_TIMEOUT
            while not self._try_to_recover(dead, deadline):
                dead = self._driver
        except Exception as error:
            failure = error
            logger.warning("graph %s cannot be restarted: %s", self._id, error)
        with self._changed:
            self._failure = None if failure is None else fresh_copy(failure)
            self._recovery = None
            self._changed.notify_all()

    def _try_to_recover(self, dead: AnyDriver, deadline: float) -> bool:
        """Start the graph again and submit what is unfinished; False if another actor has died meanwhile."""
        death = dead.death() or ray.exceptions.RayChannelError(f"graph {self._id} has ended")
        logger.warning("graph %s is being restarted: %s", self._id, death)
        dead.teardown()
        dead.wait_for_the_dead(deadline - time.monotonic())
        wait_until_alive(dead.actors, death, deadline)
        try:
            driver = self._rebuild()
        except ray.exceptions.RayActorError:
            if time.monotonic() > deadline:
                raise
            return False
        with self._changed:
            self._driver = driver
            if self._is_down:
                driver.teardown()
                return True
        try:
            self._submit_again(driver, death)
        except ENDED:
            if not driver.has_died or time.monotonic() > deadline:
                raise
            return False
        return True

    def _submit_again(self, driver: AnyDriver, death: Exception) -> None:
        """What is to be done at once with unfinished executions; `death` is why they have not finished."""


def wait_until_alive(actors: Mapping[str, ray.actor.ActorHandle], death: Exception, deadline: float) -> None:
    """
    Wait until Ray has restarted all actors.

    Raises `ActorDiedError` for one that Ray will not restart, and `GetTimeoutError` at the deadline.
    """
    for symbol, actor in actors.items():
        while not _answers(symbol, actor, death, deadline):
            time.sleep(RESTART_POLL)


def _answers(symbol: str, actor: ray.actor.ActorHandle, death: Exception, deadline: float) -> bool:
    label = describe_handle(symbol, actor)
    try:
        ray.get(ray_internals.ping(actor), timeout=max(0.0, deadline - time.monotonic()))
    except ray.exceptions.ActorDiedError as error:
        raise ray_internals.prefix_actor_error(
            GraphEndedError.of(error),
            f"Actor {label} has died and has no restarts left (max_restarts): give it more, or put another actor in "
            "its place with graph.recompile(replace={dead: new}). ",
        ) from death
    except ray.exceptions.GetTimeoutError:
        raise ray.exceptions.GetTimeoutError(
            f"actor {label} was not restarted within {RESTART_TIMEOUT:g} s after a death: {death}"
        ) from death
    except ray.exceptions.RayActorError:  # it is being restarted
        if time.monotonic() > deadline:
            raise
        return False
    return True
