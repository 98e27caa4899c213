"""The short form of the fuzz run: the same tool, fewer graphs."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parent.parent / "tools" / "fuzz" / "schedules.py"


def _run(*arguments):
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(TOOL.parents[2])}, check=False
    )


def test_random_graphs_compile_and_do_not_deadlock():
    done = _run("--graphs", "25", "--seed", "7", "--jobs", "1", "--calls", "60")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("25 graphs (")
    assert done.stdout.endswith(": 0 failures\n")


def test_a_graph_is_the_same_for_the_same_seed():
    first, second = (_run("--print", "--seed", "3").stdout for _ in range(2))
    assert first == second
    assert "cgc.graph @fuzz level = graph" in first
