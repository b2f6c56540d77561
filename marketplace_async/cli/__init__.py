"""The command line ``marketplace-async``, an optional extra on click and rich.

It stands on the public API, and on the converter and the SID checks below it. What a user may
rely on, exit codes included, is in ``docs/command-line.md``.
"""

import sys
from collections.abc import Sequence
from typing import Final, NoReturn

__all__ = ["main"]

PROGRAM: Final = "marketplace-async"
EXTRA: Final = frozenset({"click", "rich"})


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command in ``args``, by default those of the process, and exit with its code."""
    try:
        # Not at the top: without the extra, importing this package must not fail.
        from marketplace_async.cli.commands import program
        from marketplace_async.cli.exits import exit_code

        code = exit_code(program, args, PROGRAM)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        sys.exit(
            f"{PROGRAM}: {package} is not installed. "
            "Install the command line with: pip install 'marketplace-async[cli]'"
        )
    sys.exit(code)
