"""Entry point of the `pushengine` command and of `python -m pushengine`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from pushengine.cli.app import main as run  # noqa: PLC0415 - importing this module stays cheap

        return run()
    except KeyboardInterrupt:  # before the command has begun
        return 130


if __name__ == "__main__":
    sys.exit(main())
