"""The short form of tools/stress: the memory order with threads, checksums and bounds with processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "tools" / "stress" / "run.py"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
CONFIGURATIONS = 2 * 2 * 4
"""Small and large messages, on two or three rings, with one to four readers."""


def sanitizer_works(name: str, directory: Path) -> bool:
    """Whether the compiler can link with a sanitizer, and what it links runs here."""
    source, program = directory / "empty.cpp", directory / "empty"
    source.write_text("int main() {}")
    command = [str(COMPILER), f"-fsanitize={name}", source, "-o", program]
    build = subprocess.run(command, capture_output=True, check=False)
    return build.returncode == 0 and subprocess.run([program], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)  # most of it is compiling
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_short_stress(sanitizer: str, tmp_path: Path) -> None:
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    if not sanitizer_works(sanitizer, tmp_path):
        pytest.skip(f"the compiler has no working -fsanitize={sanitizer}")
    command = [sys.executable, str(RUN), "--sanitize", sanitizer, "--", "--short"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) >= CONFIGURATIONS
    assert all(line.startswith("good: ") for line in lines), result.stdout
