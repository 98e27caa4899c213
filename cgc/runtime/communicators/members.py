"""The actors of a communicator; a rank is an actor's position among them."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from cgc.runtime import ray_internals


class Members:
    """Actors in the order of their ranks. Picklable."""

    def __init__(self, actors: Sequence[ray.actor.ActorHandle]) -> None:
        """Raises `TypeError` for what is not an actor handle, `ValueError` for an actor that appears twice or none."""
        self.actors = tuple(actors)
        self._ids = [_id_of(actor) for actor in self.actors]
        if not self._ids:
            raise ValueError("a communicator needs at least one actor")
        if len(set(self._ids)) != len(self._ids):
            twice = next(actor for actor, own in zip(self.actors, self._ids, strict=True) if self._ids.count(own) > 1)
            raise ValueError(f"{name_of(twice)} appears twice in a communicator: each actor has one rank")

    @property
    def count(self) -> int:
        return len(self.actors)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name_of(actor) for actor in self.actors)

    def rank_of(self, actor: ray.actor.ActorHandle) -> int:
        """Raises `ValueError` if the actor is not a member."""
        try:
            return self._ids.index(_id_of(actor))
        except ValueError:
            members = ", ".join(self.names)
            raise ValueError(f"{name_of(actor)} is not in this communicator, which has {members}") from None


def name_of(actor: ray.actor.ActorHandle) -> str:
    """Class and the beginning of the actor's id."""
    return f"{ray_internals.actor_class_name(actor)}({ray_internals.actor_id(actor)[:8]})"


def _id_of(actor: ray.actor.ActorHandle) -> str:
    if not isinstance(actor, ray.actor.ActorHandle):
        raise TypeError(f"{actor!r} is not an actor handle; create the actor with .remote() first")
    return ray_internals.actor_id(actor)
