"""Ctrl-C and SIGTERM end a command with one line, within seconds.

Prefect and Lightning put handlers of their own in place of this one while they work, and what they then wait for may
never come. So the signals are also read from a pipe, which Python writes to whatever the handlers are.
"""

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from rich.console import Console

SHUTDOWN_S = 8.0
"""Time for an orderly shutdown."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def exit_within_seconds(code: int) -> NoReturn:
    """Exit in the normal way, unless that takes long: threads may still wait for a service that is gone."""
    timer = threading.Timer(SHUTDOWN_S, os._exit, [code])
    timer.daemon = True
    timer.start()
    sys.exit(code)


class Interruption:
    """Remembers a signal, so that errors that follow from it are not reported."""

    def __init__(self, console: Console) -> None:
        self.received = 0
        """The signal; 0 if there was none."""
        self._reported = False
        self._console = console
        self._reader, self._writer = os.pipe()

    def watch(self) -> None:
        """Install the signal handlers."""
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer)
        for number in SIGNALS:
            signal.signal(number, self._handle)
        threading.Thread(target=self._force_exit, daemon=True).start()

    def _handle(self, signum: int, frame: FrameType | None) -> NoReturn:
        self.received = self.received or signum
        raise KeyboardInterrupt

    def _force_exit(self) -> None:
        for number in iter(lambda: os.read(self._reader, 1), b""):
            if number[0] in SIGNALS:
                self.received = number[0]
                break
        else:
            return
        time.sleep(SHUTDOWN_S)
        self._report()
        os._exit(128 + self.received)

    def end(self) -> None:
        """Exit in the normal way if there was a signal; stop watching otherwise."""
        if self.received:
            self._report()
            sys.exit(128 + self.received)
        signal.set_wakeup_fd(-1)
        os.close(self._writer)

    def _report(self) -> None:
        if not self._reported:
            self._reported = True
            self._console.print("[bold red]sgcldff:[/bold red] stopped; run the same command again to resume")
