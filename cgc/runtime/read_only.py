"""Tensors over read-only memory. Needs torch."""

from __future__ import annotations

import functools
import warnings

import torch


@functools.cache
def hush_warning() -> None:
    """torch warns once per process that such a tensor must not be written. For modules that never write theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.frombuffer(b"\0", dtype=torch.uint8)
