"""These tests need torch; those of CUDA say so where it is missing, the others are left out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

collect_ignore = (
    []
    if importlib.util.find_spec("torch")
    else [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name != "test_cuda.py"]
)
