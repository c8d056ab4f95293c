"""The folders that are written to: workspace, cache of slides, and what killed runs left in them."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from sgcldff.core.disks import nearest_existing
from sgcldff.doctor.check import Check, failed, ok, warning
from sgcldff.slides.remote.cache import cache_bytes, cache_folder

GB = 1e9
LITTLE_GB, NONE_GB = 10.0, 1.0
"""Free space below which a batch may end early, and below which none should begin."""
SHARED = ("nfs", "nfs4", "cifs", "smbfs", "smb3", "9p", "fuse.sshfs", "lustre", "beegfs", "gpfs", "ceph")
"""File systems of several machines, on which SQLite's locks hold only as well as the server's."""
UNFINISHED = ("*.partial", ".*.partial", ".*.part", ".drafts/*")
OLD_S = 24 * 3600.0
"""Age from which something unfinished is taken for left behind."""


def workspace(folder: Path) -> Check:
    """Write, rename and lock a file as a run does."""
    place = nearest_existing(folder)
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".sgcldff-check-") as made:
            _rename(Path(made))
            held = _locks_hold(Path(made) / "lock")
    except OSError as error:
        remedy = "allow this user to write there, make room, or name another folder with --workspace"
        return failed("workspace", f"{place}: cannot be written to ({error.strerror or error})", remedy)
    kind = file_system(place)
    if not held:
        remedy = "use a file system with locks: two promotions at once would not see each other"
        return failed("workspace", f"{place}: locks of files do not hold on {kind}", remedy)
    if kind in SHARED:
        remedy = "run an MLflow server (MLFLOW_TRACKING_URI) if several machines use this workspace"
        return warning("workspace", f"{place}: on {kind}, shared by machines; renames and locks work", remedy)
    return ok("workspace", f"{place}: can be written to, renames and locks work ({kind})")


def _rename(folder: Path) -> None:
    draft, target = folder / "draft", folder / "target"
    target.write_bytes(b"old")
    draft.write_bytes(b"new" * 100_000)
    draft.replace(target)
    if target.read_bytes()[:3] != b"new":
        raise OSError("a rename does not replace")


def _locks_hold(path: Path) -> bool:
    with path.open("w") as first, path.open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def file_system(place: Path) -> str:
    """Name the kind of file system on which a folder lies."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next(
        (mounts[parent] for parent in (place.resolve(), *place.resolve().parents) if parent in mounts), "unknown"
    )


def disk(folder: Path) -> Check:
    """Compare free space with what a batch may need."""
    place = nearest_existing(folder)
    free = shutil.disk_usage(place).free / GB
    told = f"{place}: {free:,.1f} GB free"
    if free < NONE_GB:
        return failed("disk", told, "make room before anything is run")
    if free < LITTLE_GB:
        return warning("disk", told, "make room: results of a whole slide take up to some GB")
    return ok("disk", told)


def cache() -> Check:
    """Compare the largest size of the copies of slides behind URLs with the space that there is for them."""
    place, most = nearest_existing(cache_folder()), cache_bytes() / GB
    free = shutil.disk_usage(place).free / GB
    told = f"{cache_folder()}: may grow to {most:,.0f} GB, {free:,.1f} GB are free"
    if most > free:
        return warning("slide cache", told, "lower SGCLDFF_CACHE_GB or set SGCLDFF_CACHE, if slides are read from URLs")
    return ok("slide cache", told)


def leftovers(folder: Path) -> Check:
    """Look for what killed runs left half written."""
    found = list(unfinished(nearest_existing(folder))) if folder.expanduser().exists() else []
    if found:
        named = ", ".join(str(path) for path in found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        remedy = "remove them if no run is under way: they are older than a day, and no run needs them"
        return warning("leftovers", f"{len(found)} unfinished: {named}", remedy)
    return ok("leftovers", "nothing unfinished is older than a day")


def unfinished(folder: Path) -> Iterator[Path]:
    """Yield drafts of files and folders that are older than a day."""
    then = time.time() - OLD_S
    for pattern in UNFINISHED:
        yield from (path for path in folder.rglob(pattern) if path.lstat().st_mtime < then)


def doors(folder: Path) -> Check:
    """See that no other user may replace models and checkpoints."""
    place = nearest_existing(folder)
    if place.stat().st_mode & 0o002 and not place.stat().st_mode & 0o1000:
        return warning("permissions", f"{place}: anybody on this machine may write there", f"chmod o-w {place}")
    return ok("permissions", f"{place}: others may not write there")
