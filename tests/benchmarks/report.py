"""The table and the plot of a benchmark run."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from fanning_out import Run
from figures import Figure

PACKAGES = ("aiohttp", "attrs", "cattrs", "msgspec", "twilio")


def table(figures: Sequence[Figure]) -> str:
    """Give the figures as a Markdown table with the machine and the versions under it."""
    lines = ["| figure | measured | goal | | detail |", "| --- | ---: | ---: | --- | --- |"]
    for figure in figures:
        sign = "≥&nbsp;" if figure.at_least else "≤&nbsp;"
        value, goal = f"{figure.value:.3g}{figure.unit}", f"{figure.goal:g}{figure.unit}"
        verdict = "reached" if figure.reached else "not&nbsp;reached"
        lines.append(f"| {figure.name} | {value} | {sign}{goal} | {verdict} | {figure.detail} |")
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    machine = f"{platform.system()} {platform.machine()} with {os.cpu_count()} processors"
    python = f"Python {platform.python_version()}"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    lines += ["", f"Measured on {today} with {python}, {versions}, on {machine}.", ""]
    return "\n".join(lines)


def plot(runs: Sequence[Run], file: Path) -> None:
    """Draw what the limiter found beside what the server admitted, a panel for each run."""
    import matplotlib as mpl  # noqa: PLC0415  # takes a second to import

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "marketplace_async"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, panels = plt.subplots(2, 2, figsize=(9, 5.5), layout="constrained")
    for run, panel in zip(runs, panels.flat, strict=True):
        end = run.seconds[-1]
        steps = [*run.admitted, (end, run.admitted[-1][1])]
        panel.step(
            *zip(*steps, strict=True), where="post", color="0.6", label="admitted by the server"
        )
        panel.plot(
            run.seconds, run.limits, linewidth=1, color="#0b62c4", label="found by the limiter"
        )
        panel.set_title(run.title.removeprefix("fan-out, "), fontsize=10)
        panel.set_ylim(bottom=0)
        panel.set_xlabel("seconds")
    panels[0, 0].set_ylabel("requests at once")
    panels[1, 0].set_ylabel("requests at once")
    panels[0, 0].legend(fontsize=8, loc="lower right")
    # matplotlib leaves parts of its signatures without types.
    figure.savefig(file, metadata={"Date": None})  # pyright: ignore[reportUnknownMemberType]
