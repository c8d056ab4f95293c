"""Local copies of remote slides, made once per machine.

A slide is copied completely before it is read: scanner formats are read by a C library that needs a file, and a batch
reads most of a slide anyway. (Tiles of a TIFF could be read individually, but a copy does not depend on hours of stable
network.)

The copies are in `SGCLDFF_CACHE`, by default in the user's cache folder, in one folder each, named by a hash of the URL
and of the object's properties (ETag, size, time), so that a changed object is copied again. A copy appears only when
complete, after its size has been compared and the store has confirmed that the object is unchanged; copies of killed
processes are started again. Processes on one machine wait for each other. When all copies together exceed
`SGCLDFF_CACHE_GB` (200), the least recently used are removed, except those that a live process has open; if all are
open, the limit is exceeded. Some web servers report neither size nor time nor ETag, so that changes go unnoticed: empty
the cache in that case.
"""

import errno
import fcntl
import logging
import math
import os
import shutil
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sgcldff.core.errors import InputError, MissingInputError, SlideError, StoreError
from sgcldff.core.json_file import read_json, write_json
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
    is_transient,
    protocol_of,
)
from sgcldff.slides.remote.stores import store_errors as errors_of

TRIES = 4
"""Attempts to copy before giving up on an unstable connection."""
RETRY_PAUSE_S = 0.5
"""Pause before the second attempt, s; doubled every time."""
CACHE_GB = 200.0
METADATA_FILE = "about.json"
"""File that describes a copy."""
LOCKS, DRAFTS = ".locks", ".drafts"
VERSION_KEYS = (
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
"""Properties that identify an object's version; case and underscores are ignored."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a slide in its current state in the store."""

    path: str
    """Path in the store."""
    name: str
    """Path below the folder of the copy; safe."""
    size: int | None
    """Bytes, if the store reports it."""
    version: str


@dataclass(frozen=True)
class RemoteSlide:
    """A slide in its current state in the store."""

    uri: str
    path: str
    """Path in the store."""
    name: str
    """Name of the slide's file or folder in the copy."""
    files: tuple[RemoteFile, ...]

    @property
    def key(self) -> str:
        """Name of the copy, which changes with the URL and the content."""
        return digest((self.uri, [(file.name, file.size, file.version) for file in self.files]))

    @property
    def size(self) -> int:
        """Bytes, as far as the store reports them."""
        return sum(file.size or 0 for file in self.files)


class LocalCopy:
    """A slide on this machine's disk, whose copy is kept while it is open."""

    def __init__(self, path: Path, sha256: str | None = None, lock: int | None = None) -> None:
        self.path = path
        self.sha256 = sha256
        """Hash of the content, if known without reading the slide."""
        self._release = None if lock is None else weakref.finalize(self, os.close, lock)

    def close(self) -> None:
        """Allow the copy to be removed."""
        if self._release is not None:
            self._release()


def cache_folder() -> Path:
    """Return the folder of the copies: `SGCLDFF_CACHE`, or a folder in the user's cache."""
    return Path(os.environ.get("SGCLDFF_CACHE") or user_cache() / "slides")


def cache_bytes() -> float:
    """Return the size limit of all copies together (`SGCLDFF_CACHE_GB`).

    Raises
    ------
    InputError
        If it is not a positive number.
    """
    text = os.environ.get("SGCLDFF_CACHE_GB") or str(CACHE_GB)
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    require(0 < size < math.inf, f"SGCLDFF_CACHE_GB is {text!r}: give the size of the cache in GB, more than 0")
    return size * 1e9


def local_copy(location: str | Path, cache: str | Path | None = None) -> LocalCopy:
    """Return a slide as a file or folder of this machine; a remote slide is copied unless that has been done.

    Parameters
    ----------
    location
        A path, or a URL that fsspec supports. OME-Zarr folders are copied with all their files, .mrxs files with their
        folder; of DICOM only the named file. Folders are not available over HTTP.
    cache
        Folder of the copies; by default `cache_folder()`.

    Raises
    ------
    MissingInputError
        If there is no such object.
    InputError
        If the protocol is unknown, access is refused, or the disk is full.
    SlideError
        If it is a folder without Zarr metadata, or one with a name that leads out of it.
    ServiceError
        If the store does not answer within 25 s, or the connection keeps failing.
    """
    if not is_remote(str(location)):
        return LocalCopy(local_path(str(location)))
    uri = str(location)
    store, path = filesystem(uri)
    folder = Path(cache or cache_folder())
    try:
        for needed in (folder, folder / LOCKS, folder / DRAFTS):
            needed.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: no slides can be stored there ({error.strerror}); set SGCLDFF_CACHE") from error
    folder = folder.absolute()
    for _ in range(TRIES):
        with errors_of(uri):
            remote = _inspect(store, path, uri)
        copy = _locked_copy(store, remote, folder)
        if copy is not None:
            return copy
    raise SlideError(f"{shown(uri)}: changes while it is copied; wait until its upload is done, then run again")


def _inspect(store: Filesystem, path: str, uri: str) -> RemoteSlide:
    """Ask the store for the current files of a slide."""
    name = safe_name(slide_file(uri))
    properties = ask(store, "info", path)
    if properties["type"] == "directory":
        files = files_below(store, path, name, uri)
        if not is_zarr([file.name.removeprefix(f"{name}/") for file in files]):
            raise SlideError(f"{shown(uri)}: is a folder without Zarr metadata; name a slide or an OME-Zarr folder")
        return RemoteSlide(uri, path, name, files)
    files = (_remote_file(path, name, properties),)
    if name.lower().endswith(".mrxs"):
        files += files_below(store, path[: -len(".mrxs")], name[: -len(".mrxs")], uri)
    return RemoteSlide(uri, path, name, files)


def slide_file(uri: str) -> str:
    """Return the name of the file or folder at a URL."""
    path = unquote(urlsplit(uri).path) if protocol_of(uri) in HTTP else uri
    return path.rstrip("/").rpartition("/")[2]


def files_below(store: Filesystem, folder: str, name: str, uri: str) -> tuple[RemoteFile, ...]:
    """List the files of a folder, for a copy below `name`; names that lead out of it are refused."""
    listed: dict[str, Info] = ask(store, "find", folder, LISTING_S)
    root = f"{folder.rstrip('/')}/"
    inside = {path: path.removeprefix(root) for path in sorted(listed) if not path.endswith("/")}
    escaping = [path for path, below in inside.items() if not _stays_inside(below)]
    if escaping:
        raise SlideError(f"{shown(uri)}: contains {escaping[0]!r}, which leads out of its folder; do not use it")
    return tuple(_remote_file(path, f"{name}/{below}", listed[path]) for path, below in inside.items())


def _stays_inside(name: str) -> bool:
    pieces = name.split("/")
    return all(piece not in ("", ".", "..") and "\\" not in piece and piece.isprintable() for piece in pieces)


def _remote_file(path: str, name: str, properties: Info) -> RemoteFile:
    texts = {key.lower().replace("_", "-"): str(value) for key, value in properties.items() if value is not None}
    version = digest({key: texts[key] for key in VERSION_KEYS if key in texts})
    return RemoteFile(path, name, properties.get("size"), version)


def _locked_copy(store: Filesystem, remote: RemoteSlide, folder: Path) -> LocalCopy | None:
    """Return the copy, made if necessary, and locked against removal; None if the slide changed meanwhile."""
    copy = folder / remote.key
    with ExitStack() as undo:
        lock = _open_lock(folder, remote.key)
        undo.callback(os.close, lock)
        while (record := _locked_record(copy, lock)) is None:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _record(copy) is None:
                shutil.rmtree(copy, ignore_errors=True)
                if not _download(store, remote, folder):
                    return None
        undo.pop_all()
    os.utime(copy)
    return LocalCopy(copy / remote.name, record["sha256"], lock)


def _open_lock(folder: Path, key: str) -> int:
    return os.open(folder / LOCKS / key, os.O_RDWR | os.O_CREAT, 0o600)


def _locked_record(copy: Path, lock: int) -> Mapping[str, Any] | None:
    """Take a shared lock of a copy, which prevents its removal, and return its record."""
    fcntl.flock(lock, fcntl.LOCK_SH)
    return _record(copy)


def _record(copy: Path) -> Mapping[str, Any] | None:
    """Return the size and digest of a complete copy; None if there is none, or if it was damaged."""
    with suppress(FileNotFoundError, MissingInputError, StoreError):
        record = read_json(copy / METADATA_FILE, "remove it")
        if record["bytes"] == _size(copy):
            return record
    return None


def _size(copy: Path) -> int:
    files = (file for file in copy.rglob("*") if file.is_file() and file.name != METADATA_FILE)
    return sum(file.stat().st_size for file in files)


def _download(store: Filesystem, remote: RemoteSlide, folder: Path) -> bool:
    """Copy a slide while holding its exclusive lock; return False if it changed meanwhile."""
    evict(folder, cache_bytes() - remote.size)
    draft = folder / DRAFTS / remote.key
    shutil.rmtree(draft, ignore_errors=True)
    try:
        targets = [draft / file.name for file in remote.files]
        with errors_of(remote.uri):
            for parent in {target.parent for target in targets}:
                parent.mkdir(parents=True, exist_ok=True)
            download_files(store, remote.uri, remote.files, targets)
            if _inspect(store, remote.path, remote.uri) != remote:
                return False
        sha256 = content_sha256(draft / remote.name)
        write_json(draft / METADATA_FILE, {"uri": shown(remote.uri), "bytes": _size(draft), "sha256": sha256})
        draft.rename(folder / remote.key)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def download_files(store: Filesystem, uri: str, files: Sequence[RemoteFile], targets: Sequence[Path]) -> None:
    """Copy files; start again a few times if the connection breaks or bytes are missing."""
    for left in reversed(range(TRIES)):
        try:
            store.get([file.path for file in files], [str(target) for target in targets])
            for file, target in zip(files, targets, strict=True):
                size = target.stat().st_size
                if file.size not in (None, size):
                    raise OSError(errno.EIO, f"{size} of {file.size} bytes received")
            return
        except FAILURES as error:
            if left == 0 or not is_transient(error):
                raise
            logger.warning("%s: copying was interrupted; %d more attempts", slide_file(uri), left)
        time.sleep(RETRY_PAUSE_S * 2 ** (TRIES - 1 - left))


def evict(folder: Path, limit: float) -> None:
    """Remove the least recently used copies, except open ones, until the others have at most `limit` bytes.

    Incomplete copies of killed processes are removed, too.
    """
    for leftover in (folder / DRAFTS).iterdir():
        _remove(folder, leftover)
    copies = sorted((file.parent for file in folder.glob(f"*/{METADATA_FILE}")), key=lambda copy: copy.stat().st_mtime)
    sizes = {copy: record["bytes"] if (record := _record(copy)) else 0 for copy in copies}
    total = sum(sizes.values())
    for copy in copies:
        if total <= limit:
            return
        if _remove(folder, copy):
            total -= sizes[copy]
    if total > max(limit, 0):
        logger.warning("%s: the open slides need more than SGCLDFF_CACHE_GB", folder)


def _remove(folder: Path, copy: Path) -> bool:
    """Remove a copy unless a live process holds its lock; return whether it was removed."""
    lock = _open_lock(folder, copy.name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        discarded = folder / DRAFTS / copy.name
        if copy != discarded and copy.exists():
            copy.rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
