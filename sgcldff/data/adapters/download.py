"""Download of data sets whose licence allows it, checked against a known checksum."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import pooch
import requests

from sgcldff.core.errors import InputError, ServiceError
from sgcldff.data.adapters import adapter
from sgcldff.data.adapters.base import Adapter, Download

TIMEOUT_S = 30
MARK = ".sgcldff-fetched"
"""File beside the data that holds the checksum of the archive they came from."""
MOST_BYTES, MOST_FILES = 50 * 10**9, 10**6
"""What an archive may hold at the most, unpacked: several times the largest public set of smears."""
ENCRYPTED = 0x1
"""Flag of an entry that needs a password."""


def fetch(
    name: str, folder: str | Path, registry: Mapping[str, Download] | None = None, sha256: str | None = None
) -> Path:
    """Download the data set `name` and unpack it into `folder`; an archive that is there already is not fetched again.

    Parameters
    ----------
    registry
        Downloads to use instead of the adapters' own, by name.
    sha256
        Checksum of the archive, 64 hexadecimal digits; needed where none is known.

    Returns
    -------
    The folder into which the archive was unpacked.

    Raises
    ------
    InputError
        If the data set has to be downloaded by a person, if no checksum is known or given, if the archive has another
        one, is not there, holds names that lead out of the folder, anything but files and folders, more than 50 GB or
        a million files, or more than there is room for.
    ServiceError
        If the server does not answer.
    """
    item = adapter(name)
    download = _checked(item, (registry or {}).get(name, item.download), sha256)
    target = Path(folder) / name
    mark = target / MARK
    if not (mark.is_file() and mark.read_text() == download.sha256):
        _refuse_foreign(target)
        _unpack(_retrieve(download, Path(folder)), target, download)
    return target


def _refuse_foreign(target: Path) -> None:
    """Refuse to replace what `fetch` did not put there."""
    if target.exists() and not (target / MARK).is_file():
        raise InputError(f"{target}: is there already and was not fetched; name another folder or move it away")


def _checked(item: Adapter, download: Download | None, sha256: str | None) -> Download:
    """Take the download with the checksum that holds for it."""
    if download is None:
        raise InputError(
            f"{item.title} cannot be fetched ({item.licence}): {item.instructions}; its page is {item.url}"
        )
    expected = sha256 or download.sha256
    if expected is None:
        raise InputError(
            f"{item.title}: no checksum of {download.url} is known, so it is not fetched unchecked: give its sha256 "
            f"(--sha256), or download it yourself from {item.url}; {item.instructions}"
        )
    if len(expected) != 64 or not set(expected.lower()) <= set("0123456789abcdef"):
        raise InputError(f"sha256 {expected!r} is no checksum: give 64 hexadecimal digits")
    return replace(download, sha256=expected.lower())


def _retrieve(download: Download, folder: Path) -> Path:
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_S)
    try:
        known_hash = f"sha256:{download.sha256}"
        return Path(pooch.retrieve(download.url, known_hash, download.archive, folder, downloader=downloader))
    except requests.HTTPError as error:
        raise _refused(download, error) from error
    except requests.RequestException as error:
        raise ServiceError(f"{download.url}: the server does not answer ({error}); try again later") from error
    except ValueError as error:
        raise InputError(
            f"{download.url}: has another checksum than {download.sha256}, nothing was kept; look whether the file was "
            f"replaced at its source ({error})"
        ) from error


def _refused(download: Download, error: requests.HTTPError) -> InputError | ServiceError:
    status = error.response.status_code if error.response is not None else 0
    if status >= 500:
        return ServiceError(f"{download.url}: the server fails (status {status}); try again later")
    return InputError(f"{download.url}: is not there (status {status}); look for its new place")


def _unpack(archive: Path, target: Path, download: Download) -> None:
    """Unpack into a folder beside the target and move it there when it is whole."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            _refuse_harm(archive, file.infolist(), target.parent)
            file.extractall(part)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise InputError(f"{archive}: not a readable zip archive ({error}); remove it and fetch again") from error
    (part / MARK).write_text(str(download.sha256))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def _refuse_harm(archive: Path, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    """Refuse an archive before anything of it is written; what it declares is what `zipfile` unpacks at the most."""
    for member in members:
        _refuse_escape(archive, member)
    size, room = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if size > MOST_BYTES or len(members) > MOST_FILES:
        raise InputError(
            f"{archive}: would unpack to {size / 1e9:,.1f} GB in {len(members):,} files, more than the "
            f"{MOST_BYTES / 1e9:,.0f} GB or {MOST_FILES:,} files that a data set may have; do not use this archive"
        )
    if size > room:
        raise InputError(
            f"{folder}: {room / 1e9:,.1f} GB are free, {size / 1e9:,.1f} GB are needed to unpack {archive.name}: make "
            "room, or name another folder"
        )


def _refuse_escape(archive: Path, member: zipfile.ZipInfo) -> None:
    paths = (PurePosixPath(member.filename), PureWindowsPath(member.filename))
    leads_out = any(path.is_absolute() or path.drive or ".." in path.parts for path in paths)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if leads_out or stat.S_ISLNK(kind):
        raise InputError(f"{archive}: entry {member.filename!r} leads out of its folder; do not use this archive")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & ENCRYPTED:
        raise InputError(f"{archive}: entry {member.filename!r} is no plain file or folder; do not use this archive")
