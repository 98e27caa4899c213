"""What actors say of themselves, and who is refused."""

from __future__ import annotations

import dataclasses
import os

import pytest
import ray

import cgc
from cgc.runtime import cluster
from cgc.runtime.program import PROGRAM_VERSION
from tests.runtime.helpers import Actor

pytestmark = pytest.mark.usefixtures("ray_session")


def test_actors_describe_themselves_in_the_order_asked():
    named = Actor.options(name="probed").remote()
    infos = cluster.probe({"b": named, "a": Actor.remote()})
    assert list(infos) == ["b", "a"]
    info = infos["b"]
    assert info.pid == ray.get(named.pid.remote()) != os.getpid()
    assert info.node_id == ray.get_runtime_context().get_node_id()
    assert (info.name, info.class_name) == ("probed", "Actor")
    assert info.versions == (cgc.__version__, PROGRAM_VERSION)
    assert info.describe("b") == f'@b (Actor "probed", actor {info.actor_id}, pid {info.pid})'


def test_no_actors():
    assert cluster.probe({}) == {}


def test_a_busy_actor_answers():
    actor = Actor.remote()
    busy = actor.apply.remote(lambda _: ray.get(ray.remote(lambda: 1).remote()))
    assert cluster.probe({"a": actor})["a"].class_name == "Actor"
    assert ray.get(busy) == 1


def test_async_and_threaded_actors_answer():
    @ray.remote
    class Async:
        async def echo(self, value):
            return value

    @ray.remote(max_concurrency=4)
    class Threaded:
        def echo(self, value):
            return value

    infos = cluster.probe({"a": Async.remote(), "t": Threaded.remote()})
    assert [info.class_name for info in infos.values()] == ["Async", "Threaded"]


def test_a_dead_actor_is_reported_before_a_slow_one_is_waited_for(kill_actor):
    dead, never = Actor.remote(), Actor.options(resources={"nowhere": 1}).remote()
    ray.get(dead.pid.remote())
    kill_actor(dead)
    with pytest.raises(ray.exceptions.ActorDiedError, match="@d "):
        cluster.probe({"n": never, "d": dead}, timeout=60)


def test_another_version_or_node_is_refused():
    actor = Actor.remote()
    info = cluster.probe({"a": actor})["a"]
    other_version = cluster.ActorInfo(**{**_fields(info), "versions": ("0.0.0", 0)})
    with pytest.raises(ValueError, match=r"@a \(Actor, .*\) has cgc 0.0.0 \(programs v0\)"):
        cluster._require_same_version({"a": other_version})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("boot_id", "another", "on another machine"),
        ("pid_namespace", "pid:[1]", "in another container of this machine"),
        ("user_namespace", "user:[1]", "in another container of this machine"),
        ("user_id", 4711, r"of another user \(uid 4711\)"),
    ],
)
def test_who_cannot_share_memory_is_refused(field, value, message):
    info = cluster.probe({"a": Actor.remote()})["a"]
    machine = dataclasses.replace(info.machine, **{field: value})
    elsewhere = dataclasses.replace(info, machine=machine, node_ip="10.0.0.9")
    with pytest.raises(ValueError, match=rf"actors on another node.*@a \(Actor, .*\) on 10.0.0.9, {message}"):
        cluster._require_same_machine({"b": info, "a": elsewhere})


def _fields(info: cluster.ActorInfo) -> dict[str, object]:
    return {name: getattr(info, name) for name in info.__dataclass_fields__}
