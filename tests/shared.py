"""What is made once in a run of tests: by the process that needs it first, for all of them."""

import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import wraps
from inspect import unwrap
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

FOLDER = "SGCLDFF_TESTS"
"""Variable that names the folder of the run."""

RACE = """
context = multiprocessing.get_context("fork")
barrier, ends = context.Barrier(2), context.Queue()
rivals = [context.Process(target=promote, args=(sys.argv[1], number, barrier, ends)) for number in "23"]
for rival in rivals:
    rival.start()
for _ in rivals:
    print(*ends.get(timeout=240))
for rival in rivals:
    rival.join()
"""
"""The end of a program in which two processes call `promote(address, version, barrier, ends)` at the same time."""

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


def mlflow_database() -> Path:
    """Give an empty SQLite database with MLflow's tables, to be copied."""
    import mlflow.store.db.utils as mlflow
    from sqlalchemy import create_engine

    def make(folder: Path) -> Path:
        engine = create_engine(f"sqlite:///{folder}/mlflow.db")
        unwrap(mlflow._initialize_tables)(engine)
        engine.dispose()
        return folder / "mlflow.db"

    return once("tables", make)


@contextmanager
def mlflow_tables() -> Iterator[None]:
    """Have MLflow copy the tables of one empty SQLite database: to migrate each new one to them is 1.5 s of work."""
    import mlflow.store.db.utils as mlflow
    from sqlalchemy import Engine

    migrate = mlflow._initialize_tables

    @wraps(migrate)
    def copy(engine: Engine) -> None:
        if engine.dialect.name == "sqlite":
            with closing(sqlite3.connect(mlflow_database())) as made, engine.connect() as connection:
                made.backup(connection.connection.driver_connection)
        else:
            migrate(engine)

    mlflow._initialize_tables = copy
    yield
    mlflow._initialize_tables = migrate


def prefect_database() -> Path:
    """Give an empty SQLite database with Prefect's tables, to be copied: migrations are 4 s of each server's start."""

    def make(folder: Path) -> Path:
        command = [Path(sys.executable).with_name("prefect"), "server", "database", "upgrade", "--yes"]
        given = os.environ | {"PREFECT_HOME": str(folder)}
        subprocess.run(command, env=given, check=True, capture_output=True)
        return folder / "prefect.db"

    return once("prefect-tables", make)


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
