"""
Programs in the manner of Ray's guide on compiled graphs run unmodified under `python -m cgc`.

Beside each program of `tests/ray_programs/` lies what it prints on Ray's own implementation; `make test-parity` keeps
that true. Each runs as a process of its own that joins the Ray of the test session (`RAY_ADDRESS`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray

PROGRAMS = Path(__file__).parent / "ray_programs"
DEADLINE = 240

QUIET = {"RAY_LOG_TO_DRIVER": "0", "RAY_SCHEDULER_EVENTS": "0"}
OF_THE_CLUSTER = re.compile(r"\x1b\[\d+m\((raylet|autoscaler)")
"""Both keep what the cluster says about itself out of a program's output."""

ENVIRONMENT = {
    "profiling": {"RAY_CGRAPH_ENABLE_TORCH_PROFILING": "1"},
    "timeouts": {"RAY_CGRAPH_get_timeout": "1"},
}
TORCH = {"tensors", "profiling"}
GPUS = {"cpu_to_gpu": 1, "gpu_to_gpu": 2, "overlap": 2}
ON_CPU = sorted(path.stem for path in PROGRAMS.glob("*.py") if path.stem not in GPUS)


@pytest.mark.parametrize("name", ON_CPU)
def test_program_prints_on_cgc_what_it_prints_on_ray(name, ray_session, tmp_path):
    assert _output(name, ["-m", "cgc"], tmp_path) == _expected(name)


@pytest.mark.skipif(not os.environ.get("CGC_TEST_PARITY"), reason="the reference side runs in `make test-parity`")
@pytest.mark.parametrize("name", ON_CPU)
def test_expected_output_is_what_ray_prints(name, ray_session, tmp_path):
    assert _output(name, [], tmp_path) == _expected(name)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(GPUS))
def test_program_runs_on_gpus(name, ray_session, tmp_path):
    import torch

    if torch.cuda.device_count() < GPUS[name]:
        pytest.skip(f"needs {GPUS[name]} CUDA devices")
    assert _output(name, ["-m", "cgc"], tmp_path)


def _expected(name: str) -> str:
    return (PROGRAMS / f"{name}.txt").read_text(encoding="utf-8")


def _output(name: str, interpreter_arguments: list[str], folder: Path) -> str:
    if name in TORCH:
        pytest.importorskip("torch")
    program = subprocess.run(
        [sys.executable, *interpreter_arguments, str(PROGRAMS / f"{name}.py")],
        cwd=folder,
        env={**os.environ, **QUIET, "RAY_ADDRESS": ray.get_runtime_context().gcs_address, **ENVIRONMENT.get(name, {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    return "".join(line for line in program.stdout.splitlines(keepends=True) if not OF_THE_CLUSTER.match(line))
