"""Run the command line with ``python -m marketplace_async.cli``."""

from marketplace_async.cli import main

if __name__ == "__main__":
    main()
