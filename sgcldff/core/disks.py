"""Disks: whether a folder is writable, whether there is space, and whether a failure means that a disk is full."""

import errno
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from sgcldff.core.errors import DiskFullError, InputError, SgcldffError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers for a full disk and for a user's exhausted quota."""
MB = 1e6
MIN_FREE_MB = 32.0
"""Free space that a command needs to start: even recording how it ended takes some."""


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest ancestor that exists."""
    folder = folder.expanduser().absolute()
    return next(parent for parent in (folder, *folder.parents) if os.access(parent, os.F_OK))


def require_writable(folder: Path) -> None:
    """Raise `InputError` if `folder` is a file, cannot be created, or is read-only; nothing is written."""
    place = nearest_existing(folder)
    if not place.is_dir():
        raise InputError(f"{folder}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: this user cannot write to {place}; grant access, or name another folder")


def accepts_files(folder: Path) -> bool:
    """Check by writing whether `folder`, or its nearest ancestor that exists, takes files."""
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(folder)):
            return True
    except OSError:
        return False


def private_folder(name: str) -> Path:
    """Return a temporary folder that only this user can enter: always the same, unless someone else took its name."""
    folder = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return folder if ours else Path(tempfile.mkdtemp(prefix=f"{name}-"))


def private_file(path: Path) -> None:
    """Let only its owner read a file, which is created if it does not exist."""
    path.touch(0o600)
    if path.stat().st_uid == os.getuid():
        path.chmod(0o600)


def require_free_space(folder: Path) -> None:
    """Raise `DiskFullError` if less than `MIN_FREE_MB` is free on the disk of `folder`, which must exist."""
    if (free := shutil.disk_usage(folder).free / MB) < MIN_FREE_MB:
        raise DiskFullError(
            f"{folder}: its disk has {free:.1f} MB free, and a command needs {MIN_FREE_MB:.0f} MB to start; free some "
            "space, or name a folder on a larger disk"
        )


@contextmanager
def full_disk_reported() -> Iterator[None]:
    """Turn any failure that a full disk caused into one `DiskFullError`; our own errors pass unchanged."""
    try:
        yield
    except Exception as error:
        if isinstance(error, SgcldffError) or not is_disk_full(error):
            raise
        raise disk_full_error() from error


def disk_full_error() -> DiskFullError:
    """Return the error for a disk that filled up during a command; it names the fullest writable disk."""
    mounts = {Path(part.mountpoint) for part in psutil.disk_partitions(all=True) if "rw" in part.opts.split(",")}
    usages = {mount: psutil.disk_usage(str(mount)) for mount in mounts if os.access(mount, os.W_OK)}
    disk, usage = max(((disk, usage) for disk, usage in usages.items() if usage.total), key=lambda one: one[1].percent)
    return DiskFullError(
        f"a disk is full: the fullest here is {disk}, {usage.percent:.1f}% used, {usage.free / MB:,.1f} MB free; free "
        "some space and run the same command again: it continues from what was finished"
    )


def is_disk_full(error: BaseException) -> bool:
    """Return whether this error, or any that caused it, means that a disk is full."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            return True
        if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
