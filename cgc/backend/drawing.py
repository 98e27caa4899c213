"""Pictures of what is written in Graphviz's language, by its `dot` program."""

from __future__ import annotations

import shutil
import subprocess


def draw(dot: str, format: str) -> bytes:
    """
    The picture in a format that `dot` knows (`"svg"`, `"png"`, …).

    Raises:
        FileNotFoundError: The program is not installed.
        ValueError: It does not know the format, or fails otherwise; the message is its own.
    """
    program = shutil.which("dot")
    if program is None:
        raise FileNotFoundError("Graphviz's `dot` program is not installed")
    done = subprocess.run([program, f"-T{format}"], input=dot.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"{program} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
