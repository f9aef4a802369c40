"""`python -m nas` is `nas`."""

from __future__ import annotations

import sys


def main() -> None:
    """The program; an interrupt while its commands are still being loaded leaves no traceback."""
    try:
        from nas.cli.main import main as program
    except KeyboardInterrupt:
        print("interrupted\n  nothing is lost; type it again", file=sys.stderr)
        sys.exit(130)
    program()


if __name__ == "__main__":
    main()
