"""The plan of a small graph, by hand."""

import re
from pathlib import Path

import pytest
from ray.dag import InputNode, MultiOutputNode

import cgc
from cgc import abstract_actor
from cgc.ir import Link, Placement, Topology, graphs_of
from cgc.passes.analysis import cost as costs
from cgc.passes.analysis.cost import CostModel
from cgc.passes.analysis.plan import plan_of
from cgc.passes.manager import PassManager
from cgc.passes.registry import passes_of

PIPELINE = "verify-graph,infer-types,place-devices,pair-comm,overlap-comm{streams},allocate-channels"


@pytest.fixture
def plan(graph):
    """A function that gives the plan of a graph with round numbers for costs."""
    link = costs.Link(latency_us=5.0, gb_per_s=1.0, overhead_us=1.0)
    cost = CostModel(links={"shm": link, "nccl": link}, default_call_us=100.0, object_bytes=1000)

    def run(name):
        unit = graph(name)
        PassManager(passes_of(PIPELINE)).run(unit)
        return plan_of(next(graphs_of(unit.module)), cost)

    return run


def test_diamond(plan):
    found = plan("diamond")
    # Three calls and four messages follow each other; each message is a write (2), a way (5) and a read (1); the last
    # call reads twice.
    assert found.makespan_us == 3 * 100 + 4 * (2 + 5 + 1) + 1
    assert found.busy_us == {"driver": 3, "a": 103, "b": 103, "c": 103, "d": 104}
    assert found.traffic_bytes["a", "b", "shm"] == found.traffic_bytes["a", "c", "shm"] == 1000
    assert found.messages == 5
    assert found.channel_bytes == found.peak_bytes == 5 * 10 * 4096
    assert found.link_bytes == {("n0", "n0", "shm"): 6000}
    assert found.period_us == 104


def test_text_names_participants_and_links(plan):
    text = str(plan("crossing_with_communicator"))
    assert re.search(r"^@a +\d+\.\d +\d+%$", text, re.MULTILINE)
    assert re.search(r"^@a +@b +nccl +1,000$", text, re.MULTILINE)


def test_many_participants_are_counted_and_the_busiest_shown():
    actors = [abstract_actor("Stage", f"a{number}") for number in range(30)]
    profile = CostModel({("Stage", "fwd"): 5.0, ("Stage", "last"): 9000.0})
    with InputNode() as inp:
        found = cgc.plan(
            MultiOutputNode([*(a.fwd.bind(inp) for a in actors), actors[-1].last.bind(inp)]), profile=profile
        )
    text = str(found)
    busiest = text.splitlines()[text.splitlines().index("") + 3]
    assert busiest.startswith("@a29")
    assert "… and 11 more" in text


def test_messages_larger_than_slots_fill_them(tmp_path):
    profile = tmp_path / "profile.toml"
    profile.write_text("object-bytes = 1000000\n")
    a = abstract_actor("Stage", "a")
    with InputNode() as inp:
        found = cgc.plan(a.fwd.bind(inp), profile=str(profile), max_inflight_executions=4)
    assert found.peak_bytes == 2 * 4 * 10**6


def test_collectives_go_around_a_ring():
    pytest.importorskip("torch", reason="Ray's collectives need PyTorch")
    from ray.experimental.collective import allreduce

    actors = [abstract_actor("Stage", f"a{number}", devices=[f"gpu:{number}"]) for number in range(4)]
    profile = CostModel(object_bytes=4000)
    with InputNode() as inp:
        found = cgc.plan(MultiOutputNode(allreduce.bind([a.fwd.bind(inp) for a in actors])), profile=profile)
    assert found.traffic_bytes["a3", "a0", "nccl"] == 2 * 3 * 4000 // 4


def test_topology_counts_by_node_and_slows_links_down():
    far = Topology({"n0": (), "n1": ()}, (Link("n0", "n1", 5000.0, 1.0),), {"a": Placement("n1")})
    a = abstract_actor("Stage", "a")
    with InputNode() as inp:
        dag = a.fwd.bind(inp)
    near, distant = cgc.plan(dag), cgc.plan(dag, topology=far)
    assert distant.link_bytes == {("n0", "n1", "tcp"): 1024, ("n1", "n0", "tcp"): 1024}
    assert distant.makespan_us > near.makespan_us + 4900


@pytest.mark.parametrize("option", ["topology", "profile"])
def test_neither_a_file_nor_the_object_of_it(option):
    with InputNode() as inp:
        dag = abstract_actor("Stage", "a").fwd.bind(inp)
    with pytest.raises(TypeError, match=rf"`{option}` must be a cgc\.\w+ or the name of its file, found 3"):
        cgc.plan(dag, **{option: 3})


def test_a_profile_that_lacks_methods_warns():
    a, b = abstract_actor("Stage", "a"), abstract_actor("Stage", "b")
    with InputNode() as inp:
        dag = b.bwd.bind(a.fwd.bind(inp))
    for function in (cgc.plan, cgc.lower):
        with pytest.warns(
            UserWarning, match=r"the profile has no time of Stage\.bwd: taken for 1000 µs each"
        ) as caught:
            function(dag, profile=CostModel({("Stage", "fwd"): 5.0}))
        assert caught[0].filename == __file__


def test_the_document_shows_what_its_example_prints(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[3] / "docs" / "planning.md").read_text()
    example, shown, topology, profile, _ = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    (tmp_path / "cluster.toml").write_text(topology)
    (tmp_path / "profile.toml").write_text(profile)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.startswith(shown.removesuffix("…\n"))
