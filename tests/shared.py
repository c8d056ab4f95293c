"""What is made once in a run of tests: by the process that needs it first, for all of them."""

import os
import pickle
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

FOLDER = "SGCLDFF_TESTS"
"""Variable that names the folder of the run."""

Made = TypeVar("Made")


def once(name: str, make: Callable[[Path], Made]) -> Made:
    """Give what `make` returns for a folder of the run that is called `name` and still empty; it has to be pickled.

    Whoever asks while it is made waits. What lies in the folder is only read afterwards.
    """
    folder = Path(os.environ[FOLDER]) / name
    kept = folder.with_suffix(".pickle")
    with FileLock(folder.with_suffix(".lock")):
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            kept.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(kept.read_bytes())


def lives_as_long_as_the_run(process: int) -> None:
    """Have the session of a process ended with the run."""
    (Path(os.environ[FOLDER]) / f"{process}.process").touch()


def end() -> None:
    """End the processes of the run and remove its folder."""
    folder = Path(os.environ[FOLDER])
    for note in folder.glob("*.process"):
        with suppress(ProcessLookupError):
            os.killpg(int(note.stem), signal.SIGTERM)
    shutil.rmtree(folder, ignore_errors=True)
