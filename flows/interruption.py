"""Ctrl-C ends a command with one line.

The terminal sends it to all processes of a command, so Prefect's temporary server ends too, and Prefect would then try
for minutes to report to the dead server.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from rich.console import Console

SHUTDOWN_S = 10.0
"""Time for an orderly shutdown."""
EXIT_CODE = 128 + signal.SIGINT


class Interruption:
    """Remembers a Ctrl-C, so that errors that follow from it are not reported."""

    def __init__(self, console: Console) -> None:
        self.received = False
        self._reported = False
        self._console = console

    def watch(self) -> None:
        """Install the signal handler."""
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> NoReturn:
        self.received = True
        timer = threading.Timer(SHUTDOWN_S, self._force_exit)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    def exit(self) -> NoReturn:
        """Exit in the normal way."""
        self._report()
        sys.exit(EXIT_CODE)

    def _force_exit(self) -> NoReturn:
        self._report()
        os._exit(EXIT_CODE)

    def _report(self) -> None:
        if not self._reported:
            self._reported = True
            self._console.print("[bold red]sgcldff:[/bold red] stopped; run the same command again to resume")
