"""
What a pass is: a frozen dataclass with a name, a contract between IR levels, and one method.

A new pass is one file: the contract in the docstring, a pure function, and last the class.

    @dataclass(frozen=True)
    class CountCallsPass(Pass):
        name = "count-calls"
        accepts = ("graph", "placed")
        verbose: bool = False                    # an option: count-calls{verbose}

        def apply(self, graph: GraphOp, context: PassContext) -> None:
            context.count("calls", sum(isinstance(op, CallOp) for op in graph.walk()))

Passes do not verify, print, time or log on their own: the pass manager does so around each of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from cgc.ir import ConstantTable, GraphOp
from cgc.passes.analysis.cost import CostModel


@dataclass(frozen=True, slots=True)
class Remark:
    """
    Something that a pass wants to tell, mostly why it left something as it was.

    Attributes:
        kind: Terse and stable, such as `WhyNoOverlap`.
        text: A sentence for people.
        location: `file:line` that it is about, or `""`.
    """

    kind: str
    text: str
    location: str = ""

    def __str__(self) -> str:
        return f"{self.location + ': ' if self.location else ''}{self.kind}: {self.text}"


@dataclass(slots=True)
class PassContext:
    """
    What one run of a pass may use and leave behind, besides the IR.

    Attributes:
        constants: The Python objects that the IR refers to.
        cost: Expected times, for passes whose options say nothing else.
        remarks: See `remark`.
        statistics: Numbers by name, such as `channels` or `slot-bytes`.
        products: What a last pass makes of the IR (programs), by name.
        changed: False if this run left the IR as it was; nothing is verified again then. Set it by `keep`.
    """

    constants: ConstantTable
    cost: CostModel = field(default_factory=CostModel)
    remarks: list[Remark] = field(default_factory=list)
    statistics: dict[str, float] = field(default_factory=dict)
    products: dict[str, object] = field(default_factory=dict)
    changed: bool = True

    def keep(self) -> None:
        """State that this run changed nothing in the IR."""
        self.changed = False

    def remark(self, kind: str, text: str, location: str = "") -> None:
        """Report a decision to whoever looks at the dump."""
        self.remarks.append(Remark(kind, text, location))

    def count(self, name: str, amount: float = 1) -> None:
        """Add to a statistic."""
        self.statistics[name] = self.statistics.get(name, 0) + amount


@dataclass(frozen=True)
class Pass(ABC):
    """
    A step of the compiler; its options are its dataclass fields, of types bool, int, float and str.

    Attributes:
        name: As in pipelines, dumps and documents.
        accepts: Levels that it works on.
        produces: Level of the graph afterwards; None where it stays as it was.
    """

    name: ClassVar[str]
    accepts: ClassVar[Sequence[str]]
    produces: ClassVar[str | None] = None

    @abstractmethod
    def apply(self, graph: GraphOp, context: PassContext) -> None:
        """
        Change `graph` in place. A second run changes nothing.

        Raises:
            PassError: The pass cannot do its work; names the operation and the remedy.
        """

    def explain(self, graph: GraphOp) -> None:
        """
        Say more about a graph that does not verify, if this pass was asked to work on it.

        Raises:
            CgcError: More telling than the verifier's error, which is raised otherwise.
        """
