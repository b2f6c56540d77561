"""What the streams of the process are connected to, and what may therefore be shown on them."""

import os
import stat
import sys
from typing import Literal, TextIO

from marketplace_async.cli.formats import escaped

__all__ = ["color_system", "complain", "may_show_progress"]


def color_system(stream: TextIO) -> Literal["auto"] | None:
    """Say rich which colours to use: on a terminal what it is capable of, elsewhere none.

    https://no-color.org
    """
    return "auto" if stream.isatty() and not os.environ.get("NO_COLOR") else None


def may_show_progress() -> bool:
    """Say whether a line that moves on standard error would be in nobody's way.

    Behind a pipe stands a program that may write to the same terminal.
    """
    if not sys.stderr.isatty():
        return False
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except OSError:
        return False
    return not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def complain(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"marketplace-async: {escaped(message)}\n")
