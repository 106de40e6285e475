"""``python -m metricgrad`` and the installed command: the command line, or one line on what it needs."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it else
    try:
        from metricgrad.cli.main import main as run
    except ModuleNotFoundError as error:
        print(f"metricgrad: the command line needs {error.name}: pip install 'metricgrad[compare]'", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
