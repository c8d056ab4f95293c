"""Disks: whether a folder can be written to, whether there is room, and where it ran out."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psutil

from sgcldff.errors import InputError, NoRoomError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system answers where a disk, or a user's share of it, is full."""
LEAST_MB = 32.0
"""Free space, 1e6 bytes, without which no command begins: even to record how it ended takes some."""


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


def require_room(folder: Path) -> None:
    """Raise `NoRoomError` if less than `LEAST_MB` is free where `folder`, which is there, lies."""
    if (free := free_mb(folder)) < LEAST_MB:
        raise NoRoomError(
            f"{folder}: {free:.1f} MB are free on its disk, and a command needs {LEAST_MB:.0f} to begin; make room, or "
            "name a folder on a larger disk"
        )


def free_mb(folder: Path) -> float:
    """Give the space, 1e6 bytes, that is free for us where `folder` lies."""
    return shutil.disk_usage(folder).free / 1e6


def no_room() -> NoRoomError:
    """Give the error for a disk that filled up under a command."""
    disk, used = fullest()
    return NoRoomError(
        f"a disk is full: the fullest here is {disk}, {used:.1f}% used, {free_mb(disk):,.1f} MB free; make room and "
        "run the same command again: it goes on after what was finished"
    )


def fullest() -> tuple[Path, float]:
    """Give the disk, of those that can be written to, that is used most, and how much of it, percent."""
    disks = {Path(part.mountpoint) for part in psutil.disk_partitions(all=True) if "rw" in part.opts.split(",")}
    used = {disk: psutil.disk_usage(str(disk)) for disk in disks if os.access(disk, os.W_OK)}
    disk = max((disk for disk in used if used[disk].total), key=lambda disk: used[disk].percent)
    return disk, used[disk].percent


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
