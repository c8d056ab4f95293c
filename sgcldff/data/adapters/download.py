"""Download of data sets whose licence allows it, verified by a checksum."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import pooch
import requests

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError, ServiceError
from sgcldff.data.adapters import adapter
from sgcldff.data.adapters.base import Adapter, Download

TIMEOUT_S = 30
MARK = ".sgcldff-fetched"
"""File beside the data with the checksum of their archive."""
MAX_BYTES, MAX_FILES = 50 * 10**9, 10**6
"""Limits on the contents of an archive: several times the largest public set of smears."""
ENCRYPTED = 0x1
"""Flag of an archive member that needs a password."""


def fetch(
    name: str, folder: str | Path, registry: Mapping[str, Download] | None = None, sha256: str | None = None
) -> Path:
    """Download the data set `name` and unpack it into `folder`, unless that has been done already.

    Parameters
    ----------
    registry
        Downloads to use instead of the adapters' own, by name.
    sha256
        Checksum of the archive, 64 hexadecimal digits; required if none is known.

    Returns
    -------
    The folder into which the archive was unpacked.

    Raises
    ------
    InputError
        If the data set has to be downloaded manually, no checksum is known or given, or the archive has another
        checksum, does not exist, contains paths outside the folder, anything but files and folders, more than 50 GB or
        a million files, or more than fits on the disk.
    ServiceError
        If the server does not answer.
    """
    item = adapter(name)
    download = _checked(item, (registry or {}).get(name, item.download), sha256)
    target = Path(folder) / name
    mark = target / MARK
    if not (mark.is_file() and mark.read_text() == download.sha256):
        if target.exists() and not mark.is_file():
            raise InputError(f"{target}: already exists and was not downloaded; name another folder or move it away")
        _unpack(_retrieve(download, Path(folder)), target, download)
    return target


def _checked(item: Adapter, download: Download | None, sha256: str | None) -> Download:
    """Return the download with its checksum."""
    if download is None:
        raise InputError(
            f"{item.title} cannot be downloaded automatically ({item.licence}): {item.instructions}; its page is "
            f"{item.url}"
        )
    expected = sha256 or download.sha256
    if expected is None:
        raise InputError(
            f"{item.title}: no checksum of {download.url} is known, so it is not downloaded unverified: give its "
            f"sha256 (--sha256), or download it yourself from {item.url}; {item.instructions}"
        )
    if len(expected) != 64 or not set(expected.lower()) <= set("0123456789abcdef"):
        raise InputError(f"sha256 {expected!r} is not a checksum: must be 64 hexadecimal digits")
    return replace(download, sha256=expected.lower())


def _retrieve(download: Download, folder: Path) -> Path:
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_S)
    try:
        known_hash = f"sha256:{download.sha256}"
        return Path(pooch.retrieve(download.url, known_hash, download.archive, folder, downloader=downloader))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status >= 500:
            raise ServiceError(f"{download.url}: the server fails (status {status}); try again later") from error
        raise InputError(f"{download.url}: not found (status {status}); look for its new address") from error
    except requests.RequestException as error:
        raise ServiceError(f"{download.url}: the server does not answer ({error}); try again later") from error
    except ValueError as error:
        raise InputError(
            f"{download.url}: has another checksum than {download.sha256}, so nothing was kept; check whether the file "
            f"was replaced at its source ({error})"
        ) from error


def _unpack(archive: Path, target: Path, download: Download) -> None:
    """Unpack into a folder beside the target, and move it there when it is complete."""
    try:
        with atomic_write(target) as part, zipfile.ZipFile(archive) as file:
            _check_members(archive, file.infolist(), target.parent)
            file.extractall(part)
            (part / MARK).write_text(str(download.sha256))
            shutil.rmtree(target, ignore_errors=True)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise InputError(f"{archive}: not a readable zip archive ({error}); remove it and download it again") from error


def _check_members(archive: Path, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    """Refuse a harmful archive before anything is written; `zipfile` never unpacks more than the declared sizes."""
    for member in members:
        _check_member(archive, member)
    size, room = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if size > MAX_BYTES or len(members) > MAX_FILES:
        raise InputError(
            f"{archive}: would unpack to {size / 1e9:,.1f} GB in {len(members):,} files, more than the "
            f"{MAX_BYTES / 1e9:,.0f} GB or {MAX_FILES:,} files allowed; do not use this archive"
        )
    if size > room:
        raise InputError(
            f"{folder}: {room / 1e9:,.1f} GB are free, but {archive.name} needs {size / 1e9:,.1f} GB when unpacked: "
            "free some space, or name another folder"
        )


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    paths = (PurePosixPath(member.filename), PureWindowsPath(member.filename))
    escapes = any(path.is_absolute() or path.drive or ".." in path.parts for path in paths)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if escapes or stat.S_ISLNK(kind):
        raise InputError(f"{archive}: entry {member.filename!r} leads out of its folder; do not use this archive")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & ENCRYPTED:
        raise InputError(f"{archive}: entry {member.filename!r} is no plain file or folder; do not use this archive")
