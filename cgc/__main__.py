"""
`python -m cgc script.py ...` and `python -m cgc -m package.module ...`: run a program for Ray, compiled with cgc.

The program sees what it would see under plain `python`: its own `sys.argv`, `sys.path[0]` and `__main__` module.
"""

from __future__ import annotations

import io
import os
import runpy
import sys
from types import ModuleType

from cgc import drop_in

USAGE = "usage: python -m cgc {script.py | -m module} [argument ...]"


def main(arguments: list[str]) -> int:
    """Run the program that `arguments` name; returns the exit status of a wrong call, else leaves by the program's."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{USAGE}\n\n{__doc__.strip()}", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "-m" and len(arguments) == 1:
        print(f"{USAGE}\npython -m cgc: -m needs the name of a module", file=sys.stderr)
        return 2

    # The variable reaches the workers of a Ray that the program starts, so that drivers in actors are covered as well.
    os.environ[drop_in.ENVIRONMENT_VARIABLE] = "1"
    drop_in.install()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    return _run_script(arguments)


def _run_script(arguments: list[str]) -> int:
    script = arguments[0]
    try:
        with io.open_code(os.path.abspath(script)) as file:
            source = file.read()
    except OSError as error:
        print(f"python -m cgc: cannot read {script!r}: {error.strerror}", file=sys.stderr)
        return 2

    # Not runpy.run_path: it takes `__main__` away again at the end of the script, while actors, threads and exit
    # handlers may still refer to it.
    module = ModuleType("__main__")
    module.__dict__.update(__file__=script, __builtins__=__builtins__, __spec__=None, __cached__=None)
    sys.modules["__main__"] = module
    sys.argv = arguments
    # `python -m` put the current folder on the path where `python script.py` puts the script's. Not always at 0: Ray,
    # which may be imported by now, puts a folder of its own before it.
    if os.getcwd() in sys.path:
        sys.path[sys.path.index(os.getcwd())] = os.path.dirname(os.path.realpath(script))
    exec(compile(source, script, "exec"), module.__dict__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
