"""
What an actor brings to a collective: tensors that fit, or an error for all who take part.

All participants hear what each of them brings, and come to the same verdict: they do the collective, or all of them get
the same error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ray.experimental.util.types import ReduceOp

from cgc.runtime import protocol
from cgc.runtime.accelerators.interface import Accelerator
from cgc.runtime.communicators import fold, tensors
from cgc.runtime.communicators.tensors import TensorMeta
from cgc.runtime.program import Collective
from cgc.runtime.task_errors import ErrorValue

Contribution = tuple[int, bytes]
"""What a participant brings: (kind, blob) of an error, or of the shapes and dtypes of its tensors."""


class Contributor:
    """
    One actor's contributions to one collective operation of the graph.

    Attributes:
        kind: `"allreduce"`, `"allgather"` or `"reduce_scatter"`.
        op: The reduction; None for allgather.
    """

    def __init__(
        self, operation: Collective, name: str, actor: str, participants: Sequence[str], accelerator: Accelerator
    ) -> None:
        """`name` is what to call the operation in messages; `accelerator` is where its tensors have to be."""
        self.kind = operation.kind
        self.op = None if operation.reduce is None else ReduceOp[operation.reduce.upper()]
        self._name = name
        self._actor = actor
        self._participants = tuple(participants)
        self._accelerator = accelerator
        self._accepted_kinds: tuple[object, ...] | None = None
        self._accepted: Contribution = protocol.BYTES, b""

    def contribution(self, values: Sequence[Any]) -> Contribution:
        """What this actor tells the others of its values: an error, or their shapes and dtypes."""
        kinds = tuple(map(tensors.kind_of, values))
        if kinds == self._accepted_kinds:
            return self._accepted
        error = next((value for value in values if type(value) is ErrorValue), None)
        problem = "" if error is not None else self._problem(values)
        if problem:
            error = self.error(ValueError, problem)
        if error is not None:
            return protocol.ERROR, error.blob
        metas = tuple(TensorMeta(tuple(value.shape), value.dtype) for value in values)
        self._accepted_kinds, self._accepted = kinds, (protocol.BYTES, tensors.dump_metas(metas))
        return self._accepted

    def error(self, kind: type[Exception], told: str) -> ErrorValue:
        """An error of the operation, which its message names."""
        return ErrorValue.from_exception(kind(f"{self._name}: {told}"), self._name)

    def disagreement(self, brought: Sequence[Contribution]) -> ErrorValue:
        """The same error for all participants: the first one that was brought, or how the tensors differ."""
        for kind, blob in brought:
            if kind == protocol.ERROR:
                return ErrorValue(blob)
        gives = ", ".join(
            f"@{actor} gives {' and '.join(map(str, tensors.load_metas(blob)))}"
            for actor, (_, blob) in zip(self._participants, brought, strict=True)
        )
        told = f"the participants' tensors differ: {gives}; shapes and dtypes have to be the same"
        return self.error(ValueError, told)

    def _problem(self, values: Sequence[Any]) -> str:
        """What is wrong with this actor's own values; empty if nothing is."""
        accelerator, actor, ranks = self._accelerator, self._actor, len(self._participants)
        arrays: tuple[Any, ...] = (torch.Tensor, accelerator.array_type)
        for value in values:
            if not isinstance(value, arrays):
                return f"takes tensors, and @{actor} gives a {type(value).__name__}"
            if isinstance(value, torch.Tensor) and not tensors.is_dense(value):
                return f"takes dense tensors, and @{actor} gives a {_form_of(value)} one"
            if not accelerator.is_on_device(value):
                return f"moves {accelerator.name} tensors, and @{actor} gives one on {value.device}"
            if value.dtype != values[0].dtype:
                return f"takes tensors of one dtype together, and @{actor} gives {_list(values)}"
            if self.op is not None:
                try:
                    fold.check_reduction(value.dtype, self.op)
                except TypeError as error:
                    return str(error)
            if self.kind != "allreduce" and not value.shape:
                return f"joins or cuts tensors along their first dimension, and @{actor} gives a scalar"
            if self.kind == "reduce_scatter" and value.shape[0] % ranks:
                return (
                    f"cuts along the first dimension, which must be divisible by {ranks}; "
                    f"@{actor} gives {_list([value])}"
                )
        return ""


def _form_of(tensor: torch.Tensor) -> str:
    """What a tensor is that is not dense."""
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantized"
    return "named" if tensor.layout is torch.strided else str(tensor.layout).removeprefix("torch.")


def _list(values: Sequence[torch.Tensor]) -> str:
    return " and ".join(str(TensorMeta.of(value)) for value in values)
