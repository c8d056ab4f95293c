"""Disks: whether a folder can be written to, whether there is room, and where it ran out."""

import errno
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import psutil

from sgcldff.core.errors import InputError, NoRoomError, SgcldffError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system answers where a disk, or a user's share of it, is full."""
MB = 1e6
LEAST_MB = 32.0
"""Free space without which no command begins: even to record how it ended takes some."""


def existing(folder: Path) -> Path:
    """Give the folder, or the nearest above it that is there."""
    place = folder.expanduser().absolute()
    return next(parent for parent in (place, *place.parents) if os.access(parent, os.F_OK))


def require_writable(folder: Path) -> None:
    """Raise `InputError` if `folder` is a file, cannot be made, or nothing can be written to it. Nothing is."""
    place = existing(folder)
    if not place.is_dir():
        raise InputError(f"{folder}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: this user cannot write to {place}; allow it there, or name another folder")


def accepts_files(folder: Path) -> bool:
    """Try whether files can be written to `folder`, or, where it is not there yet, to the nearest above it."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)):
            return True
    except OSError:
        return False


def private_folder(name: str) -> Path:
    """Give a temporary folder that only this user can enter: the same each time, unless somebody else took its name."""
    folder = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if ours else Path(tempfile.mkdtemp(prefix=f"{name}-"))


def require_room(folder: Path) -> None:
    """Raise `NoRoomError` if less than `LEAST_MB` is free where `folder`, which is there, lies."""
    if (free := shutil.disk_usage(folder).free / MB) < LEAST_MB:
        raise NoRoomError(
            f"{folder}: {free:.1f} MB are free on its disk, and a command needs {LEAST_MB:.0f} to begin; make room, or "
            "name a folder on a larger disk"
        )


class FullDiskWatch(AbstractContextManager[None]):
    """Turns all that fails because a disk filled up into one `NoRoomError`; errors of ours that tell of it stay."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Raise it in place of what fails, if that came from a full disk."""
        if isinstance(error, Exception) and not isinstance(error, SgcldffError) and ran_out(error):
            raise no_room() from error


def no_room() -> NoRoomError:
    """Give the error for a disk that filled up under a command."""
    disk, usage = fullest()
    return NoRoomError(
        f"a disk is full: the fullest here is {disk}, {usage.percent:.1f}% used, {usage.free / MB:,.1f} MB free; make "
        "room and run the same command again: it goes on after what was finished"
    )


def fullest() -> tuple[Path, Any]:
    """Give the disk, of those that can be written to, that is used most, and what psutil tells of its use."""
    disks = {Path(part.mountpoint) for part in psutil.disk_partitions(all=True) if "rw" in part.opts.split(",")}
    usages = {disk: psutil.disk_usage(str(disk)) for disk in disks if os.access(disk, os.W_OK)}
    return max(((disk, usage) for disk, usage in usages.items() if usage.total), key=lambda one: one[1].percent)


def ran_out(error: BaseException) -> bool:
    """Tell whether this, or what it came from, is that a disk is full: what else fails then only follows from it."""
    return any(
        (isinstance(one, OSError) and one.errno in FULL)
        or (isinstance(one, sqlite3.Error) and getattr(one, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL)
        for one in _origins(error)
    )


def _origins(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
