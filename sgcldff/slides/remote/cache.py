"""Local copies of slides in stores, made once a machine.

A slide is copied whole before it is read: scanners' formats are read by a C library that wants a file, and a batch
reads most of a slide anyway. (Tiles of a TIFF could be read from the store one by one; a copy does not depend on the
network holding for hours.)

The copies lie in `SGCLDFF_CACHE`, by default in the user's cache folder, one folder each, named by a hash of the URL
and of what the store says of the object (ETag, size, time), so that an object that changes is copied anew. A copy
appears whole or not at all, after its size was compared and the store asked whether the object is still the same; what
a killed process left is started again. Processes of one machine wait for each other. When all copies together exceed
`SGCLDFF_CACHE_GB` (200), those longest unused go, but none that a live process has open; if all are open, the bound is
exceeded. A store that tells neither size nor time nor ETag (some web servers) cannot say that an object changed: empty
the cache then.
"""

import errno
import fcntl
import json
import logging
import math
import os
import shutil
import time
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sgcldff.core.errors import InputError, SlideError
from sgcldff.core.locations import is_remote, local_path, shown, user_cache
from sgcldff.core.settings import digest, require
from sgcldff.slides.content import content_sha256, is_zarr
from sgcldff.slides.ids import safe_name
from sgcldff.slides.remote.stores import (
    FAILURES,
    HTTP,
    LISTING_S,
    Filesystem,
    Info,
    ask,
    filesystem,
    passes,
    protocol_of,
)
from sgcldff.slides.remote.stores import store_errors as errors_of

TRIES = 4
"""Copies that are begun before a connection that breaks again and again is given up."""
PAUSE_S = 0.5
"""Before the second try; doubled every time."""
CACHE_GB = 200.0
ABOUT = "about.json"
"""File of a copy that says what it holds."""
LOCKS, DRAFTS = ".locks", ".drafts"
VERSION = (
    "etag",
    "last-modified",
    "lastmodified",
    "mtime",
    "updated",
    "created",
    "md5hash",
    "content-md5",
    "versionid",
    "generation",
)
"""What stores tell of an object's version, without regard to capitals and underscores."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a slide as it is in the store."""

    path: str
    """In the store."""
    name: str
    """Below the copy's folder; safe."""
    size: int | None
    """Bytes, where the store tells."""
    version: str


@dataclass(frozen=True)
class Remote:
    """A slide as it is in the store now."""

    uri: str
    path: str
    """In the store."""
    name: str
    """Of the slide's file or folder in the copy."""
    parts: tuple[RemoteFile, ...]

    @property
    def key(self) -> str:
        """Name the copy: changes when the URL or the content does."""
        return digest((self.uri, [(part.name, part.size, part.version) for part in self.parts]))

    @property
    def size(self) -> int:
        """Bytes, as far as the store tells."""
        return sum(part.size or 0 for part in self.parts)


class LocalCopy:
    """A slide on this machine's disk; while it is open, its copy stays."""

    def __init__(self, path: Path, sha256: str | None = None, lock: int | None = None) -> None:
        self.path = path
        self.sha256 = sha256
        """Hash of the content, where it is known without reading the slide."""
        self._release = None if lock is None else weakref.finalize(self, os.close, lock)

    def close(self) -> None:
        """Allow the copy to be removed."""
        if self._release is not None:
            self._release()


def cache_folder() -> Path:
    """Return the folder of the copies: `SGCLDFF_CACHE`, or one in the user's cache folder."""
    return Path(os.environ.get("SGCLDFF_CACHE") or user_cache() / "slides")


def cache_bytes() -> float:
    """Return the size that the copies may have together (`SGCLDFF_CACHE_GB`).

    Raises
    ------
    InputError
        If it is no positive number.
    """
    text = os.environ.get("SGCLDFF_CACHE_GB") or str(CACHE_GB)
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    require(0 < size < math.inf, f"SGCLDFF_CACHE_GB is {text!r}: give the size of the cache in GB, more than 0")
    return size * 1e9


def local_copy(place: str | Path, cache: str | Path | None = None) -> LocalCopy:
    """Return a slide as a file or folder of this machine; one in a store is copied, if that was not yet done.

    Parameters
    ----------
    place
        A path (taken as it is) or a URL that fsspec knows. OME-Zarr folders are copied with all their files, .mrxs
        files with the folder beside them; of DICOM only the file that is named. Folders cannot be had over HTTP.
    cache
        Folder of the copies; by default `cache_folder()`.

    Raises
    ------
    MissingInputError
        If there is no such object.
    InputError
        If the protocol is not known, access is refused, or the disk is full.
    SlideError
        If it is a folder without Zarr metadata, or one with a name that leads out of it.
    ServiceError
        If the store does not answer within 25 s, or breaks off again and again.
    """
    if not is_remote(str(place)):
        return LocalCopy(local_path(str(place)))
    uri = str(place)
    store, path = filesystem(uri)
    folder = _made(Path(cache or cache_folder()))
    for _ in range(TRIES):
        with errors_of(uri):
            remote = _look(store, path, uri)
        copy = _held(store, remote, folder)
        if copy is not None:
            return copy
    raise SlideError(f"{shown(uri)}: changes while it is copied; wait until its upload is done, then run again")


def _made(folder: Path) -> Path:
    try:
        for place in (folder, folder / LOCKS, folder / DRAFTS):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: no slides can be kept there ({error.strerror}); set SGCLDFF_CACHE") from error
    return folder.absolute()


def _look(store: Filesystem, path: str, uri: str) -> Remote:
    """Ask the store what the slide is made of now."""
    name = safe_name(slide_file(uri))
    told = ask(store, "info", path)
    if told["type"] == "directory":
        parts = files_below(store, path, name, uri)
        if not is_zarr([part.name.removeprefix(f"{name}/") for part in parts]):
            raise SlideError(f"{shown(uri)}: is a folder without Zarr metadata; name a slide or an OME-Zarr folder")
        return Remote(uri, path, name, parts)
    parts = (_part(path, name, told),)
    if name.lower().endswith(".mrxs"):
        parts += files_below(store, path[: -len(".mrxs")], name[: -len(".mrxs")], uri)
    return Remote(uri, path, name, parts)


def slide_file(uri: str) -> str:
    """Name the file or folder that a URL means."""
    place = unquote(urlsplit(uri).path) if protocol_of(uri) in HTTP else uri
    return place.rstrip("/").rpartition("/")[2]


def files_below(store: Filesystem, folder: str, name: str, uri: str) -> tuple[RemoteFile, ...]:
    """List the files of a folder, to be kept below `name`; a name that leads out of it is refused."""
    found: dict[str, Info] = ask(store, "find", folder, LISTING_S)
    root = f"{folder.rstrip('/')}/"
    inside = {path: path.removeprefix(root) for path in sorted(found) if not path.endswith("/")}
    strange = [path for path, below in inside.items() if not _stays_inside(below)]
    if strange:
        raise SlideError(f"{shown(uri)}: holds {strange[0]!r}, which leads out of its folder; do not use it")
    return tuple(_part(path, f"{name}/{below}", found[path]) for path, below in inside.items())


def _stays_inside(name: str) -> bool:
    pieces = name.split("/")
    return all(piece not in ("", ".", "..") and "\\" not in piece and piece.isprintable() for piece in pieces)


def _part(path: str, name: str, told: Info) -> RemoteFile:
    plain = {key.lower().replace("_", "-"): str(value) for key, value in told.items() if value is not None}
    return RemoteFile(path, name, told.get("size"), digest({key: plain[key] for key in VERSION if key in plain}))


def _held(store: Filesystem, remote: Remote, folder: Path) -> LocalCopy | None:
    """Return the copy, made if need be, with a lock that keeps it; None if the slide changed meanwhile."""
    place = folder / remote.key
    with ExitStack() as undo:
        lock = _lock(folder, remote.key)
        undo.callback(os.close, lock)
        while not _is_kept(place, lock):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / ABOUT).exists() and not _copy(store, remote, folder):
                return None
        undo.pop_all()
    os.utime(place)
    return LocalCopy(place / remote.name, json.loads((place / ABOUT).read_text())["sha256"], lock)


def _lock(folder: Path, key: str) -> int:
    return os.open(folder / LOCKS / key, os.O_RDWR | os.O_CREAT, 0o600)


def _is_kept(place: Path, lock: int) -> bool:
    """Share the lock of a copy, which is then not removed, and tell whether there is one."""
    fcntl.flock(lock, fcntl.LOCK_SH)
    return (place / ABOUT).exists()


def _copy(store: Filesystem, remote: Remote, folder: Path) -> bool:
    """Copy a slide, whose lock is held alone; False if it changed meanwhile."""
    evict(folder, cache_bytes() - remote.size)
    unfinished = folder / DRAFTS / remote.key
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with errors_of(remote.uri):
            _get(store, remote, unfinished)
            if _look(store, remote.path, remote.uri) != remote:
                return False
        about = {"uri": shown(remote.uri), "bytes": _bytes_in(unfinished)}
        about["sha256"] = content_sha256(unfinished / remote.name)
        (unfinished / ABOUT).write_text(json.dumps(about))
        unfinished.rename(folder / remote.key)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return True


def _get(store: Filesystem, remote: Remote, unfinished: Path) -> None:
    """Copy all parts of a slide."""
    targets = [unfinished / part.name for part in remote.parts]
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
    download_files(store, remote.uri, remote.parts, targets)


def download_files(store: Filesystem, uri: str, parts: Sequence[RemoteFile], targets: Sequence[Path]) -> None:
    """Copy files; begin again where the connection broke or bytes are missing, a few times."""
    for left in reversed(range(TRIES)):
        try:
            store.get([part.path for part in parts], [str(target) for target in targets])
            _require_whole(parts, targets)
            return
        except FAILURES as error:
            if left == 0 or not passes(error):
                raise
            logger.warning("%s: its copy broke off; %d more tries", slide_file(uri), left)
        time.sleep(PAUSE_S * 2 ** (TRIES - 1 - left))


def _require_whole(parts: Sequence[RemoteFile], targets: Sequence[Path]) -> None:
    for part, target in zip(parts, targets, strict=True):
        size = target.stat().st_size
        if part.size not in (None, size):
            raise OSError(errno.EIO, f"{size} of {part.size} bytes came")


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def evict(folder: Path, limit: float) -> None:
    """Remove copies, those longest unused first, until the others have at most `limit` bytes; none that is open.

    What killed processes left unfinished goes, too.
    """
    for left in (folder / DRAFTS).iterdir():
        _remove(folder, left)
    places = sorted((about.parent for about in folder.glob(f"*/{ABOUT}")), key=lambda place: place.stat().st_mtime)
    sizes = {place: json.loads((place / ABOUT).read_text())["bytes"] for place in places}
    total = sum(sizes.values())
    for place in places:
        if total <= limit:
            return
        if _remove(folder, place):
            total -= sizes[place]
    if total > max(limit, 0):
        logger.warning("%s: the slides that are open need more than SGCLDFF_CACHE_GB", folder)


def _remove(folder: Path, place: Path) -> bool:
    """Remove a copy unless a live process holds its lock."""
    lock = _lock(folder, place.name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        rubbish = folder / DRAFTS / place.name
        if place != rubbish and place.exists():
            place.rename(rubbish)
        shutil.rmtree(rubbish, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
