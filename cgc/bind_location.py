"""
Remembers for each `ray.dag` node where in the user's code it was made.

Ray does not record it, and an error about a node that cannot say which `.bind` it means sends the user searching. So
`ray.dag.DAGNode.__init__` is wrapped at `import cgc`; nodes made before that have no location. Walking the few frames
between the constructor and the user costs about a microsecond a node; file and line are plain values, no frame is kept.

This module imports neither ray nor anything heavy: if `ray.dag` is not loaded yet (`import ray` alone does not load
it), a finder on `sys.meta_path` waits for it and then removes itself.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

_NODE_MODULE = "ray.dag.dag_node"
_ATTRIBUTE = "_cgc_bind_location"
_LIBRARIES = ("ray", "cgc")

_sequence = itertools.count()


class BindLocation(NamedTuple):
    """
    Where and when a node was made.

    `file` is as Python knows it (usually absolute); `sequence` counts the nodes of this process in order of creation.
    """

    file: str
    line: int
    sequence: int


def install() -> None:
    """Record locations from now on, or from when `ray.dag` is first imported. Idempotent."""
    loaded = sys.modules.get(_NODE_MODULE)
    if loaded is not None and hasattr(loaded, "DAGNode"):
        _wrap(loaded)
    elif not any(isinstance(finder, _NodeModuleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NodeModuleFinder())


def bind_location(node: object) -> BindLocation | None:
    """Where `node` was made; None if that was before `install`."""
    # Not getattr: InputNode and ClassNode answer to any name by making a new node.
    location = node.__dict__.get(_ATTRIBUTE)
    return BindLocation(*location) if location is not None else None


class _NodeModuleFinder(MetaPathFinder):
    """Lets the real finders find `ray.dag.dag_node` and wraps its class once it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NODE_MODULE:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _WrappingLoader(spec.loader)
        return spec


class _WrappingLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _wrap(module)


def _wrap(module: ModuleType) -> None:
    node_class: Any = module.DAGNode
    original = node_class.__init__
    if hasattr(original, _ATTRIBUTE):
        return

    @functools.wraps(original)
    def remember_location(self: Any, *args: Any, **kwargs: Any) -> None:
        self.__dict__[_ATTRIBUTE] = (*_caller(), next(_sequence))
        original(self, *args, **kwargs)

    setattr(remember_location, _ATTRIBUTE, True)
    node_class.__init__ = remember_location


def _caller() -> tuple[str, int]:
    """File and line of the innermost frame outside ray and cgc; of the outermost frame if there is none."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
