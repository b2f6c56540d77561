"""The command line ``marketplace-async``, an optional extra built on click and rich.

It uses the public API of the library. ``docs/command-line.md`` documents the commands, the
output formats and the exit codes.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

__all__ = ["main"]

PROGRAM: Final = "marketplace-async"
EXTRA: Final = frozenset({"click", "rich"})


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command in ``args``, by default the arguments of the process, and exit."""
    if sys.stderr is None:  # closed by the shell: 2>&-
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # until the process ends
    try:
        # Imported here, because the package can be installed without the extra.
        from marketplace_async.cli.commands import program
        from marketplace_async.cli.runner import run_program

        code = run_program(program, args, PROGRAM)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        sys.exit(
            f"{PROGRAM}: {package} is not installed. "
            "Install the command line with: pip install 'marketplace-async[cli]'"
        )
    sys.exit(code)
