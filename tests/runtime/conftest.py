"""Actors that the tests of a file share, and a gate for them. Files with other actors have their own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.helpers import Actor, Gate


@pytest.fixture(scope="module")
def actors(ray_session: None) -> list[Any]:
    """Three actors for all tests of a file: each graph leaves them as it found them."""
    return [Actor.remote() for _ in range(3)]


@pytest.fixture(scope="module")
def gate(ray_session: None) -> Any:
    return Gate.remote()
