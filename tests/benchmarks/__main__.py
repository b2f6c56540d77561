"""Run every benchmark, print the table, and write it and the plot for the documentation.

``python tests/benchmarks [DIRECTORY]``; the directory is ``docs/performance`` by default.
"""

import sys
from pathlib import Path

import fanning_out
import fetching
import listing
import report


def main() -> int:
    """Give 0 if every goal is reached."""
    here = Path(__file__).parent
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else here.parents[1] / "docs" / "performance"
    fan_out_figures, runs = fanning_out.measure()
    figures = [*fetching.measure(), *listing.measure(), *fan_out_figures]
    table = report.table(figures)
    print(table)
    target.mkdir(parents=True, exist_ok=True)
    (target / "figures.md").write_text(table)
    report.plot(runs, target / "limiter.svg")
    return 0 if all(figure.reached for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
