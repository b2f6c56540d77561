"""``python -m marketplace_async.cli``, for where the console script is not on the path."""

from marketplace_async.cli import main

if __name__ == "__main__":
    main()
