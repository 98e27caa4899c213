"""
The runtime: runs programs on live actors. It knows nothing of the compiler but `cgc.runtime.program`.

Its native core, `cgc.runtime._core`, exists for Linux on x86-64 and aarch64. Where it is missing, importing it says
why; what does not need it (`cgc.runtime.program`, and with it the whole compiler) works all the same.
"""

import importlib
import platform
from typing import Any

SUPPORTED = {"Linux": ("x86_64", "aarch64")}
"""Machines that the native core is built for, by operating system, as `platform` names them."""


def __getattr__(name: str) -> Any:
    if name != "_core":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module("cgc.runtime._core")
    except ModuleNotFoundError as error:
        raise ImportError(explain_missing_core(platform.system(), platform.machine())) from error


def explain_missing_core(system: str, machine: str) -> str:
    """Why there is no native core on this machine, and what to do."""
    if machine in SUPPORTED.get(system, ()):
        return (
            f"cgc's native core is not built for this Python ({platform.python_version()}): "
            "run `make build` in a checkout, or `pip install` cgc"
        )
    return (
        f"cgc runs graphs on Linux x86-64 and aarch64, and this is {system} {machine}; "
        "the compiler works here too: cgc.lower, cgc-dump"
    )
