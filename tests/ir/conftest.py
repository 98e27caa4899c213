"""What tests of the importer share."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture
def collective() -> ModuleType:
    """Ray's collectives, which cannot be imported without torch."""
    pytest.importorskip("torch")
    return importlib.import_module("ray.experimental.collective")
