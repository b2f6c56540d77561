"""How far `catalog` has got, shown as a bar on a terminal; by rich, so import it when needed."""

import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from marketplace_async.cli.catalog import Tally
from marketplace_async.cli.terminal import color_system

__all__ = ["ProgressBar"]


class ProgressBar:
    """A bar on standard error while its ``with`` block runs.

    What is written to standard error meanwhile appears above it.
    """

    def __init__(self) -> None:
        self._bar = Progress(
            BarColumn(complete_style="cyan", finished_style="green", pulse_style="cyan"),
            MofNCompleteColumn(),
            TextColumn("add-ons, {task.fields[extensions]} extensions"),
            TimeElapsedColumn(),
            console=Console(stderr=True, color_system=color_system(sys.stderr)),
            redirect_stdout=False,
        )
        self._task = self._bar.add_task("", total=None, extensions=0)

    def __enter__(self) -> Callable[[Tally], None]:
        """Show the bar, and give what takes note of progress."""
        self._bar.start()
        return self._show

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def _show(self, tally: Tally) -> None:
        self._bar.update(
            self._task,
            completed=tally.done + tally.failed,
            total=tally.found if tally.all_found else None,
            extensions=tally.extensions,
        )
