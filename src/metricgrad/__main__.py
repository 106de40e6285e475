"""``python -m metricgrad`` and the installed command: the command line, or one line on what it needs."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def main() -> None:
    """Entry point. After Ctrl-C or SIGTERM it says what is kept, and exits as a shell would: with 130, or with 143."""
    received: list[int] = []

    def stop(number: int, _: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    # a shell's background job ignores the first else, and a container's first process the other
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    try:
        _run()
    except KeyboardInterrupt as error:
        said = str(error) or "stopped; what was there is as it was, and the same command begins anew"
        print(f"metricgrad: {said}", file=sys.stderr)
        sys.exit(128 + received[-1])


def _run() -> None:
    try:
        from metricgrad.cli.main import main as run
    except ModuleNotFoundError as error:
        print(f"metricgrad: the command line needs {error.name}: pip install 'metricgrad[compare]'", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
