"""
`python -m cgc` runs a script or a module as plain `python` would, with cgc installed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPORT = """
import sys, __main__
import ray.dag
first = next(folder for folder in sys.path if "thirdparty" not in folder)  # ray puts one of its own before
print(__name__, sys.argv[1:], first, __file__, __main__.__dict__ is globals())
print(hasattr(ray.dag.DAGNode.experimental_compile, "__wrapped__"))
"""


def test_script_sees_its_own_arguments_path_and_main_module(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(REPORT)
    program = _run(str(script), "-x", "value", "-m")
    assert program.stdout.splitlines() == [
        f"__main__ ['-x', 'value', '-m'] {tmp_path} {script} True",
        "True",
    ]


def test_module_is_found_in_the_current_folder(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__main__.py").write_text(REPORT)
    program = _run("-m", "package", "argument", cwd=tmp_path)
    assert program.stdout.splitlines() == [
        f"__main__ ['argument'] {tmp_path} {package / '__main__.py'} True",
        "True",
    ]


@pytest.mark.parametrize(
    ("ending", "status"),
    [("raise SystemExit(7)", 7), ("raise ValueError('told')", 1), ("import atexit; atexit.register(print, 'end')", 0)],
)
def test_exit_status_is_the_programs(ending, status, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(ending)
    program = _run(str(script), check=False)
    assert program.returncode == status
    assert ("ValueError: told" in program.stderr) == (status == 1)
    assert (program.stdout == "end\n") == (status == 0)


def test_exit_handlers_still_find_the_scripts_main_module(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("""
import atexit
VALUE = 42
def report():
    import __main__
    print(__main__.VALUE, VALUE)
atexit.register(report)
""")
    assert _run(str(script)).stdout == "42 42\n"


@pytest.mark.parametrize("arguments", [[], ["-m"], ["missing.py"]])
def test_wrong_call_is_one_line_and_status_2(arguments, tmp_path):
    program = _run(*arguments, cwd=tmp_path, check=False)
    assert program.returncode == 2
    assert "python -m cgc" in program.stderr
    assert "Traceback" not in program.stderr


def _run(*arguments: str, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cgc", *arguments], cwd=cwd, capture_output=True, text=True, check=check, timeout=60
    )
