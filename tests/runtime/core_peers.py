"""Processes that attach to a test's arena, for the tests of the native core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgc.runtime._core import Arena

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 120.0
"""Seconds that anything may take that another process has to do."""

PRELUDE = """
import json, sys
from cgc.runtime import _core
handle, *arguments = json.loads(sys.argv[1])
arena = _core.Arena.attach(tuple(handle))
"""


@contextmanager
def peer(arena: Arena, code: str, *arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `code` with `arena`, `arguments` and `_core`; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, json.dumps([arena.handle, *arguments])],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run_alone(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What the process printed; it must end well."""
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, f"exit status {process.returncode}: {errors}"
    return output


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Poll until the condition is true; its value."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        time.sleep(0.002)
    return value


def wait_until_asleep(process: subprocess.Popen[str], arena: Arena, participant: int = 0, state: int = 1) -> None:
    """Wait until a one-threaded peer, having set its state, sleeps in the call that follows."""
    assert arena.wait_state(participant, state, DEADLINE), f"the peer did not come to state {state}"
    eventually(lambda: scheduling_state(process.pid) == "S", "the peer sleeps")


def scheduling_state(pid: int) -> str:
    """The kernel's letter: R runs or could, S sleeps, Z has ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
