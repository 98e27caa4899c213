"""
The one place that touches what Ray does not declare public, each item with the reason why.

Tested against Ray 2.60. A new Ray release is supported by making this file work with it; no other module imports a
private name of Ray.
"""

from __future__ import annotations

import asyncio
import functools
import io
import os
import traceback
from collections.abc import Callable
from typing import Any, Protocol, cast

import ray
import ray.actor
import ray.cloudpickle
import ray.dag.compiled_dag_node as _compiled_dag_node
import ray.exceptions
from ray.cloudpickle.cloudpickle import _should_pickle_by_reference
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.experimental import internal_kv

from cgc.runtime.process_watch import is_running

SYSTEM_GROUP = "_ray_system"
"""Concurrency group that every Ray actor has for calls beside the user's own.

Ray starts its own graphs in it: a call there takes no part in the actor's order. It waits for a busy method all the
same where the actor has one thread only, because Ray dispatches on that.
"""

_KV_NAMESPACE = b"cgc"

_RAYS_TENSOR_MODULE = "ray.experimental.channel.torch_tensor_type"
"""Where Ray's graphs define the serializer that they register for torch.Tensor."""

CloudPickler: Any = ray.cloudpickle.CloudPickler
"""Ray's pickler: knows ObjectRefs, actor handles, local classes and what users gave to `register_serializer`."""

REGISTERED_REDUCERS: dict[type, Callable[[Any], Any]] = CloudPickler.dispatch.maps[0]
"""Live table behind `ray.util.register_serializer`; whose a class in it is, `is_registered_by_user` says."""

should_pickle_by_reference: Callable[[Any], bool] = _should_pickle_by_reference
"""cloudpickle's own answer to "will the other process import this class or function?", so that ours never differs."""

check_unused_inputs: Callable[[Any, set[int | str]], None] = _compiled_dag_node._check_unused_dag_input_attributes
"""Ray's check that an output depends on each of these parts of the input, for the words in which it says so."""

INTENDED_EXITS: tuple[type[BaseException], ...] = (SystemExit, ray.exceptions.AsyncioActorExit)
"""What `ray.actor.exit_actor()` raises in the calling method (the second one in async actors)."""


class ShutdownHook(Protocol):
    """What Ray calls on `ray.shutdown()`."""

    def teardown(self, kill_actors: bool = False) -> None: ...


def register_for_shutdown(graph_id: str, hook: ShutdownHook) -> None:
    """
    Have `hook.teardown(kill_actors=True)` called by `ray.shutdown()`, for as long as `hook` is referenced elsewhere.

    Ray offers no public callback before it disconnects; its own graphs are in the same weak table. The table is
    replaced at every shutdown, hence the attribute access.
    """
    _compiled_dag_node._compiled_dags[graph_id] = hook


def observe_kills(observer: Callable[[str], None]) -> None:
    """
    Have `observer(actor id)` called after each `ray.kill` of this process.

    Ray offers no callback, and its call returns some milliseconds before the actor is dead: long enough for a graph to
    execute many times on an actor that the user has killed.
    """
    kill = ray.kill

    @functools.wraps(kill)
    def kill_and_tell(actor: ray.actor.ActorHandle, *, no_restart: bool = True) -> None:
        kill(actor, no_restart=no_restart)
        observer(actor_id(actor))

    ray.kill = kill_and_tell


def is_registered_by_user(cls: type) -> bool:
    """
    True if the user gave Ray a serializer for instances of `cls`: they must be left to Ray's pickler then.

    That for torch.Tensor which Ray's own compiled graphs leave behind in every process that they have run in is not the
    user's: it needs the state of a graph of theirs, and copies through NumPy.
    """
    reducer = REGISTERED_REDUCERS.get(cls)
    if reducer is None:
        return False
    captured = [cell.cell_contents for cell in getattr(reducer, "__closure__", None) or ()]
    return not any(getattr(function, "__module__", "") == _RAYS_TENSOR_MODULE for function in captured)


def refuse_serialization(cls: type, message: str) -> None:
    """
    Have Ray raise `TypeError(message)` for instances of `cls` in arguments, results and `ray.put`.

    Ray registers this for its own refs by exact class, at each connection; the table is its pickler's, so ours stays.
    """

    def refuse(_: object) -> Any:
        raise TypeError(message)

    CloudPickler.dispatch[cls] = refuse


def dumps_in_band(
    value: Any, pickler_class: Callable[..., Any], buffer_callback: Callable[[Any], Any] | None
) -> tuple[bytes, Any]:
    """
    Pickle `value` with a `CloudPickler` or subclass; returns the blob and the pickler.

    Ray pins a reference for the rest of the process when it is pickled outside of "in-band" serialization; in-band
    its lifetime is the caller's business.
    """
    context = _serialization_context()
    with io.BytesIO() as file:
        pickler = pickler_class(file, protocol=5, buffer_callback=buffer_callback)
        if context is None:
            pickler.dump(value)
            return file.getvalue(), pickler
        context.set_in_band_serialization()
        try:
            pickler.dump(value)
        finally:
            context.set_out_of_band_serialization()
            context.get_and_clear_contained_object_refs()
        return file.getvalue(), pickler


def dump_task_error(error: ray.exceptions.RayTaskError) -> bytes:
    """Bytes of an error that decode even where the cause's class cannot be imported (then without that class)."""
    blob: bytes = error.to_bytes()
    return blob


def load_task_error(blob: bytes) -> Exception:
    """The error of `dump_task_error`, or an `UnserializableException` with the original's text."""
    error: Exception = ray.exceptions.RayError.from_bytes(blob)
    return error


def actor_id(actor: ray.actor.ActorHandle) -> str:
    """Hex id of an actor; the handle's public interface has none."""
    text: str = actor._actor_id.hex()
    return text


def actor_class_name(actor: ray.actor.ActorHandle) -> str:
    """Name of the actor's class, known to the handle alone, without asking the actor (it may be dead)."""
    name: str = actor._ray_actor_creation_function_descriptor.class_name
    return name


def actor_died_error(actor: ray.actor.ActorHandle, *, reason: str, pid: int, name: str, node_ip: str) -> Exception:
    """An `ActorDiedError` like Ray's own, for a death that we saw before Ray did."""
    error: Exception = ray.exceptions.ActorDiedError(
        ActorDiedErrorContext(
            error_message=reason,
            class_name=actor_class_name(actor),
            actor_id=actor._actor_id.binary(),
            pid=pid,
            name=name,
            node_ip_address=node_ip,
        )
    )
    return error


def prefix_actor_error(error: ray.exceptions.RayActorError, prefix: str) -> ray.exceptions.RayActorError:
    """Put `prefix` in front of an actor error's text, which Ray keeps in an attribute that has no setter."""
    error.error_msg = prefix + str(error)
    return error


def call_on_actor(actor: ray.actor.ActorHandle, function: Callable[..., Any], *args: Any) -> ray.ObjectRef[Any]:
    """
    Run `function(instance, *args)` in the actor's process beside its own methods.

    An actor with one thread begins no call, not even one of another concurrency group, while a method runs in it. So
    when that method calls for its own actor, `function` runs here and now.
    """
    instance = ray._private.worker.global_worker.actors.get(actor._actor_id)
    ref: ray.ObjectRef[Any]
    if instance is None:
        ref = actor.__ray_call__.options(concurrency_group=SYSTEM_GROUP).remote(function, *args)
        return ref
    try:
        ref = ray.put(function(instance, *args))
    except Exception as error:  # Ray raises what was put when a RayTaskError is read
        ref = ray.put(ray.exceptions.RayTaskError(function.__name__, traceback.format_exc(), error))
    return ref


def ping(actor: ray.actor.ActorHandle) -> ray.ObjectRef[Any]:
    """None from an actor that is alive; from another one Ray's account of its death, or that it is being restarted."""
    return call_on_actor(actor, _nothing)


def _nothing(_instance: object) -> None: ...


def event_loop_of(instance: Any, method: str) -> asyncio.AbstractEventLoop | None:
    """
    The event loop on which Ray runs the `async def` method of this process's actor; None in an actor without one.

    Each concurrency group has a loop of its own. Ray tells them to nobody, and gives actors that have no async method
    none at all.
    """
    worker = ray._private.worker.global_worker.core_worker
    if not worker.current_actor_is_asyncio():
        return None
    cls = type(instance)
    group = getattr(getattr(cls, method, None), "__ray_concurrency_group__", None)
    descriptor = ray._raylet.PythonFunctionDescriptor(cls.__module__, method, cls.__name__)
    loop, _thread = worker.get_event_loop(descriptor, group)
    return cast("asyncio.AbstractEventLoop", loop)


def terminate_this_actor(detail: str) -> None:
    """
    Let the actor of this process leave as `ray.actor.exit_actor()` does, from a thread that runs no Ray task.

    `exit_actor` itself acts at the end of the task that it is called in. A task that the actor sends to itself does not
    help: a leaving actor waits for the tasks that it has sent. `detail` becomes part of the `ActorDiedError`.
    """
    ray._private.worker.global_worker.core_worker.drain_and_exit_worker("user", detail.encode())


def raylet_pid() -> int:
    """
    The raylet that has started this worker, whose end is that of the node; 0 where that is not known.

    Ray tells it to its own processes of the node by this variable. Workers look once a second whether it still runs;
    who does not want to wait for that watches it.
    """
    pid = os.environ.get("RAY_RAYLET_PID", "")
    return int(pid) if pid.isdecimal() and is_running(int(pid)) else 0


def cluster_put(key: bytes, value: bytes) -> None:
    """Store a value where all processes of the cluster can get it (the GCS), until it is deleted."""
    internal_kv._internal_kv_put(key, value, namespace=_KV_NAMESPACE)


def cluster_get(key: bytes) -> bytes | None:
    """What was put under a key."""
    value = internal_kv._internal_kv_get(key, namespace=_KV_NAMESPACE)
    return None if value is None else bytes(value)


def cluster_delete(prefix: bytes) -> None:
    """Delete all keys that begin with `prefix`."""
    internal_kv._internal_kv_del(prefix, del_by_prefix=True, namespace=_KV_NAMESPACE)


def cluster_keys(prefix: bytes) -> list[bytes]:
    """The keys that begin with `prefix`."""
    return list(internal_kv._internal_kv_list(prefix, namespace=_KV_NAMESPACE))


def _serialization_context() -> Any:
    worker = ray._private.worker.global_worker
    return worker.get_serialization_context() if worker.connected else None
