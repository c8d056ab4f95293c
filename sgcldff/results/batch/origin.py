"""Which slide a folder of results is of: no other slide of that name takes its place, and it is hashed only once."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sgcldff.core.errors import InputError, MissingInputError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.locations import is_remote, shown
from sgcldff.results.batch.summary import SUMMARY
from sgcldff.results.folder import READ_AGAIN
from sgcldff.slides import SlideEntry
from sgcldff.slides.content import content_sha256, plane_sha256
from sgcldff.slides.pixels.page_selection import split_plane

ORIGIN = "origin.json"
"""Name of the file in a slide's folder that `write_origin` writes."""


def write_origin(folder: str | Path, uri: str, sha256: str | None = None) -> None:
    """Note which slide a folder's results are of: by hashes of address and content, since folders may name patients.

    Parameters
    ----------
    sha256
        None where the slide could not be opened.
    """
    origin = {"address": _hashed(uri), "sha256": sha256, "state": _state(uri)}
    if origin != _read_origin(Path(folder)):
        write_json(Path(folder) / ORIGIN, origin)


def known_sha256(folder: str | Path, uri: str) -> str | None:
    """Return the hash of a slide's content that an earlier run noted, unless the file may have changed since.

    A file counts as the same if its address, size and time of change are. Folders, and slides in stores, are never
    taken for known.
    """
    origin, state = _read_origin(Path(folder)), _state(uri)
    same = bool(origin) and state is not None and (origin["address"], origin["state"]) == (_hashed(uri), state)
    return origin["sha256"] if same else None


def unread(slides: Iterable[SlideEntry], out: str | Path) -> list[SlideEntry]:
    """Choose the slides that no earlier run has read or skipped, or whose files may have changed since.

    They are known by their addresses, whatever ids they had then.
    """
    ended = (path.parent for path in Path(out).glob(f"*/{SUMMARY}"))
    known = {origin["address"]: origin["state"] for folder in ended if (origin := _read_origin(folder))}
    return [slide for slide in slides if known.get(_hashed(slide.uri), "unread") != _state(slide.uri)]


def require_own_folders(slides: Iterable[SlideEntry], out: str | Path) -> None:
    """See that no slide's folder holds the results of another one.

    A slide that was moved, or that changed where it lies, is no other slide.

    Raises
    ------
    InputError
        If one does; the message names the slides.
    """
    strangers = [slide for slide in slides if _is_taken(Path(out) / slide.id, slide.uri)]
    if strangers:
        named = ", ".join(f"{shown(slide.uri)} ({slide.id})" for slide in strangers)
        raise InputError(
            f"{out}: holds results of other slides with the names of {named}: give another folder for the results, or"
            " name the slides in a table with a column id"
        )


def _is_taken(folder: Path, uri: str) -> bool:
    origin = _read_origin(folder)
    if not origin or origin["sha256"] is None or origin["address"] == _hashed(uri):
        return False
    file, plane = split_plane(uri)
    return is_remote(uri) or plane_sha256(content_sha256(Path(file)), plane) != origin["sha256"]


def _read_origin(folder: Path) -> dict[str, Any]:
    """Read what `write_origin` noted; nothing if that is damaged, as it is noted again once the slide is read."""
    try:
        found = read_json(folder / ORIGIN, READ_AGAIN)
    except (MissingInputError, StoreError):
        return {}
    return found if found.keys() == {"address", "sha256", "state"} else {}


def _state(uri: str) -> list[int] | None:
    """Tell size (bytes) and time of change (ns) of a slide that is a single file of this machine."""
    path = Path(split_plane(uri)[0])
    if is_remote(uri) or not path.is_file() or path.suffix.lower() in (".mrxs", ".dcm"):
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _hashed(uri: str) -> str:
    """Hash an address without what is signed into it anew every time."""
    file, plane = split_plane(uri)
    return hashlib.sha256(f"{shown(file)}{plane}".encode(errors="surrogatepass")).hexdigest()[:16]
