"""
What `cgc.plan` predicts, against what real actors take whose methods sleep for a known time.

The best run counts: a busy machine makes runs longer, never shorter. So there are more runs while the best is too long.
"""

import time

import numpy as np
import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc.ir import Placement
from cgc.passes.analysis.cost import Link

RUNS = 2
PATIENCE = 30.0
"""Seconds in which one run has to be undisturbed."""

TOLERANCE = 0.15

PROFILE = cgc.CostModel({("Sleeper", "short"): 50_000.0, ("Sleeper", "long"): 100_000.0, ("Sleeper", "join"): 50_000.0})


@ray.remote
class Sleeper:
    """Its methods take as long as `PROFILE` says."""

    def short(self, value):
        time.sleep(0.05)
        return value

    def long(self, value):
        time.sleep(0.1)
        return value

    def join(self, *values):
        time.sleep(0.05)
        return values[0]

    def size(self, array):
        return array.nbytes


@pytest.fixture(scope="module")
def sleepers(ray_session):
    """Four actors for all tests."""
    actors = [Sleeper.remote() for _ in range(4)]
    ray.get([actor.join.remote(0) for actor in actors])
    return actors


def _chain(actors):
    with InputNode() as inp:
        value = inp
        for actor in actors[:3]:
            value = actor.short.bind(value)
        return value


def _fan_out(actors):
    with InputNode() as inp:
        value = actors[0].short.bind(inp)
        return actors[0].join.bind(actors[1].short.bind(value), actors[2].long.bind(value), actors[3].short.bind(value))


def _one_f_one_b(actors, batches=3):
    """A pipeline whose backward calls take twice as long as the forward ones, bound in the order of 1F1B."""
    stages, done = len(actors), {}
    with InputNode() as inp:

        def forward(stage, batch):
            done["F", stage, batch] = actors[stage].short.bind(done["F", stage - 1, batch] if stage else inp)

        def backward(stage, batch):
            before = ("F", stage, batch) if stage == stages - 1 else ("B", stage + 1, batch)
            done["B", stage, batch] = actors[stage].long.bind(done[before])

        orders = []
        for stage in range(stages):
            ahead = min(stages - stage, batches)
            order = [(forward, stage, batch) for batch in range(ahead)]
            for batch in range(batches):
                order.append((backward, stage, batch))
                order += [(forward, stage, batch + ahead)] if batch + ahead < batches else []
            orders.append(order)
        while any(orders):
            for order in orders:
                while order and _can_bind(order[0], done, stages):
                    bind, stage, batch = order.pop(0)
                    bind(stage, batch)
        return MultiOutputNode([done["B", 0, batch] for batch in range(batches)])


def _can_bind(entry, done, stages):
    bind, stage, batch = entry
    if bind.__name__ == "forward":
        return stage == 0 or ("F", stage - 1, batch) in done
    return ("F", stage, batch) in done and (stage == stages - 1 or ("B", stage + 1, batch) in done)


def _measured_us(graph, enough_us, executions=1):
    """Microseconds of the fastest run of so many executions in flight; more than `RUNS` if none took `enough_us`."""
    times = []
    deadline = time.monotonic() + PATIENCE
    while len(times) < RUNS or (min(times) > enough_us * (1 + TOLERANCE) and time.monotonic() < deadline):
        started = time.perf_counter()
        refs = [graph.execute(0) for _ in range(executions)]
        for ref in refs:
            ray.get(ref)
        times.append((time.perf_counter() - started) * 1e6)
    return min(times)


@pytest.mark.parametrize(("build", "expected_ms"), [(_chain, 150), (_fan_out, 200), (_one_f_one_b, 900)])
def test_an_execution_takes_as_long_as_predicted(sleepers, build, expected_ms):
    dag = build(sleepers)
    predicted = cgc.plan(dag, profile=PROFILE).makespan_us
    assert predicted == pytest.approx(expected_ms * 1e3, rel=0.01)  # by hand
    with cgc.compile(dag, profile=PROFILE) as graph:
        assert _measured_us(graph, predicted) == pytest.approx(predicted, rel=TOLERANCE)


def test_executions_in_flight_follow_each_other_as_predicted(sleepers):
    dag = _chain(sleepers)
    plan = cgc.plan(dag, profile=PROFILE)
    with cgc.compile(dag, profile=PROFILE) as graph:
        predicted = plan.makespan_us + 5 * plan.period_us
        assert _measured_us(graph, predicted, executions=6) == pytest.approx(predicted, rel=TOLERANCE)


def test_a_measured_profile_predicts_the_same_graph(sleepers, tmp_path):
    path = tmp_path / "profile.toml"
    dag = _fan_out(sleepers)
    with cgc.compile(dag, measure=True) as graph:
        measured = min(_measured_us(graph, 200_000) for _ in range(4))
        profile = graph.profile(path)
    assert profile.call_us("Sleeper", "long") == pytest.approx(100_000, rel=TOLERANCE)
    assert set(profile.calls) == {("Sleeper", "short"), ("Sleeper", "long"), ("Sleeper", "join")}
    assert 0 < profile.link("shm").overhead_us < 10_000
    assert cgc.CostModel.load(path).calls == profile.calls
    assert cgc.plan(dag, profile=path).makespan_us == pytest.approx(measured, rel=TOLERANCE)
    with (
        cgc.compile(dag, profile=path) as graph,
        pytest.raises(RuntimeError, match="compile the graph with measure"),
    ):
        graph.profile()


@ray.remote
class Source:
    def make(self, nbytes):
        return np.zeros(nbytes, np.uint8)


def test_messages_of_different_sizes_give_the_bandwidth_and_those_of_one_do_not(sleepers, tmp_path):
    """From the noted sizes to the file; what the figures are from given times is in `tests/backend`."""
    small, large = 64 * 1024, 4 * 2**20
    impossible = cgc.CostModel(links={"shm": Link(1.0, 12_345.0, 1.0)})
    with InputNode() as inp:
        dag = sleepers[0].size.bind(Source.remote().make.bind(inp))
    with cgc.compile(dag, measure=True, profile=impossible) as graph:
        for _ in range(10):
            assert ray.get(graph.execute(small)) == small
        profile = graph.profile()
        assert profile.link("shm").gb_per_s == 12_345.0
        assert small / 2 < profile.object_bytes < small  # the array's and that of its size
        deadline = time.monotonic() + PATIENCE
        # Only messages that a reader waits for count: on a busy machine, not every one.
        while graph.profile().link("shm").gb_per_s == 12_345.0 and time.monotonic() < deadline:
            assert [ray.get(graph.execute(nbytes)) for nbytes in (small, large)] == [small, large]
        profile = graph.profile(tmp_path / "profile.toml")
    assert profile.link("shm").gb_per_s != 12_345.0
    assert cgc.CostModel.load(tmp_path / "profile.toml").links == profile.links


def test_a_profile_needs_an_execution_and_a_running_graph(sleepers):
    graph = cgc.compile(_chain(sleepers), measure=True)
    with pytest.raises(RuntimeError, match="nothing has been measured yet"):
        graph.profile()
    graph.teardown()
    with pytest.raises(RuntimeError, match="was torn down: take the profile before"):
        graph.profile()


def test_a_profile_of_another_graph_is_refused_before_anything_starts(sleepers, tmp_path):
    profile = tmp_path / "profile.toml"
    profile.write_text("[calls]\nSleeper.shorter = 3\n")
    with pytest.raises(cgc.PassError, match=r"of any method of this graph, which calls Sleeper\.short \(did you"):
        cgc.compile(_chain(sleepers), profile=str(profile))


def test_the_topology_of_the_live_cluster_fits(sleepers):
    with cgc.compile(_chain(sleepers), topology=cgc.Topology.from_ray()) as graph:
        assert ray.get(graph.execute(3)) == 3


def test_actors_on_the_node_of_the_driver_whatever_its_name(sleepers):
    with cgc.compile(_chain(sleepers), topology=cgc.Topology({"head": ()}, driver_node="head")) as graph:
        assert 'cgc.actor @Sleeper_0 actor class "Sleeper" on "head"' in graph.dump()
        assert ray.get(graph.execute(3)) == 3


def test_a_topology_that_lacks_an_actor_is_refused(sleepers):
    topology = cgc.Topology({"n0": ()}, actors={"Sleeper_0": Placement("n0"), "Sleeper_2": Placement("n0")})
    with pytest.raises(cgc.GraphError, match=r"the topology has no actor @Sleeper_1"):
        cgc.compile(_chain(sleepers), topology=topology)
