"""Without its native core the runtime says what is missing, and the compiler works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cgc
from cgc.runtime import explain_missing_core

COMPILE = """
import cgc
from ray.dag import InputNode

class Stage:
    def echo(self, value):
        return value

stage = cgc.abstract_actor(Stage)
with InputNode() as inp:
    dag = stage.echo.bind(inp)
print(cgc.lower(dag).text())
"""


@pytest.fixture(scope="module")
def without_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package as it is where no native core was built."""
    root = tmp_path_factory.mktemp("without_core")
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "native")
    shutil.copytree(Path(cgc.__file__).parent, root / "cgc", ignore=ignored)
    return root


def test_compiler_works_without_the_core(without_core: Path) -> None:
    result = _run(without_core, COMPILE)
    assert result.returncode == 0, result.stderr
    assert "cgc.program @Stage_0" in result.stdout


@pytest.mark.parametrize("module", ["driver", "worker"])
def test_import_of_the_runtime_says_what_to_do(without_core: Path, module: str) -> None:
    result = _run(without_core, f"import cgc.runtime.{module}")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: cgc's native core is not built for this Python")


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "riscv64")])
def test_unsupported_machines_are_named(system: str, machine: str) -> None:
    message = explain_missing_core(system, machine)
    assert f"this is {system} {machine}" in message
    assert "cgc-dump" in message


def _run(package_root: Path, program: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(package_root)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, cwd=package_root, capture_output=True, text=True, check=False)
