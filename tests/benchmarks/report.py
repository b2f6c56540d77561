"""The figures of a run: their table and their plot."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import attrs

PACKAGES = ("aiohttp", "attrs", "cattrs", "msgspec", "twilio")
PANELS = 4
HEAD = "| figure | measured | goal | | detail |\n| --- | ---: | ---: | --- | --- |"


@attrs.frozen
class Course:
    """The limit over time, for the plot."""

    seconds: tuple[float, ...]
    limits: tuple[int, ...]
    admitted: tuple[tuple[float, int], ...]


@attrs.frozen
class Figure:
    """A measured ratio or amount and its goal."""

    name: str
    value: float
    goal: float
    at_least: bool = True
    unit: str = ""
    detail: str = ""
    course: Course | None = None

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def row(self) -> str:
        """Return the row of the Markdown table."""
        sign = "≥&nbsp;" if self.at_least else "≤&nbsp;"
        value, goal = f"{self.value:.4g}{self.unit}", f"{self.goal:g}{self.unit}"
        verdict = "reached" if self.reached else "not&nbsp;reached"
        return f"| {self.name} | {value} | {sign}{goal} | {verdict} | {self.detail} |"


def machine() -> str:
    """Return the sentence that names the date, the versions and the machine."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()}, "
        f"{versions}, on {platform.system()} {platform.machine()} with {os.cpu_count()} processors."
    )


def plot(figures: Sequence[Figure], file: Path) -> None:
    """Draw the limit and the number of admitted requests, one panel for each course."""
    import matplotlib as mpl  # noqa: PLC0415  # takes a second to import

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "marketplace_async"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    drawing, panels = plt.subplots(2, 2, figsize=(9, 5.5), layout="constrained")
    for figure, panel in zip(figures, panels.flat, strict=True):
        course = figure.course
        assert course is not None
        steps = [*course.admitted, (course.seconds[-1], course.admitted[-1][1])]
        panel.step(
            *zip(*steps, strict=True), where="post", color="0.6", label="admitted by the server"
        )
        panel.plot(
            course.seconds,
            course.limits,
            linewidth=1,
            color="#0b62c4",
            label="found by the limiter",
        )
        panel.set_title(figure.name.partition(":")[0].removeprefix("fan-out, "), fontsize=10)
        panel.set_ylim(bottom=0)
        panel.set_xlabel("seconds")
    panels[0, 0].set_ylabel("requests at once")
    panels[1, 0].set_ylabel("requests at once")
    panels[0, 0].legend(fontsize=8, loc="lower right")
    # matplotlib leaves parts of its signatures without types.
    drawing.savefig(file, metadata={"Date": None})  # pyright: ignore[reportUnknownMemberType]
