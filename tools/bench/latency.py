"""
Compares classic Ray, Ray's Compiled Graph and cgc on the same work, in one run.

    python tools/bench/latency.py [--quick] [--case NAME]... [--contender NAME]... [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.bench.cases import CASE_BY_NAME
from tools.bench.contenders import CONTENDERS
from tools.bench.measure import QUICK, THOROUGH, measure, report, start_ray


def main() -> None:
    """Measure the cases that the command line names, all of them by default."""
    options = _parse()
    start_ray()
    results = []
    for name in options.case or CASE_BY_NAME:
        case = CASE_BY_NAME[name]
        print(f"measuring {case.title}", file=sys.stderr)
        results.append(measure(case, options.contender or CONTENDERS, QUICK if options.quick else THOROUGH))
    report(results, options.json)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    parser.add_argument("--case", action="append", choices=CASE_BY_NAME, help="only this case (may be repeated)")
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="only this one (may be repeated)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
