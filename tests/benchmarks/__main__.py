"""Run the benchmarks and print their table: each figure, its goal, and whether it is reached."""

import argparse
import multiprocessing
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cpu
import limits
import outages
import overload
import pages
import report

BENCHMARKS = {
    **overload.BENCHMARKS,
    **outages.BENCHMARKS,
    **pages.BENCHMARKS,
    **cpu.BENCHMARKS,
    **limits.BENCHMARKS,
}
DIRECTORY = Path(__file__).parents[2] / "docs" / "performance"


def run(benchmark: Callable[[], list[report.Figure]]) -> list[report.Figure]:
    """Run a benchmark in a fresh process: the others leave memory, and limits, behind."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(benchmark).result()


def main() -> int:
    """Return 0 if every goal is reached."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, epilog=f"Benchmarks: {', '.join(BENCHMARKS)}."
    )
    parser.add_argument(
        "--only", metavar="WORD", help="the name of one benchmark, or a part of names"
    )
    parser.add_argument(
        "directory", type=Path, nargs="?", metavar="DIRECTORY",
        help="where the table and the plot are written; default with all: docs/performance",
    )  # fmt: skip
    arguments = parser.parse_args()
    word = arguments.only or ""
    names = [word] if word in BENCHMARKS else [name for name in BENCHMARKS if word in name]
    if not names:
        parser.error(f"no benchmark has {word!r} in its name")

    figures: list[report.Figure] = []
    failed = False
    print(report.HEAD, flush=True)
    for name in names:
        try:
            for figure in run(BENCHMARKS[name]):
                print(figure.row(), flush=True)
                figures.append(figure)
        except Exception:  # noqa: BLE001  # the others are still of interest
            failed = True
            print(f"| {name} | failed | | not&nbsp;reached | |", flush=True)
            traceback.print_exc()
    print(f"\n{report.machine()}")

    directory = arguments.directory or (None if word else DIRECTORY)
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
        table = [report.HEAD, *(figure.row() for figure in figures), "", report.machine(), ""]
        (directory / "figures.md").write_text("\n".join(table))
        courses = [figure for figure in figures if figure.course]
        if len(courses) == report.PANELS:
            report.plot(courses, directory / "limiter.svg")
    return 1 if failed or not all(figure.reached for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
