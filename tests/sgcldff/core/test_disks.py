"""Full disks as reported by the system and by SQLite, failures that follow from them, and read-only folders."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy

from sgcldff.core import disks
from sgcldff.core.disks import disk_full_error, is_disk_full, nearest_existing, require_free_space, require_writable
from sgcldff.core.errors import DiskFullError, InputError


def disk_error():
    """Fail at a device that is always full."""
    with pytest.raises(OSError, match="No space left") as caught:
        Path("/dev/full").write_text("x")
    return caught.value


def database_error(connect):
    """Fail at a database that may not grow."""
    connection = connect()
    connection.execute("CREATE TABLE filled (x)")
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(Exception, match="full") as caught:
        connection.execute("INSERT INTO filled VALUES (zeroblob(1000000))")
    return caught.value


class Wrapped:
    """A connection as SQLAlchemy gives it, whose errors wrap those of SQLite."""

    def __init__(self):
        self._connection = sqlalchemy.create_engine("sqlite://").connect()

    def execute(self, text):
        return self._connection.execute(sqlalchemy.text(text))


def fail_while_handling(error):
    """Raise another error while handling one."""
    try:
        raise error
    except type(error):
        raise ValueError("could not report")  # noqa: B904


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(disk_error, id="system"),
        pytest.param(lambda: database_error(lambda: sqlite3.connect(":memory:")), id="SQLite"),
        pytest.param(lambda: database_error(Wrapped), id="SQLAlchemy"),
    ],
)
def test_a_full_disk_is_recognised_as_the_cause_of_all_that_follows(error):
    full = error()
    assert is_disk_full(full)
    with pytest.raises(ValueError, match="could not report") as next_failure:
        fail_while_handling(full)
    assert is_disk_full(next_failure.value)


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), sqlite3.OperationalError("locked"), ValueError("full")])
def test_other_failures_do_not_count_as_a_full_disk(error):
    assert not is_disk_full(error)


def test_a_cycle_of_causes_terminates():
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert not is_disk_full(one)


def test_a_command_starts_only_if_there_is_free_space(tmp_path, monkeypatch):
    require_free_space(tmp_path)
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda folder: SimpleNamespace(free=31_900_000))
    with pytest.raises(DiskFullError, match=rf"{tmp_path}: its disk has 31\.9 MB free.* needs 32 .*larger disk"):
        require_free_space(tmp_path)


def test_a_folder_may_be_new_but_neither_a_file_nor_below_one(tmp_path):
    (tmp_path / "file").touch()
    require_writable(tmp_path / "new" / "folder")
    assert nearest_existing(tmp_path / "new" / "folder") == tmp_path
    assert not (tmp_path / "new").exists()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=rf"{folder}: {tmp_path}/file is a file; name a folder"):
            require_writable(folder)


def test_the_fullest_disk_is_named(monkeypatch):
    mounted = {"/etc": (90, "rw,noatime"), "/usr": (98, "rw"), "/proc": (0, "rw"), "/var": (100, "ro")}
    parts = [SimpleNamespace(mountpoint=name, opts=opts) for name, (_, opts) in mounted.items()]
    monkeypatch.setattr(disks.psutil, "disk_partitions", lambda all: parts)  # noqa: A006
    monkeypatch.setattr(
        disks.psutil,
        "disk_usage",
        lambda name: SimpleNamespace(total=mounted[name][0], percent=mounted[name][0], free=2e6),
    )
    monkeypatch.setattr(disks.os, "access", lambda disk, mode: True)
    assert "the fullest here is /usr, 98.0% used, 2.0 MB free" in str(disk_full_error())
