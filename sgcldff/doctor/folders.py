"""Checks of the folders that are written to: the workspace, the slide cache, and leftovers of killed runs."""

import fcntl
import shutil
import tempfile
import time
from pathlib import Path

import psutil

from sgcldff.core.disks import nearest_existing
from sgcldff.core.wording import first_few
from sgcldff.doctor.check import Check, failed, ok, warning
from sgcldff.slides.remote.cache import cache_bytes, cache_folder

GB = 1e9
LOW_GB, MIN_GB = 10.0, 1.0
"""Free space below which a batch may fail, and below which none should be started."""
SHARED = ("nfs", "nfs4", "cifs", "smbfs", "smb3", "9p", "fuse.sshfs", "lustre", "beegfs", "gpfs", "ceph")
"""Network file systems, on which SQLite's locks are only as reliable as the server's."""
UNFINISHED = ("*.partial", ".*.partial", ".*.part", ".drafts/*")
OLD_S = 24 * 3600.0
"""Age from which an unfinished file counts as a leftover."""


def workspace(folder: Path) -> Check:
    """Write, rename and lock a file as a run does."""
    parent = nearest_existing(folder)
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".sgcldff-check-") as temporary:
            draft, target = Path(temporary) / "draft", Path(temporary) / "target"
            target.write_bytes(b"old")
            draft.write_bytes(b"new" * 100_000)
            draft.replace(target)
            if target.read_bytes()[:3] != b"new":
                raise OSError("a rename does not replace the target")
            locks_work = _locks_work(Path(temporary) / "lock")
    except OSError as error:
        remedy = "give this user write access, make room, or name another folder with --workspace"
        return failed("workspace", f"{parent}: not writable ({error.strerror or error})", remedy)
    kind = file_system(parent)
    if not locks_work:
        remedy = "use a file system with locks: simultaneous promotions would not notice each other"
        return failed("workspace", f"{parent}: file locks do not work on {kind}", remedy)
    if kind in SHARED:
        remedy = "run an MLflow server (MLFLOW_TRACKING_URI) if several machines use this workspace"
        return warning("workspace", f"{parent}: on {kind}, shared between machines; renames and locks work", remedy)
    return ok("workspace", f"{parent}: writable, renames and locks work ({kind})")


def _locks_work(path: Path) -> bool:
    with path.open("w") as first, path.open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def file_system(folder: Path) -> str:
    """Return the type of a folder's file system."""
    types = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    resolved = folder.resolve()
    return next((types[parent] for parent in (resolved, *resolved.parents) if parent in types), "unknown")


def disk(folder: Path) -> Check:
    """Compare free space with the needs of a batch."""
    parent = nearest_existing(folder)
    free = shutil.disk_usage(parent).free / GB
    found = f"{parent}: {free:,.1f} GB free"
    if free < MIN_GB:
        return failed("disk", found, "make room before running anything")
    if free < LOW_GB:
        return warning("disk", found, "make room: the results of a whole slide can take several GB")
    return ok("disk", found)


def cache() -> Check:
    """Compare the size limit of the cache for remote slides with the free space."""
    limit, free = cache_bytes() / GB, shutil.disk_usage(nearest_existing(cache_folder())).free / GB
    found = f"{cache_folder()}: may grow to {limit:,.0f} GB, {free:,.1f} GB are free"
    if limit > free:
        remedy = "lower SGCLDFF_CACHE_GB or set SGCLDFF_CACHE, if slides are read from URLs"
        return warning("slide cache", found, remedy)
    return ok("slide cache", found)


def leftovers(folder: Path) -> Check:
    """Find unfinished files of killed runs that are older than a day."""
    root, oldest = folder.expanduser(), time.time() - OLD_S
    paths = [path for pattern in UNFINISHED for path in root.rglob(pattern) if path.lstat().st_mtime < oldest]
    if paths:
        remedy = "delete them if no run is in progress: they are older than a day, and no run needs them"
        return warning("leftovers", f"{len(paths)} unfinished: {first_few(paths)}", remedy)
    return ok("leftovers", "nothing unfinished is older than a day")


def permissions(folder: Path) -> Check:
    """Check that other users cannot replace models and checkpoints."""
    parent = nearest_existing(folder)
    if parent.stat().st_mode & 0o002 and not parent.stat().st_mode & 0o1000:
        return warning("permissions", f"{parent}: writable for all users of this machine", f"chmod o-w {parent}")
    return ok("permissions", f"{parent}: not writable for other users")
