"""Ctrl-C ends a command in one line.

A terminal sends it to all processes of a command, so Prefect's temporary server ends too, and Prefect would then try
for minutes to tell the dead server what happened.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from rich.console import Console

GRACE_S = 10.0
"""Time to end in order."""
CODE = 128 + signal.SIGINT


class Interruption:
    """Notes a Ctrl-C: what fails after it is no news."""

    def __init__(self, console: Console) -> None:
        self.came = False
        self._told = False
        self._console = console

    def watch(self) -> None:
        """Take the signal."""
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, signum: int, frame: FrameType | None) -> NoReturn:
        self.came = True
        last = threading.Timer(GRACE_S, self._give_up)
        last.daemon = True
        last.start()
        raise KeyboardInterrupt

    def end(self) -> NoReturn:
        """End the command in order."""
        self._tell()
        sys.exit(CODE)

    def _give_up(self) -> NoReturn:
        self._tell()
        os._exit(CODE)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._console.print(
                "[bold red]sgcldff:[/bold red] stopped; the same command goes on after what was finished"
            )
