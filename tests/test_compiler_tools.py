"""The tools whose figures `docs/schedules.md` shows, in short forms."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _run(tool, *arguments):
    command = [sys.executable, str(ROOT / "tools" / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False)


def test_graphs_that_ray_refuses_compile():
    done = _run("zoo/refused.py", "--graphs", "20")
    assert done.returncode == 0, done.stderr
    assert "refused by Ray" in done.stdout
    assert "refused by cgc" not in done.stdout


def test_what_ray_makes_of_the_zoo():
    done = _run("zoo/refused.py", "--zoo")
    found = {line[:22].strip(): line[22:].strip() for line in done.stdout.splitlines()}
    assert found["1F1B"] == "ordered"
    assert found["skip edges"] == "AssertionError in Ray's scheduler"
    assert found["all to all"] == "Ray ignores the transport of one result of several"


def test_compile_scaling_prints_a_row_per_shape():
    done = _run("bench/compile_scaling.py", "4x4", "8x2")
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in done.stdout.splitlines()[2:]]
    assert [shape for shape, _ in rows] == ["4 × 4", "8 × 2"], done.stderr
    assert all(int(operations) > 3 * 4 * 4 for _, operations in rows)  # a read, a call and a write each
