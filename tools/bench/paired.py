"""
Pairs of rounds: cgc and what it is compared with, one right after the other, in the same processes.

On a machine that is busy with other work the times of two runs cannot be compared, and neither can their medians. Two
short rounds that follow each other meet nearly the same machine: so each pair gives a ratio, and the result is the
median of the ratios. Which of the two goes first alternates. A single ratio says little, since a round of some ms
lasts twice as long when a thread wakes on the wrong core; so there are many, and the interval in which the median of
endlessly many would lie tells how far it can be trusted. Beside the time, each round says what its processes have
spent; processor time and counts of page faults depend on the machine's other work far less than time does.
"""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Spent:
    """
    What a process, or several, have spent.

    Attributes:
        seconds: Of time; of several processes, the longest.
        cpu_s: Seconds of processors, in all threads, user and system.
        faults: Page faults without input or output: memory that was touched for the first time.
        switches: How often a thread gave up, or lost, its processor.
    """

    seconds: float
    cpu_s: float
    faults: float
    switches: float

    def per(self, count: int) -> Spent:
        """A part of it."""
        return Spent(self.seconds / count, self.cpu_s / count, self.faults / count, self.switches / count)


def together(spent: Sequence[Spent]) -> Spent:
    """What processes that ran at the same time have spent."""
    return Spent(
        max(each.seconds for each in spent),
        sum(each.cpu_s for each in spent),
        sum(each.faults for each in spent),
        sum(each.switches for each in spent),
    )


class Meter:
    """What this process spends from its making on."""

    def __init__(self) -> None:
        self._usage = resource.getrusage(resource.RUSAGE_SELF)
        self._started = time.perf_counter()

    def spent(self) -> Spent:
        seconds = time.perf_counter() - self._started
        before, now = self._usage, resource.getrusage(resource.RUSAGE_SELF)
        return Spent(
            seconds,
            now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime,
            now.ru_minflt - before.ru_minflt,
            now.ru_nvcsw + now.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw,
        )


@dataclass(frozen=True, slots=True)
class Effort:
    """
    How much is measured.

    Attributes:
        seconds: After which no further pair begins.
        fewest: Pairs that are measured in any case.
        most: Pairs at most.
    """

    seconds: float
    fewest: int
    most: int


THOROUGH = Effort(seconds=20.0, fewest=5, most=4001)
QUICK = Effort(seconds=1.5, fewest=3, most=25)

CERTAINTY = 1.96
"""Standard deviations on each side of an interval that holds the true value in 95 % of all cases."""


@dataclass(frozen=True, slots=True)
class Row:
    """
    One comparison, for one transfer of `nbytes`.

    Attributes:
        ours: Medians of what cgc has spent.
        bare: Medians of what the other has spent.
        ratios: Of the times of each pair, ours by the other's, in rising order.
    """

    case: str
    nbytes: int
    other: str
    ours: Spent
    bare: Spent
    ratios: tuple[float, ...]


def compare(
    case: str,
    nbytes: int,
    other: str,
    own: Callable[[], Spent],
    bare: Callable[[], Spent],
    warm_up: int,
    effort: Effort,
) -> Row:
    """Measure pairs of `own` and `bare` rounds; the first `warm_up` pairs do not count."""
    for _ in range(warm_up):
        own()
        bare()
    pairs: list[tuple[Spent, Spent]] = []
    started = time.perf_counter()
    while len(pairs) < effort.fewest or (len(pairs) < effort.most and time.perf_counter() - started < effort.seconds):
        if len(pairs) % 2:
            theirs = bare()
            pairs.append((own(), theirs))
        else:
            ours = own()
            pairs.append((ours, bare()))
    ratios = sorted(ours.seconds / theirs.seconds for ours, theirs in pairs)
    return Row(
        case, nbytes, other, _median([ours for ours, _ in pairs]), _median([bare for _, bare in pairs]), tuple(ratios)
    )


def median_between(ordered: Sequence[float]) -> tuple[float, float, float]:
    """
    The median of values in rising order, between the ends of its 95 % interval.

    How many of `n` independent values are below the true median is binomial with a mean of n / 2 and a deviation of
    √n / 2, whatever their distribution; so the interval reaches from one of the values to another.
    """
    reach = CERTAINTY * math.sqrt(len(ordered)) / 2
    first = max(0, math.floor(len(ordered) / 2 - reach))
    return ordered[first], statistics.median(ordered), ordered[-1 - first]


def size_text(nbytes: int) -> str:
    return f"{nbytes // KIB} KiB" if nbytes < MIB else f"{nbytes // MIB} MiB"


def table(rows: Sequence[Row]) -> str:
    """Markdown; all figures but GB/s and the ratio are `other → cgc`."""
    lines = [
        "| case | against | size | µs | GB/s | more (95 % certain) | CPU µs | page faults | switches |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, middle, high = (f"{ratio - 1:+.0%}" for ratio in median_between(row.ratios))
        cells = [
            row.case,
            row.other,
            size_text(row.nbytes),
            f"{row.bare.seconds * 1e6:,.0f} → {row.ours.seconds * 1e6:,.0f}",
            f"{row.nbytes / row.ours.seconds / 1e9:.2f}",
            f"**{middle}** ({low} to {high}, {len(row.ratios)} pairs)",
            f"{row.bare.cpu_s * 1e6:,.0f} → {row.ours.cpu_s * 1e6:,.0f}",
            f"{row.bare.faults:,.0f} → {row.ours.faults:,.0f}",
            f"{row.bare.switches:,.0f} → {row.ours.switches:,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _median(spent: Sequence[Spent]) -> Spent:
    return Spent(
        statistics.median(each.seconds for each in spent),
        statistics.median(each.cpu_s for each in spent),
        statistics.median(each.faults for each in spent),
        statistics.median(each.switches for each in spent),
    )
