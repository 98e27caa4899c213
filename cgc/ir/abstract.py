"""
Actors that exist only on paper, so that graphs can be built and compiled without a cluster.

    a, b = abstract_actor(Stage), abstract_actor("Stage", name="b", node="n1", devices=["gpu:0"])
    with InputNode() as inp:
        dag = b.fwd.bind(a.fwd.bind(inp), 3)
    unit = import_graph(dag)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from ray.actor import ActorClass, ActorHandle
from ray.dag import ClassMethodNode
from ray.dag.constants import (
    BIND_INDEX_KEY,
    IS_CLASS_METHOD_OUTPUT_KEY,
    PARENT_CLASS_NODE_KEY,
    PREV_CLASS_METHOD_CALL_KEY,
)

from cgc.errors import did_you_mean
from cgc.ir.topology import LOCAL_NODE, ActorInfo


def abstract_actor(
    cls_or_name: type | ActorClass[Any] | str,
    name: str | None = None,
    *,
    node: str = LOCAL_NODE,
    devices: Sequence[str] = (),
) -> AbstractActor:
    """
    An actor whose methods have `.bind` (and `.options(num_returns=…).bind`) like those of a real one.

    With a class (plain, or decorated with `ray.remote`) only its methods can be bound, with their `num_returns`; with
    a name any method can be. `name` is the actor's symbol in the IR, `node` and `devices` are where it would run.
    """
    if isinstance(cls_or_name, str):
        return AbstractActor(ActorInfo(cls_or_name, name, node, tuple(devices)), None)
    if isinstance(cls_or_name, ActorClass):
        found = cls_or_name.__ray_metadata__.method_meta.methods.items()
        class_name = cls_or_name.__ray_metadata__.class_name
    else:
        found = inspect.getmembers(cls_or_name, callable)
        class_name = cls_or_name.__name__
    methods = {method: _num_returns(function) for method, function in found}
    return AbstractActor(ActorInfo(class_name.rpartition(".")[2], name, node, tuple(devices)), methods)


def _num_returns(function: Any) -> int | str:
    """As Ray has it for the methods of an actor class."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "streaming"
    return getattr(function, "__ray_num_returns__", None) or 1


class AbstractActor(ActorHandle[Any]):  # type: ignore[misc]  # Ray has no types
    """
    An actor on paper; an `ActorHandle` by type, because Ray's collectives bind to nothing else.

    Nothing of a real handle is set up, so everything but `.bind` of its methods fails.
    """

    def __init__(self, info: ActorInfo, methods: Mapping[str, int | str] | None) -> None:
        self.info = info
        self._methods = methods
        self._ray_weak_ref = True  # Read by ActorHandle.__del__: there is no actor to release.
        self._ray_dag_bind_index = 0

    def __getattr__(self, method: str) -> AbstractMethod:
        if method.startswith("_") and method != "__call__":
            raise AttributeError(method)
        if self._methods is None:
            return AbstractMethod(self, method, 1)
        if method not in self._methods:
            close = did_you_mean(method, self._methods)
            raise AttributeError(f"class {self.info.class_name} of {self!r} has no method '{method}'{close}")
        return AbstractMethod(self, method, self._methods[method])

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"abstract_actor({self.info.name or self.info.class_name})"

    def __dir__(self) -> list[str]:
        return sorted(self._methods or ())

    def __reduce__(self) -> Any:
        # Ray pickles what a node is bound to, to find further nodes in it.
        return AbstractActor, (self.info, self._methods)


class AbstractMethod:
    """A method of an abstract actor."""

    def __init__(self, actor: AbstractActor, name: str, num_returns: int | str) -> None:
        self._actor = actor
        self._name = name
        self._num_returns = num_returns

    def options(self, *, num_returns: int) -> AbstractMethod:
        """The same method with another number of results."""
        return AbstractMethod(self._actor, self._name, num_returns)

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """A `ClassMethodNode`; for several results a tuple of them, one per result, as Ray does it."""
        index = self._actor._ray_dag_bind_index
        self._actor._ray_dag_bind_index = index + 1
        parent = {PARENT_CLASS_NODE_KEY: self._actor}
        call = ClassMethodNode(
            self._name,
            args,
            kwargs,
            {"num_returns": self._num_returns},
            other_args_to_resolve={**parent, PREV_CLASS_METHOD_CALL_KEY: None, BIND_INDEX_KEY: index},
        )
        if not isinstance(self._num_returns, int) or self._num_returns == 1:
            return call
        output = {**parent, IS_CLASS_METHOD_OUTPUT_KEY: True}
        return tuple(
            ClassMethodNode(f"return_idx_{number}", (call, number), {}, {}, other_args_to_resolve=output)
            for number in range(self._num_returns)
        )
