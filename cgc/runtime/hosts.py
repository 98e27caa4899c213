"""
Hosts: actors that cgc makes to run a graph's remote functions.

A host is an instance of a class of the function's name with the function as its one method, so that every message that
names an actor and its method names the function. It lives as long as its graph: `Session.teardown` kills it; a graph
that is collected drops its last handle; and Ray ends it with the driver that has made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
import ray.actor
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

PLACEMENT_OPTIONS = frozenset({"scheduling_strategy", "placement_group", "label_selector", "accelerator_type"})
"""Options by which a user says where a function runs; without them it runs on the driver's node if there is room."""

HOST_OPTIONS = PLACEMENT_OPTIONS | {
    "_labels",
    "enable_task_events",
    "fallback_strategy",
    "memory",
    "num_cpus",
    "num_gpus",
    "placement_group_bundle_index",
    "placement_group_capture_child_tasks",
    "resources",
    "runtime_env",
}
"""
Options of a remote function that its host has too.

The others say how a task is retried, named, or returns its results (`max_retries`, `retry_exceptions`, `max_calls`,
`name`, …), and a host runs no tasks.
"""


def create_host(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> ray.actor.ActorHandle:
    """
    Start an actor whose method `name` is `function`, with what `options` of the remote function say of its resources.

    Returns at once; the actor may wait for its resources.
    """
    kept = {option: value for option, value in options.items() if option in HOST_OPTIONS and value is not None}
    if not PLACEMENT_OPTIONS & kept.keys():
        here = ray.get_runtime_context().get_node_id()
        kept["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=True)
    host = ray.remote(type(name, (), {name: staticmethod(function)}))
    handle: ray.actor.ActorHandle = host.options(**kept).remote()
    return handle


def kill_hosts(hosts: Iterable[ray.actor.ActorHandle]) -> None:
    """End hosts that no graph has taken over. Returns at once."""
    for host in hosts:
        ray.kill(host)
