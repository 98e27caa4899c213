"""
Plays random rounds of faults against compiled graphs until the time is up, and counts.

    python tools/chaos/run.py --minutes 2 --seed 1
    python tools/chaos/run.py --seed 1 --only 17            # round 17 of that run again

After each round: no hang, no wrong value, nothing left in shared memory or in any process, survivors answer. The first
bad round ends the run with status 1; its line says how to play it again.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import ray
from ray.dag import DAGContext

from tools.chaos import checks
from tools.chaos.pool import NAMESPACE, Pool
from tools.chaos.rounds import Report, play

POOL_SIZE = 6
ROUND_LIMIT = 300
"""Seconds after which a round is a hang: all stacks are printed and the run ends."""

DRIVER_KILLS = 0.04
"""Share of the rounds in which another driver is killed."""


def main() -> int:
    """Play as the command line says; returns the exit status."""
    options = _parse()
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, namespace=NAMESPACE)
    DAGContext.get_current().teardown_timeout = 10
    pool = Pool(POOL_SIZE)
    total = Report(str(options.seed))
    begin = time.monotonic()
    rounds = [options.only] if options.only is not None else itertools.count(options.first)
    for number in rounds:
        if time.monotonic() - begin > 60 * options.minutes or faults_of(total.counts) >= options.faults:
            break
        if options.verbose:
            print(f"round {number}", file=sys.stderr, flush=True)
        report = _round(f"{options.seed}-{number}", pool)
        total.counts += report.counts
        total.notice_seconds += report.notice_seconds
        if report.problems:
            total.problems += report.problems
            print(f"round {number} is bad; again: --seed {options.seed} --only {number}", file=sys.stderr)
            print(*(f"  {problem:.1000}" for problem in report.problems[:5]), sep="\n", file=sys.stderr)
            if not options.keep_going:
                break
    total.counts["actors replaced"] = pool.replaced
    result = _result(total, time.monotonic() - begin)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if total.problems else 0


def faults_of(counts: Counter[str]) -> int:
    """How many faults there were."""
    return sum(count for name, count in counts.items() if name.startswith("fault "))


def _round(seed: str, pool: Pool) -> Report:
    random = Random(seed)
    members = pool.borrow(random, random.randint(1, 4))
    report = Report(seed, Counter(rounds=1))
    names = checks.shared_memory_names()
    faulthandler.dump_traceback_later(ROUND_LIMIT, exit=True)
    try:
        if random.random() < DRIVER_KILLS:
            _kill_a_driver(seed, pool.names_of(members), random, report)
        else:
            play(seed, members, report, random)
    except Exception as error:
        report.problems.append(f"{type(error).__name__}: {error}")
    report.problems += pool.renew(report.dying)
    report.problems += checks.leftovers_here(names)
    report.problems += checks.leftovers_of([member.handle for member in pool.members])
    report.problems += checks.zombies()
    faulthandler.cancel_dump_traceback_later()
    return report


def _kill_a_driver(seed: str, names: list[str], random: Random, report: Report) -> None:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, str(Path(__file__).with_name("other_driver.py")), address, seed, *names]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None, "the pipe was asked for"
    with driver.stdout:
        if driver.stdout.readline() != "running\n":
            report.problems.append("the other driver did not start")
        time.sleep(random.uniform(0, 0.05))  # so that it dies at any point of its work
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    report.counts["fault driver_kill"] += 1


def _result(total: Report, seconds: float) -> dict[str, object]:
    notice = sorted(total.notice_seconds)
    return {
        "seed": total.seed,
        "minutes": round(seconds / 60, 2),
        "faults": faults_of(total.counts),
        "counts": dict(sorted(total.counts.items())),
        "seconds_to_notice": {
            "median": round(notice[len(notice) // 2], 4) if notice else None,
            "maximum": round(notice[-1], 4) if notice else None,
        },
        "problems": [f"{problem:.1000}" for problem in total.problems[:50]],
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2, help="how long to play (2)")
    parser.add_argument("--faults", type=int, default=1 << 62, help="stop after so many faults")
    parser.add_argument("--seed", type=int, default=1, help="of the whole run (1)")
    parser.add_argument("--first", type=int, default=0, metavar="ROUND", help="begin with this round (0)")
    parser.add_argument("--only", type=int, metavar="ROUND", help="play this round alone")
    parser.add_argument("--verbose", action="store_true", help="name each round")
    parser.add_argument("--keep-going", action="store_true", help="play on after a bad round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
