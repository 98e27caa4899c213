"""That the benchmark of tensors measures what it says; what it measures is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("torch")

CASES = ("p2p", "allreduce", "allreduce-shm", "allgather-shm", "reducescatter-shm")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_case_compares_pairs_of_rounds(tmp_path):
    figures = tmp_path / "figures.json"
    chosen = [option for case in CASES for option in ("--case", case)]
    command = [
        sys.executable,
        "-m",
        "tools.bench.tensors",
        "--quick",
        "--size",
        "4096",
        *chosen,
        "--json",
        str(figures),
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    rows = json.loads(figures.read_text(encoding="utf-8"))["rows"]
    assert [(row["case"], row["nbytes"]) for row in rows] == [(case.replace("-", ", "), 4096) for case in CASES]
    for row in rows:
        assert all(row[side]["seconds"] > 0 for side in ("ours", "bare"))
        assert row["ratios"] == sorted(row["ratios"])
        assert row["case"] in run.stdout
