"""
cgc: the compiled-graph compiler for Ray.

    import cgc, ray
    from ray.dag import InputNode

    with InputNode() as inp:
        dag = b.echo.bind(a.echo.bind(inp))      # a, b: live Ray actors
    with cgc.compile(dag) as graph:
        print(ray.get(graph.execute("hello")))

The public names resolve on first use, so that `import cgc` stays light: no xdsl, no torch, no native core.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cgc import bind_location

if TYPE_CHECKING:
    from cgc.api import CompiledGraph as CompiledGraph
    from cgc.api import compile as compile
    from cgc.api import lower as lower
    from cgc.api import plan as plan
    from cgc.drop_in import install as install
    from cgc.drop_in import uninstall as uninstall
    from cgc.errors import CgcError as CgcError
    from cgc.errors import DeadlockError as DeadlockError
    from cgc.errors import GraphError as GraphError
    from cgc.errors import IRParseError as IRParseError
    from cgc.errors import IRVerifyError as IRVerifyError
    from cgc.errors import PassError as PassError
    from cgc.errors import SourceError as SourceError
    from cgc.ir.abstract import abstract_actor as abstract_actor
    from cgc.ir.topology import Topology as Topology
    from cgc.options import CompileOptions as CompileOptions
    from cgc.passes.analysis.cost import CostModel as CostModel
    from cgc.passes.analysis.plan import Plan as Plan
    from cgc.runtime.alloc import alloc as alloc

__version__ = "0.1.0"

_HOME_OF_NAME = {
    "alloc": "cgc.runtime.alloc",
    "CompileOptions": "cgc.options",
    "CompiledGraph": "cgc.api",
    "compile": "cgc.api",
    "install": "cgc.drop_in",
    "lower": "cgc.api",
    "plan": "cgc.api",
    "uninstall": "cgc.drop_in",
    "CgcError": "cgc.errors",
    "DeadlockError": "cgc.errors",
    "GraphError": "cgc.errors",
    "IRParseError": "cgc.errors",
    "IRVerifyError": "cgc.errors",
    "PassError": "cgc.errors",
    "SourceError": "cgc.errors",
    "abstract_actor": "cgc.ir.abstract",
    "Topology": "cgc.ir.topology",
    "CostModel": "cgc.passes.analysis.cost",
    "Plan": "cgc.passes.analysis.plan",
}

__all__ = [*_HOME_OF_NAME, "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOME_OF_NAME.get(name)
    if home is None:
        raise AttributeError(f"module 'cgc' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


bind_location.install()
if os.environ.get("CGC_INSTALL") == "1":
    import_module("cgc.drop_in").install()
