"""What the tests of the passes share: the graphs by name, and snapshots as IR files."""

from __future__ import annotations

from pathlib import Path

import pytest
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from cgc.dump import load_unit

GRAPHS = Path(__file__).with_name("graphs.py")


class MlirSnapshotExtension(SingleFileSnapshotExtension):
    """One file per case, `test_passes[case].mlir`, which is IR that parses."""

    file_extension = "mlir"
    _write_mode = WriteMode.TEXT


@pytest.fixture
def mlir(snapshot):
    """Snapshots of IR text."""
    return snapshot.use_extension(MlirSnapshotExtension)


@pytest.fixture
def graph():
    """A function that gives a fresh unit of one of the graphs in `graphs.py`."""
    return lambda name: load_unit(f"{GRAPHS}:{name}")
