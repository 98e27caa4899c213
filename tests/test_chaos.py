"""
A short form of the chaos run, which `docs/reliability.md` reports in its long form.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "tools" / "chaos" / "run.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_random_faults_strand_nobody_and_leave_nothing(tmp_path):
    result = tmp_path / "result.json"
    command = [sys.executable, str(RUN), "--minutes", "2", "--seed", "20", "--json", str(result)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=560, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(result.read_text(encoding="utf-8"))
    assert found["problems"] == []
    assert found["faults"] > 50
    assert found["counts"]["values"] > 200
