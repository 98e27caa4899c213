"""
Build the native stress test and run it: see the top of stress.cpp for what it does and for its options.

    python tools/stress/run.py [--sanitize thread|address] [--build-only] -- OPTIONS OF THE STRESS TEST
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "cgc" / "runtime" / "native"
PYTHON_SOURCES = {"binding.cpp", "blocks.cpp", "gil.cpp"}
FLAGS = {
    "": ["-O3", "-DNDEBUG"],
    "thread": ["-O1", "-g", "-fsanitize=thread"],
    "address": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sanitize", choices=["thread", "address"], default="")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("options", nargs="*", help="for the stress test, after --")
    arguments = parser.parse_args()
    binary = build(arguments.sanitize, ROOT / "build" / "stress")
    return 0 if arguments.build_only else subprocess.run([binary, *arguments.options]).returncode


def build(sanitizer: str, directory: Path) -> Path:
    """Compile the stress test with the core's sources, if any of them is newer. Raises `CalledProcessError`."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        sys.exit("no C++ compiler: install g++ or set CXX")
    sources = [Path(__file__).with_name("stress.cpp")]
    sources += sorted(source for source in NATIVE.glob("*.cpp") if source.name not in PYTHON_SOURCES)
    program = directory / (sanitizer or "plain")
    binary = program / "stress"
    newest = max(path.stat().st_mtime for path in [*sources, *NATIVE.glob("*.h")])
    if binary.exists() and binary.stat().st_mtime >= newest:
        return binary
    program.mkdir(parents=True, exist_ok=True)
    everything = program / "everything.cpp"  # one translation unit: most of the time goes into the standard headers
    everything.write_text("".join(f'#include "{source}"\n' for source in sources), encoding="utf-8")
    flags = ["-std=c++20", "-Wall", "-Wextra", *FLAGS[sanitizer], f"-I{NATIVE}", "-pthread"]
    subprocess.run([compiler, *flags, str(everything), "-o", str(binary)], check=True)
    return binary


if __name__ == "__main__":
    sys.exit(main())
