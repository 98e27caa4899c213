"""
Run the part of the suite that depends on Ray with each supported version of it, each in an environment of its own.

    python tools/ray_versions.py                    # the versions of VERSIONS
    python tools/ray_versions.py 2.59.0 -- -x       # one version; what follows -- goes to pytest

The environments are `build/ray-VERSION`. They use the native core of the checkout, so they need the Python that it was
built with. Exit status 1 if the tests of any version fail.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

VERSIONS = ("2.58.1", "2.59.0", "2.60.0")
"""The newest patch release of each of the newest three minor releases."""

TESTS = (
    "tests/parity",
    "tests/test_quickstart.py",
    "tests/test_drop_in.py",
    "tests/test_ray_programs.py",
    "tests/runtime/test_cluster.py",
    "tests/runtime/test_driver.py",
    "tests/runtime/test_driver_errors.py",
    "tests/runtime/test_driver_limits.py",
    "tests/runtime/test_failures.py",
    "tests/runtime/test_recovery.py",
)

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "requirements" / "dev.txt"
DEPENDENCIES = (
    "graphviz",
    "hypothesis",
    "networkx",
    "numpy",
    "psutil",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "rich",
    "syrupy",
    "typing-extensions",
    "xdsl",
)


def main(arguments: Sequence[str]) -> int:
    """Test the versions named before `--`, or all."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    versions, options = arguments[:cut] or VERSIONS, arguments[cut + 1 :]
    results = {version: _test(environment(version), options) for version in versions}
    for version, status in results.items():
        print(f"Ray {version}: {'passed' if status == 0 else f'failed (pytest status {status})'}")
    return int(any(results.values()))


def environment(version: str) -> Path:
    """The Python of the environment with this version of Ray, which is made if there is none."""
    directory = ROOT / "build" / f"ray-{version}"
    python = directory / "bin" / "python"
    done = directory / ".installed"
    if done.exists():
        return python
    venv.create(directory, with_pip=True, clear=True)
    pins = [line for line in PINS.read_text(encoding="utf-8").splitlines() if not line.startswith("ray==")]
    constraints = directory / "constraints.txt"
    constraints.write_text("\n".join([*pins, f"ray=={version}", ""]), encoding="utf-8")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(constraints)]
    subprocess.run([*pip, "ray", *DEPENDENCIES], check=True)
    (packages,) = directory.glob("lib/python3*/site-packages")
    (packages / "cgc.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    done.touch()
    return python


def _test(python: Path, options: Sequence[str]) -> int:
    found = [test for test in TESTS if (ROOT / test).exists()]
    return subprocess.run([str(python), "-m", "pytest", *found, *options], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
