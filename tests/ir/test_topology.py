"""Topologies: the file, what is said about mistakes in it, and how actors get their places."""

import subprocess
import sys

import pytest
from ray.dag import InputNode

from cgc import abstract_actor
from cgc.errors import GraphError, SourceError
from cgc.ir import ActorOp, Link, Placement, Topology, parse_module, place_actors
from cgc.ir.importer import import_graph

FILE = """\
driver = "n1"

[nodes.n0]
devices = ["gpu:0", "gpu:1"]

[nodes.n1]

[actors]
a = ["n0/gpu:0", "n0/gpu:1"]
b = "n1"

[[links]]
between = ["n0", "n1"]
latency-us = 50
gb-per-s = 1.25

[[links]]
from = "n0/gpu:0"
to = "n0/gpu:1"
latency-us = 2
gb-per-s = 300
"""


@pytest.fixture
def file(tmp_path):
    """Writes a topology and returns its path."""

    def write(text):
        path = tmp_path / "cluster.toml"
        path.write_text(text)
        return str(path)

    return write


def _module():
    a, b = abstract_actor("A", "a"), abstract_actor("B", "b")
    with InputNode() as inp:
        return import_graph(b.g.bind(a.f.bind(inp))).module


def _places(module):
    actors = [op for op in module.walk() if isinstance(op, ActorOp)]
    return {actor.sym_name.data: (actor.node.data, actor.device_names) for actor in actors}


def test_file(file):
    path = file(FILE)
    found = Topology.load(path)
    assert found.nodes == {"n0": ("gpu:0", "gpu:1"), "n1": ()}
    assert found.actors == {"a": Placement("n0", ("gpu:0", "gpu:1")), "b": Placement("n1")}
    assert found.links == (
        Link("n0", "n1", 50.0, 1.25),
        Link("n1", "n0", 50.0, 1.25),
        Link("n0/gpu:0", "n0/gpu:1", 2.0, 300.0),
    )
    assert found.driver_node == "n1"
    found.save(path)
    assert Topology.load(path) == found


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("driver", "drivers", "1:1", "unknown key 'drivers' (did you mean 'driver'?); known are actors, driver, links"),
        ('driver = "n1"', 'driver = "n7"', "1:1", "driver: there is no node 'n7'"),
        ("devices", "device", "4:1", "unknown key 'device' (did you mean 'devices'?)"),
        ("latency-us = 50", "latency-us = -50", "14:1", "latency-us must be a number from 0 on, got -50"),
        ("latency-us = 2", "latency = 2", "17:3", "latency-us is missing"),
        ("gb-per-s = 300", "gb-per-s = 0", "21:1", "gb-per-s must be positive, got 0"),
        ("gb-per-s = 300", "gb-per-s = true", "21:1", "gb-per-s is a number, got True"),
        ('["n0", "n1"]', '["n0", "n2"]', "13:1", "there is no node 'n2'; nodes are n0, n1"),
        ('["n0", "n1"]', '["n0"]', "13:1", "between takes two places, got 1"),
        ('to = "n0/gpu:1"', "", "17:3", "a link has either `between`, or `from` and `to`"),
        ('from = "n0/gpu:0"', 'from = "n0/gpu:3"', "18:1", "node n0 has no device 'gpu:3' (did you mean 'gpu:1'?)"),
        ('b = "n1"', 'b = ["n0/gpu:0", "n1"]', "10:1", "actor b is on one node, or on devices of one node"),
        ('b = "n1"', "b = 1", "10:1", "b is a name or a list of names, got 1"),
        ("[nodes.n1]", '[nodes."n/1"]', "6:9", "'n/1' cannot be the name of a node"),
        ("[actors]", "[actors", "8:8", "not TOML: Expected ']'"),
    ],
)
def test_a_mistake_in_the_file_is_shown_with_its_line(file, old, new, place, message):
    path = file(FILE.replace(old, new, 1))
    with pytest.raises(SourceError) as caught:
        Topology.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:{place}: error: {message}")
    assert text.splitlines()[-1].strip("^ \t") == ""


def test_one_table_instead_of_several(file):
    with pytest.raises(SourceError, match=r"cluster\.toml:2:2: error: links is a list of tables: write \[\[links\]\]"):
        Topology.load(file("[nodes.n0]\n[links]\nlatency-us = 3\n"))


def test_a_topology_without_nodes(file):
    with pytest.raises(SourceError, match=r"cluster\.toml: error: the topology has no nodes"):
        Topology.load(file(""))


def test_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(SourceError, match=r"nothing\.toml: error: cannot read it: No such file"):
        Topology.load(str(tmp_path / "nothing.toml"))


def test_actors_get_their_places(file):
    module = _module()
    place_actors(module, Topology.load(file(FILE)))
    assert _places(module) == {"driver": ("n1", ()), "a": ("n0", ("gpu:0", "gpu:1")), "b": ("n1", ())}


def test_without_a_table_of_actors_they_are_where_they_say(file):
    module = _module()
    place_actors(module, Topology.load(file("[nodes.n0]\n")))
    assert _places(module) == {"driver": ("n0", ()), "a": ("n0", ()), "b": ("n0", ())}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[nodes.n0]\n[actors]\na = "n0"\nbb = "n0"\n',
            r"has no actor @b \(did you mean 'bb'\?\); its .* has a, bb",
        ),
        ("[nodes.n3]\n", r"cluster\.toml has no node 'n0', where actor @a is; it has n3: add the node, or place"),
    ],
)
def test_a_topology_that_lacks_an_actor_names_it(file, text, message):
    with pytest.raises(GraphError, match=message):
        place_actors(_module(), Topology.load(file(text)))


def test_a_device_that_the_node_does_not_have(file):
    a = abstract_actor("A", "a", devices=["gpu:1"])
    with InputNode() as inp:
        module = import_graph(a.f.bind(inp)).module
    with pytest.raises(GraphError, match="node 'n0' has no device 'gpu:1', which actor @a is to have; it has gpu:0"):
        place_actors(module, Topology.load(file('[nodes.n0]\ndevices = ["gpu:0"]\n')))


def test_transports_that_are_chosen_cannot_be_contradicted(file):
    module = parse_module("""
    cgc.graph @g level = placed {
      cgc.actor @driver driver on "n0"
      cgc.actor @a actor class "A" on "n0"
      cgc.body {
        %0 = cgc.input : !cgc.object
        %1 = cgc.transfer %0 from @driver to [@a] via shm : !cgc.object
        %2 = cgc.call @a::@f(%1) : !cgc.object
        %3 = cgc.transfer %2 from @a to [@driver] via shm : !cgc.object
        cgc.output %3
      }
    }""")
    place_actors(module, Topology.load(file('[nodes.n0]\n[actors]\na = "n0"\n')))
    with pytest.raises(GraphError, match="has @a on n1, but the IR of level placed has it on n0; start"):
        place_actors(module, Topology.load(file('[nodes.n0]\n[nodes.n1]\n[actors]\na = "n1"\n')))


def test_nodes_of_a_live_cluster(ray_session, tmp_path):
    found = Topology.from_ray()
    assert list(found.nodes) == ["n0"]
    path = str(tmp_path / "cluster.toml")
    found.save(path)
    assert Topology.load(path).nodes == found.nodes


def test_a_live_cluster_that_is_not_there():
    code = "from cgc.ir import Topology; Topology.from_ray()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RuntimeError: Topology.from_ray() needs a connection to a cluster: call ray.init() first" in done.stderr


PEERS = """
[nodes.n0]
devices = ["gpu:0", "gpu:1"]

[nodes.n1]
devices = ["gpu:0"]

[[links]]
between = ["n0/gpu:0", "n0/gpu:1"]
latency-us = 2
gb-per-s = 200
peers = true
"""


def test_links_say_which_devices_are_peers(tmp_path):
    file = tmp_path / "peers.toml"
    file.write_text(PEERS)
    topology = Topology.load(file)
    assert topology.are_peers("n0", "gpu:0", "gpu:1")
    assert topology.are_peers("n0", "gpu:1", "gpu:0")
    assert not topology.are_peers("n1", "gpu:0", "gpu:1")
    topology.save(file)
    assert Topology.load(file).links == topology.links


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"n0/gpu:1"]', '"n1/gpu:0"]', "peers are two devices of one node"),
        ('["n0/gpu:0", "n0/gpu:1"]', '["n0", "n1"]', "peers are two devices of one node"),
        ("peers = true", 'peers = "yes"', "peers is true or false, got 'yes'"),
    ],
)
def test_what_cannot_be_peers_is_refused(tmp_path, old, new, reason):
    file = tmp_path / "peers.toml"
    file.write_text(PEERS.replace(old, new))
    with pytest.raises(SourceError, match=reason):
        Topology.load(file)
