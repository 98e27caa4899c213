"""Three processes that are joined in one gloo group, shared by the tests of this folder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ranks import Ranks

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def three_ranks() -> Iterator[Ranks]:
    """Processes with a healthy group named `group`: tests that break a group make their own."""
    ranks = Ranks(3)
    ranks.join()
    yield ranks
    ranks.close()
