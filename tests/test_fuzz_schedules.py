"""
The short form of the fuzz run: the same tool, fewer graphs; and hypothesis, which finds the smallest graph that fails.

What fails here is kept: the smallest graph is written to `tests/fuzzed/`, to be committed under a name with the repair.
Every graph in there, two that were picked for their delicacy among them, is compiled again by each run of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgc.ir import Unit, parse_module, print_module
from tools.fuzz.random_graphs import random_graph, random_profile
from tools.fuzz.schedules import check

TOOL = Path(__file__).parent.parent / "tools" / "fuzz" / "schedules.py"
KEPT = Path(__file__).parent / "fuzzed"
STREAMS = ["", " streams", " streams max-bytes=1", " streams max-bytes=1000000"]


def _start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[2])}
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _run(*arguments):
    process = _start(*arguments)
    output, errors = process.communicate()
    return process.returncode, output, errors


def test_random_graphs_compile_and_do_not_deadlock(tmp_path):
    record = tmp_path / "record.jsonl"
    code, output, errors = _run("--graphs", "120", "--seed", "7", "--jobs", "2", "--json", str(record))
    assert code == 0, errors
    assert output.startswith("120 graphs (")
    assert output.endswith(": 0 failures\n")
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["next_seed"] for line in lines] == [57, 107, 127]
    assert lines[-1]["graphs"] == 120
    assert lines[-1]["calls"] > 120


def test_random_graphs_with_broadcasts_do_not_deadlock(tmp_path):
    record = tmp_path / "record.jsonl"
    code, _, errors = _run("--graphs", "100", "--seed", "7", "--calls", "60", "--broadcast", "--json", str(record))
    assert code == 0, errors
    last = json.loads(record.read_text().splitlines()[-1])
    assert last["failures"] == 0
    assert last["broadcasts"] > 0


def test_random_graphs_with_groups_get_no_longer(tmp_path):
    record = tmp_path / "record.jsonl"
    code, _, errors = _run("--graphs", "100", "--seed", "7", "--calls", "60", "--group", "--json", str(record))
    assert code == 0, errors
    last = json.loads(record.read_text().splitlines()[-1])
    assert last["failures"] == 0
    assert last["groups"] > 0


def test_a_graph_is_the_same_for_the_same_seed():
    (_, first, _), (_, second, _) = (_run("--print", "--seed", "3") for _ in range(2))
    assert first == second
    assert "cgc.graph @fuzz level = graph" in first


def test_an_interrupted_run_says_where_to_go_on(tmp_path):
    record = tmp_path / "record.jsonl"
    process = _start("--graphs", "1000000", "--calls", "5", "--jobs", "1", "--json", str(record))
    deadline = time.monotonic() + 120
    while not record.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    last = json.loads(record.read_text().splitlines()[-1])
    assert f"(interrupted; go on with --seed {last['next_seed']})" in output
    assert "Traceback" not in errors


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.randoms(use_true_random=False), st.integers(1, 25), st.sampled_from(STREAMS))
def test_the_smallest_graph_that_fails_is_kept(tmp_path_factory, rng, calls, streams):
    unit = random_graph(rng, calls)
    text = print_module(unit.module)
    profile = tmp_path_factory.getbasetemp() / "profile.json"
    profile.write_text(json.dumps(random_profile(rng)))
    try:
        check(unit, profile, streams)
    except Exception:
        # hypothesis runs the smallest one last, and it is what stays.
        KEPT.mkdir(exist_ok=True)
        (KEPT / "failed.mlir").write_text(text)
        (KEPT / "failed.json").write_text(profile.read_text())
        raise


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("kept", sorted(KEPT.glob("*.mlir")), ids=lambda path: path.stem)
def test_kept_graphs_compile(kept, streams):
    check(Unit(parse_module(kept.read_text(), str(kept))), kept.with_suffix(".json"), streams)
