"""Ctrl-C and SIGTERM end a command in one line, even where a library has taken the handlers over and waits."""

import signal
import subprocess
import sys

import pytest

from tests.terminal import outside

WAITING = """
import signal, sys, time
from rich.console import Console
from flows import interruption

interruption.SHUTDOWN_S = 0.2
interruption.Interruption(Console(stderr=True)).watch()
if sys.argv[1] == "taken over":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
waits = 0
while True:
    try:
        waits = waits or print("ready", flush=True) or 1
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("handlers", ["our own", "taken over"])
def test_a_signal_ends_what_goes_on_waiting(number, handlers):
    command = [sys.executable, "-c", WAITING, handlers]
    running = subprocess.Popen(command, env=outside(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(number)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert told.splitlines() == ["sgcldff: stopped; run the same command again to resume"]
