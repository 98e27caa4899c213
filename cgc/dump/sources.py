"""Where `cgc-dump` takes a graph from: Python code that makes one, or the text of IR."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from cgc.dump.command_line import UsageError
from cgc.errors import CgcError, did_you_mean
from cgc.ir import Unit, parse_module


def load_unit(source: str) -> Unit:
    """
    The unit of `FILE.py:NAME`, `module:NAME`, an IR file, or `-` (IR from standard input).

    Raises:
        UsageError: There is no such thing.
        CgcError: It is no graph, or no IR.
    """
    if source == "-":
        return _parsed(0, "<stdin>")
    place, colon, name = source.rpartition(":")
    if colon and not Path(source).exists():
        if not place:
            raise UsageError(f"say where {name!r} is: FILE.py:NAME or module:NAME")
        if not name:
            raise UsageError(f"say what in {place} to compile: {place}:NAME")
        if not place.endswith(".py") and Path(place).is_file():
            raise UsageError(f"{place} is no Python file: without :{name} it is read as IR")
        return _unit_of_object(_module(place), name, source)
    if source.endswith(".py"):
        raise UsageError(f"say what in {source} to compile: {source}:NAME{_names_in(_module(source))}")
    return _parsed(source, source)


def _parsed(file: str | int, name: str) -> Unit:
    """The unit of an IR file, or of a file descriptor."""
    try:
        with open(file, encoding="utf-8-sig", closefd=isinstance(file, str)) as opened:
            text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"cannot read {name!r}: {reason}") from error
    return Unit(parse_module(text, name))


def _module(place: str) -> ModuleType:
    """A module by name, or the one in a file."""
    path = Path(place)
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise UsageError(f"there is no file {place}")
        sys.path.insert(0, str(path.resolve().parent))
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and place.startswith(error.name):
            raise UsageError(f"there is no module {place}; an IR file or FILE.py:NAME would also do") from error
        raise _user_error(f"{place} does not import") from error
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise _user_error(f"{place} does not import") from error
    return module


def _unit_of_object(module: ModuleType, name: str, source: str) -> Unit:
    from cgc.ir.importer import import_graph

    if not hasattr(module, name):
        known = _graph_names(module)
        raise UsageError(f"{source}: there is no {name!r}{did_you_mean(name, known)}{_names_in(module)}")
    found = getattr(module, name)
    try:
        dag = found() if callable(found) and not _is_node(found) else found
    except CgcError:
        raise
    except (Exception, SystemExit) as error:
        raise _user_error(f"{source} failed") from error
    if not _is_node(dag):
        if inspect.iscoroutine(dag):
            dag.close()
        raise CgcError(
            f"{source} gives no graph: expected a ray.dag node (what `.bind` or MultiOutputNode gives),"
            f" got {type(dag).__name__}"
        )
    return import_graph(dag, name=name, max_inflight=10)


def _is_node(found: Any) -> bool:
    from ray.dag import DAGNode

    return isinstance(found, DAGNode)


def _graph_names(module: ModuleType) -> list[str]:
    """What in a module may be a graph: nodes, and functions that it defines."""
    return [
        name
        for name, found in vars(module).items()
        if not name.startswith("_")
        and (_is_node(found) or (callable(found) and getattr(found, "__module__", "") == module.__name__))
    ]


def _names_in(module: ModuleType) -> str:
    names = _graph_names(module)
    return f"; it has {', '.join(names)}" if names else ""


def _user_error(what: str) -> CgcError:
    """The error for an exception of the user's code, with its traceback from there on."""
    frames = traceback.format_exc().splitlines()
    own = [i for i, line in enumerate(frames) if f'File "{__file__}"' in line or "<frozen importlib" in line]
    start = own[-1] + 1 if own else 1
    while start < len(frames) and frames[start].startswith("    "):
        start += 1
    return CgcError("\n".join([f"{what}:", *frames[start:]]))
