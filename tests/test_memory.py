"""A short form of the memory run, which `docs/reliability.md` reports in its long form."""

from __future__ import annotations

import pytest

from tools.stress.memory import Usage, growth, measure

pytestmark = pytest.mark.usefixtures("ray_session", "clean_shared_memory")


def test_memory_descriptors_and_threads_stay_flat():
    result = measure(small=5000, large=200)
    assert result["problems"] == []
    assert (result["small"]["executions"], result["large"]["executions"]) == (5000, 200)


def test_growth_is_what_never_comes_back():
    wavering = [Usage(resident, 0, 5, 3) for resident in (100, 300) * 5]
    assert growth(wavering) == Usage(-200, 0, 0, 0)
    leaking = [Usage(1000 * n, 0, n, 3) for n in range(20)]
    assert growth(leaking) == Usage(13_000, 0, 13, 0)
