"""Local mirrors of remote folders of training images: only changed files are copied again.

A mirror is in `FOLDER/<digest of the URL>/`: `files/<name of the folder>/` as in the store, and `copied.jsonl`, with
one line per complete file: its name, size and version in the store. A killed run resumes after the last line; a file
that changed or has the wrong size is copied again, and one that was deleted in the store is deleted here, too.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.locations import is_remote, shown
from sgcldff.core.settings import digest
from sgcldff.data.adapters import Source
from sgcldff.slides.ids import safe_name
from sgcldff.slides.remote.cache import RemoteFile, download_files, files_below, slide_file
from sgcldff.slides.remote.stores import HTTP, Filesystem, ask, filesystem, protocol_of, store_errors

FILES_AT_ONCE = 64
JOURNAL = "copied.jsonl"


@dataclass(frozen=True)
class Mirror:
    """The paths of a mirror."""

    uri: str
    root: Path

    @property
    def files(self) -> Path:
        """Parent of the mirrored folder."""
        return self.root / "files"

    @property
    def folder(self) -> Path:
        """The mirrored folder, under its original name, after which adapters may name images."""
        return self.files / safe_name(slide_file(self.uri))

    @property
    def journal(self) -> Path:
        """List of the files that are complete."""
        return self.root / JOURNAL


def mirrored(source: Source, folder: str | Path) -> Source:
    """Return a source on this machine: for a URL, its mirror below `folder`, brought up to date.

    Raises
    ------
    MissingInputError
        If the store has no such folder, or it is empty.
    InputError
        If the protocol is unknown, its server does not list folders, or access is refused.
    ServiceError
        If the store does not answer.
    """
    if not is_remote(source.folder):
        return source
    mirror = Mirror(source.folder, Path(folder).absolute() / digest((source.folder,)))
    mirror.root.mkdir(parents=True, exist_ok=True)
    with FileLock(mirror.root / ".lock"):
        _update(mirror)
    return replace(source, folder=str(mirror.folder))


def _update(mirror: Mirror) -> None:
    """Copy missing and changed files, batch by batch, and remove deleted ones."""
    store, files = _list_files(mirror.uri)
    kept = {name: version for name, version in _journal(mirror).items() if _is_complete(mirror, name, version)}
    current = [file for file in files if kept.get(file.name) == _version(file)]
    missing = [file for file in files if kept.get(file.name) != _version(file)]
    _remove_others(mirror, current)
    with mirror.journal.open("a") as journal:
        for start in range(0, len(missing), FILES_AT_ONCE):
            batch = missing[start : start + FILES_AT_ONCE]
            with ExitStack() as drafts, store_errors(mirror.uri):
                partials = [drafts.enter_context(atomic_write(mirror.files / file.name)) for file in batch]
                download_files(store, mirror.uri, batch, partials)
            journal.writelines(_journal_line(file) for file in batch)
            journal.flush()


def _list_files(uri: str) -> tuple[Filesystem, tuple[RemoteFile, ...]]:
    if protocol_of(uri) in HTTP:
        raise InputError(f"{shown(uri)}: web servers do not list folders; give s3://bucket/prefix or a local folder")
    store, path = filesystem(uri)
    with store_errors(uri):
        if ask(store, "info", path)["type"] != "directory":
            raise InputError(f"{shown(uri)}: is a file; name the folder with the images")
        files = files_below(store, path, safe_name(slide_file(uri)), uri)
    if not files:
        raise MissingInputError(f"{shown(uri)}: contains no files; check the name and the bucket")
    return store, files


def _version(file: RemoteFile) -> list[object]:
    return [file.size, file.version]


def _journal_line(file: RemoteFile) -> str:
    return json.dumps([file.name, *_version(file)]) + "\n"


def _journal(mirror: Mirror) -> Mapping[str, list[object]]:
    """Read the latest version of each complete file; an incomplete or damaged line is ignored."""
    versions: dict[str, list[object]] = {}
    if mirror.journal.exists():
        for line in mirror.journal.read_text(errors="replace").splitlines():
            with suppress(ValueError, TypeError):
                name, *version = json.loads(line)
                versions[name] = version
    return versions


def _is_complete(mirror: Mirror, name: str, version: Sequence[object]) -> bool:
    path = mirror.files / name
    return path.is_file() and version[0] in (None, path.stat().st_size)


def _remove_others(mirror: Mirror, files: Sequence[RemoteFile]) -> None:
    """Remove everything except `files`, and rewrite the journal with one line for each of these."""
    wanted = {mirror.files / file.name for file in files}
    for path in mirror.files.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
    with atomic_write(mirror.journal) as partial:
        partial.write_text("".join(_journal_line(file) for file in files))
