"""`pushengine` and `python -m pushengine`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from pushengine.cli.app import main as run  # noqa: PLC0415 - nothing is imported before it is needed

    return run()


if __name__ == "__main__":
    sys.exit(main())
