"""Folders of training images in stores, mirrored to this machine: what has changed there is copied, the rest is kept.

A mirror lies in `FOLDER/<digest of the URL>/`: `files/<name of the folder>/` as in the store, and `copied.jsonl`, a
line a file that is in its place, with its size and what the store says of its version. A killed run goes on after the
last line; a file that changed, or is not as long as it should be, is copied anew; one that is gone goes here, too.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.locations import is_remote, shown
from sgcldff.core.settings import digest
from sgcldff.data.adapters import Source
from sgcldff.slides.ids import safe_name
from sgcldff.slides.remote.cache import Part, get_parts, parts_below, slide_file
from sgcldff.slides.remote.stores import HTTP, Filesystem, ask, filesystem, protocol_of, store_errors

FILES_AT_ONCE = 64
JOURNAL = "copied.jsonl"


@dataclass(frozen=True)
class Mirror:
    """A mirror's places."""

    uri: str
    place: Path

    @property
    def files(self) -> Path:
        """Holds the folder."""
        return self.place / "files"

    @property
    def folder(self) -> Path:
        """The folder, under its own name: adapters may name images after it."""
        return self.files / safe_name(slide_file(self.uri))

    @property
    def journal(self) -> Path:
        """Says which files are in their places."""
        return self.place / JOURNAL


def landed(source: Source, folder: str | Path) -> Source:
    """Return a source whose folder is on this machine: its mirror below `folder`, brought up to date, if it is a URL.

    Raises
    ------
    MissingInputError
        If the store has no such folder, or it is empty.
    InputError
        If the protocol is not known, its server lists no folders, or access is refused.
    ServiceError
        If the store does not answer.
    """
    if not is_remote(source.folder):
        return source
    mirror = Mirror(source.folder, Path(folder).absolute() / digest((source.folder,)))
    mirror.place.mkdir(parents=True, exist_ok=True)
    with _alone(mirror.place / ".lock"):
        _update(mirror)
    return replace(source, folder=str(mirror.folder))


def _update(mirror: Mirror) -> None:
    """Copy what is missing or changed, batch by batch, and remove what is gone."""
    store, parts = _listed(mirror.uri)
    kept = {name: version for name, version in _journal(mirror).items() if _is_whole(mirror, name, version)}
    there = [part for part in parts if kept.get(part.name) == _version(part)]
    missing = [part for part in parts if kept.get(part.name) != _version(part)]
    _tidy(mirror, there)
    with mirror.journal.open("a") as journal:
        for at in range(0, len(missing), FILES_AT_ONCE):
            batch = missing[at : at + FILES_AT_ONCE]
            _copy(store, mirror, batch)
            journal.writelines(_line(part) for part in batch)
            journal.flush()


def _listed(uri: str) -> tuple[Filesystem, tuple[Part, ...]]:
    """Ask the store for the files of a folder."""
    if protocol_of(uri) in HTTP:
        raise InputError(f"{shown(uri)}: web servers do not list folders; give s3://bucket/prefix or a local folder")
    store, path = filesystem(uri)
    with store_errors(uri):
        if ask(store, "info", path)["type"] != "directory":
            raise InputError(f"{shown(uri)}: is a file; name the folder that holds the images")
        parts = parts_below(store, path, safe_name(slide_file(uri)), uri)
    if not parts:
        raise MissingInputError(f"{shown(uri)}: holds no files; look at the name and at the bucket")
    return store, parts


def _copy(store: Filesystem, mirror: Mirror, parts: Sequence[Part]) -> None:
    """Copy files beside their places, and put them there when they have come whole."""
    targets = [mirror.files / part.name for part in parts]
    drafts = [target.with_name(f".{target.name}.partial") for target in targets]
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
    with store_errors(mirror.uri):
        get_parts(store, mirror.uri, parts, drafts)
    for unfinished, target in zip(drafts, targets, strict=True):
        unfinished.replace(target)


def _version(part: Part) -> list[object]:
    return [part.size, part.version]


def _line(part: Part) -> str:
    return json.dumps([part.name, *_version(part)]) + "\n"


def _journal(mirror: Mirror) -> Mapping[str, list[object]]:
    """Read which files were put into their places, the latest version of each; a torn line is passed over."""
    if not mirror.journal.exists():
        return {}
    lines = [line for line in mirror.journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return {name: version for name, *version in map(json.loads, lines)}


def _is_whole(mirror: Mirror, name: str, version: Sequence[object]) -> bool:
    path = mirror.files / name
    return path.is_file() and version[0] in (None, path.stat().st_size)


def _tidy(mirror: Mirror, parts: Sequence[Part]) -> None:
    """Remove all but the files that are as in the store, and write the journal anew, a line a file."""
    wanted = {mirror.files / part.name for part in parts}
    for path in mirror.files.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
    with atomic_write(mirror.journal) as partial:
        partial.write_text("".join(_line(part) for part in parts))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock; the kernel frees it when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
