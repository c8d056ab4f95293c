"""The `sgcldff` command as a person starts it, in a process of its own."""

import os
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("sgcldff")


def outside(**environment: str) -> dict[str, str]:
    """Give the environment of a terminal that knows nothing of these tests."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))
    } | environment
