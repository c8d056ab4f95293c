"""The `sgcldff` command as a person starts it, in a process of its own."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from tests.small import SMALL_TOML

COMMAND = Path(sys.executable).with_name("sgcldff")
QUICK = SMALL_TOML + "[train]\nepochs = 1\nbatch_size = 8\n[evaluate]\nresamples = 100\n"
"""Settings for one epoch."""


def outside(**environment: str) -> dict[str, str]:
    """Give the environment of a terminal that knows nothing of these tests."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))
    } | environment


class Ran(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that tells what went wrong."""
        assert "Traceback" not in self.out + self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("sgcldff: ")]
        return line
