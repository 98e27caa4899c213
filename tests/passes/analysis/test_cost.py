"""The cost model: defaults, profiles, and what it says about a profile that is wrong."""

import json

import pytest

from cgc.errors import PassError
from cgc.passes.analysis.cost import DEFAULT_CALL_US, CostModel


def _profile(tmp_path, content):
    path = tmp_path / "profile.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_defaults_without_a_profile():
    assert CostModel.load("", "overlap-comm").call_us("Stage", "forward") == DEFAULT_CALL_US


def test_profile_replaces_what_it_names(tmp_path):
    content = {
        "calls": {"Stage.forward": 10, "pkg.Stage.backward": 20.5},
        "links": {"shm": {"latency-us": 3, "gb-per-s": 2}},
        "default-call-us": 7,
    }
    model = CostModel.load(_profile(tmp_path, content), "overlap-comm")
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"profile.json:1:2: the cost model is not JSON"),
        ({"latency": 3}, r"unknown fields \['latency'\]; known: "),
        ([1], "malformed"),
        ({"calls": {"forward": 3}}, "'forward' is not of the form Class.method"),
        ({"calls": {"Stage.forward": "slow"}}, "malformed"),
        ({"calls": {"Stage.forward": -1}}, "cannot be negative"),
        ({"links": {"shm": {"latency-us": 3}}}, "gb-per-s"),
        ({"links": {"shm": {"latency-us": 3, "gb-per-s": 0}}}, "must be positive"),
    ],
)
def test_bad_profile(tmp_path, content, message):
    with pytest.raises(PassError, match=message) as caught:
        CostModel.load(_profile(tmp_path, content), "overlap-comm")
    assert str(caught.value).startswith("overlap-comm: ")


def test_missing_profile(tmp_path):
    with pytest.raises(PassError, match=r"cannot read the cost model .*nothing.json: No such file"):
        CostModel.load(str(tmp_path / "nothing.json"), "overlap-comm")
