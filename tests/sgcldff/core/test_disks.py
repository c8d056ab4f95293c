"""Disks that are full, as the system and SQLite tell it, and what fails in consequence; what cannot be written to."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy

from sgcldff.core import disks
from sgcldff.core.disks import existing, no_room, ran_out, require_room, require_writable
from sgcldff.core.errors import InputError, NoRoomError


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


def told(error):
    """Fail while telling of an error."""
    try:
        raise error
    except type(error):
        raise ValueError("could not tell")  # noqa: B904


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(disk_error, id="system"),
        pytest.param(lambda: database_error(lambda: sqlite3.connect(":memory:")), id="SQLite"),
        pytest.param(lambda: database_error(Wrapped), id="SQLAlchemy"),
    ],
)
def test_what_fails_on_a_full_disk_is_known_and_all_that_follows_from_it(error):
    full = error()
    assert ran_out(full)
    with pytest.raises(ValueError, match="could not tell") as next_failure:
        told(full)
    assert ran_out(next_failure.value)


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), sqlite3.OperationalError("locked"), ValueError("full")])
def test_other_failures_are_not_taken_for_it(error):
    assert not ran_out(error)


def test_errors_that_came_from_each_other_end():
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert not ran_out(one)


def test_a_command_begins_where_there_is_room_alone(tmp_path, monkeypatch):
    require_room(tmp_path)
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda folder: SimpleNamespace(free=31_900_000))
    with pytest.raises(NoRoomError, match=rf"{tmp_path}: 31\.9 MB are free .* needs 32 .*larger disk"):
        require_room(tmp_path)


def test_a_folder_may_be_new_but_no_file_and_not_below_one(tmp_path):
    (tmp_path / "file").touch()
    require_writable(tmp_path / "new" / "folder")
    assert existing(tmp_path / "new" / "folder") == tmp_path
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
    assert "the fullest here is /usr, 98.0% used, 2.0 MB free" in str(no_room())
