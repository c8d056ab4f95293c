"""Full disks: real ones of the system and of SQLite, and whatever fails in consequence."""

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy

from sgcldff import room
from sgcldff.errors import NoRoomError
from sgcldff.room import no_room, ran_out, require_room


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
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: SimpleNamespace(free=31_900_000))
    with pytest.raises(NoRoomError, match=rf"{tmp_path}: 31\.9 MB are free .* needs 32 .*larger disk"):
        require_room(tmp_path)


def test_the_fullest_disk_is_named(monkeypatch):
    disks = {"/etc": (90, "rw,noatime"), "/usr": (98, "rw"), "/proc": (0, "rw"), "/var": (100, "ro")}
    parts = [SimpleNamespace(mountpoint=name, opts=opts) for name, (_, opts) in disks.items()]
    monkeypatch.setattr(room.psutil, "disk_partitions", lambda all: parts)  # noqa: A006
    monkeypatch.setattr(
        room.psutil, "disk_usage", lambda name: SimpleNamespace(total=disks[name][0], percent=disks[name][0])
    )
    monkeypatch.setattr(room.os, "access", lambda disk, mode: True)
    assert "the fullest here is /usr, 98.0% used" in str(no_room())
