"""The cost model: defaults, profiles, and what it says about a profile that is wrong."""

import json

import pytest

from cgc.errors import SourceError
from cgc.ir import Link as Way
from cgc.ir import Placement, Topology
from cgc.passes.analysis.cost import DEFAULT_CALL_US, CostModel, Link


def _profile(tmp_path, content):
    path = tmp_path / "profile.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_defaults_without_a_profile():
    assert CostModel.load("").call_us("Stage", "forward") == DEFAULT_CALL_US


def test_profile_replaces_what_it_names(tmp_path):
    content = {
        "calls": {"Stage.forward": 10, "pkg.Stage.backward": 20.5},
        "links": {"shm": {"latency-us": 3, "gb-per-s": 2}},
        "default-call-us": 7,
    }
    model = CostModel.load(_profile(tmp_path, content))
    assert model.call_us("Stage", "forward") == 10
    assert model.call_us("pkg.Stage", "backward") == 20.5
    assert model.call_us("Stage", "other") == 7
    assert model.link("shm").latency_us == 3
    assert model.link("nccl") == CostModel().link("nccl")


def test_a_gigabyte_takes_a_second_at_one_gigabyte_per_second():
    link = CostModel().link("gloo")
    assert link.copy_us(10**9) - link.copy_us(0) == pytest.approx(1e6)


def test_unknown_transport_counts_as_gloo():
    assert CostModel().link("my-communicator") == CostModel().link("gloo")


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_what_is_saved_is_loaded(tmp_path, suffix):
    path = str(tmp_path / f"profile.{suffix}")
    calls = {("Stage", "forward"): 10.5, ("pkg.Stage", "back"): 2000.0}
    model = CostModel(calls, {"shm": Link(3.0, 2.0, 0.5)}, 7.0, 10, source=path)
    model.save(path)
    assert CostModel.load(path) == model


def test_names_of_methods_need_no_quotes_in_toml(tmp_path):
    path = tmp_path / "profile.toml"
    path.write_text("[calls]\nStage.forward = 3\n[calls.pkg.Stage]\nback = 4\n")
    assert CostModel.load(str(path)).calls == {("Stage", "forward"): 3, ("pkg.Stage", "back"): 4}


def test_links_of_the_topology_win_between_their_places():
    links = (Way("n0", "n1", 70.0, 2.0), Way("n0", "n0", 3.0, 4.0), Way("n0/gpu:0", "n0/gpu:1", 1.0, 300.0))
    model = CostModel(topology=Topology({"n0": (), "n1": ()}, links))
    gpus = [Placement("n0", (f"gpu:{number}",)) for number in range(3)]
    far = Placement("n1", ("gpu:0",))
    assert model.link("tcp", gpus[0], far) == Link(70.0, 2.0, CostModel().link("tcp").overhead_us)
    assert model.link("nccl", gpus[0], far).latency_us == 70.0  # no link of the devices: the network's
    assert model.link("nccl", gpus[0], gpus[1]).gb_per_s == 300.0
    assert model.link("nccl", gpus[1], gpus[2]) == CostModel().link("nccl")  # not the node's link to itself
    assert model.link("shm", gpus[1], gpus[2]).latency_us == 3.0
    assert model.link("tcp", far, gpus[0]) == CostModel().link("tcp")  # links have a direction


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        ("{", "1:2: ", "not JSON: Expecting property name"),
        ('{"latency": 3}', "1:3: ", "unknown key 'latency'; known are calls, default-call-us, links, object-bytes"),
        ("[1]", "1:1: ", "an object is expected, got a list"),
        ('{"calls":\n {"forward": 3}}', "2:4: ", "'forward' is not of the form Class.method"),
        ('{"calls": {"S.f": "slow"}}', "1:13: ", "S.f is a number, got 'slow'"),
        ('{"calls": {"S.f": -1}}', "1:13: ", "S.f must be a number from 0 on, got -1"),
        ('{"links": {"shm": {"latency-us": 3}}}', "1:13: ", "gb-per-s is missing"),
        ('{"links": {"shm": {"latency-us": 3, "gb-per-s": 0}}}', "1:38: ", "gb-per-s must be positive, got 0"),
    ],
)
def test_bad_profile(tmp_path, content, place, message):
    path = _profile(tmp_path, content)
    with pytest.raises(SourceError) as caught:
        CostModel.load(path)
    assert str(caught.value).startswith(f"{path}:{place}error: {message}")


def test_bad_toml(tmp_path):
    path = tmp_path / "profile.toml"
    path.write_text("[calls]\n'S.f' = slow\n")
    with pytest.raises(SourceError, match=r"profile\.toml:2:9: error: not TOML: Invalid value\n'S\.f' = slow\n +\^"):
        CostModel.load(str(path))


def test_missing_profile(tmp_path):
    with pytest.raises(SourceError, match=r"nothing.json: error: cannot read it: No such file"):
        CostModel.load(str(tmp_path / "nothing.json"))


def test_json_is_read_as_strictly_as_toml(tmp_path):
    twice = _profile(tmp_path, '{"calls": {"S.f": 1, "S.f": 2}}')
    with pytest.raises(SourceError, match=r"error: 'S\.f' stands twice in it"):
        CostModel.load(twice)
    huge = _profile(tmp_path, '{"default-call-us": 1' + "0" * 400 + "}")
    with pytest.raises(SourceError, match="default-call-us must be a number from 0 on"):
        CostModel.load(huge)
    deep = _profile(tmp_path, "[" * 100_000)
    with pytest.raises(SourceError, match="nested too deeply"):
        CostModel.load(deep)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    path = tmp_path / "profile.toml"
    path.write_bytes(b"\xef\xbb\xbfdefault-call-us = 3\r\n")
    assert CostModel.load(path).default_call_us == 3
