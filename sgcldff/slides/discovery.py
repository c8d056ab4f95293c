"""Finding the slides of a batch in files, folders, patterns, lists and URLs, without opening them."""

import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from glob import has_magic
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, MissingInputError, NothingFoundError, readable
from sgcldff.core.locations import is_remote, local_path, shown
from sgcldff.core.settings import AUTO_MPP, MAX_MPP, MIN_MPP, StatedMpp, require
from sgcldff.core.tables import LARGEST, number, read_text_table, whole_number
from sgcldff.slides.content import SUFFIXES, extension, is_zarr, stem
from sgcldff.slides.dicom import EXTENSION, series_of
from sgcldff.slides.ids import Trail, distinct_ids
from sgcldff.slides.patient import UNKNOWN_PATIENT, Patient, read_patient
from sgcldff.slides.pixels.page_selection import ANY_PLANE, Plane, split_plane
from sgcldff.slides.remote.cache import local_copy
from sgcldff.slides.remote.stores import HTTP, info, listing, protocol_of

LISTS = (".csv", ".tsv", ".parquet")
"""Extensions of tables that name slides."""
RESULT_FILES = ("differential.json", "labels.ome.zarr", "queue.parquet")
"""A folder with one of these contains the results of a slide, or images of cells to review."""
MAX_LISTED = 100
"""Largest number of missing inputs that a message names."""
DIGITS = re.compile(r"([0-9]+)")

logger = logging.getLogger(__name__)

ListFolder = Callable[[str], tuple[list[str], list[str]]]
"""Returns the names of the subfolders and the files of a folder."""
Pattern = tuple[str, ...]
"""A glob pattern, one item per folder or file name."""


@dataclass(frozen=True)
class SlideEntry:
    """A slide of a batch."""

    uri: str
    """Absolute path, or URL; ending with `#page=2` or `#z=5` for a page or focal plane."""
    mpp: StatedMpp
    """um/px of level 0, if given by the user; None uses the file's metadata, "auto" also its red cells."""
    id: str
    """Unique in the batch, and safe as the name of a folder."""
    named: bool = False
    """Whether a list provided the id; the file name, which may identify the patient, then appears in no result."""
    patient: Patient = UNKNOWN_PATIENT
    """What a list says of the patient."""

    @property
    def shown_name(self) -> str:
        """Name for tables and reports: the file name without its folder, or the id if a list provided it."""
        return self.id if self.named else readable(_trail(self.uri)[-1])

    def without_place(self, text: str) -> str:
        """Remove the slide's folder from a text, and replace its file name by the id if a list provided that."""
        text = readable(text)
        file = readable(_trail(self.uri)[-1])
        for uri in (readable(self.uri), shown(self.uri)):
            folder = uri.rpartition("/")[0]
            text = text.replace(uri, file)
            text = text.replace(f"{folder}/", "") if folder else text
        file_name = rf"(?<!\w)({re.escape(file)}|{re.escape(stem(file))})(?!\w)"
        return re.sub(file_name, lambda _: self.id, text) if self.named else text


@dataclass(frozen=True)
class _Hit:
    """A slide that one of the inputs names."""

    uri: str
    """Path or URL of the file."""
    mpp: StatedMpp = None
    id: str | None = None
    source: str = ""
    """Row of the list that names it."""
    plane: Plane = ANY_PLANE
    patient: Patient = UNKNOWN_PATIENT


def find_slides(inputs: Sequence[str], mpp: StatedMpp = None, plane: Plane = ANY_PLANE) -> tuple[SlideEntry, ...]:
    """Find the slides that the inputs name, each once, in natural order (`x2` before `x10`).

    Parameters
    ----------
    inputs
        Each is one of: a slide file; an OME-Zarr folder; a folder, for all slides below it; a pattern with `*`, `?`,
        `[...]` and `**` for any number of folders (a matching folder stands for all slides below it); a CSV, TSV or
        Parquet list with a column `slide` and optionally `mpp`, `id`, `page`, `z`, `wbc`, `age` and `sex`, with paths
        relative to the list; or a URL of any of these (`s3://bucket/prefix`, `memory://`, `file://`; over `http(s)://`
        only files and lists, since web servers do not list folders). In folders, slides are recognised by their
        extensions and Zarr folders by their metadata files; hidden files, results of earlier runs and the folders of
        .mrxs files are skipped, and other files ignored. Of a DICOM series the first file is used, by name; in a store,
        all in a folder count as one. Remote slides in a list are looked up only when they are read.
    mpp
        um/px of slides for which no list provides it, or "auto" (see `sgcldff.slides.opener.open_slide`).
    plane
        Page and focal plane of slides for which none is named. `slide.tif#page=2` and `slide.zarr#z=5` name one; both
        are counted from 1.

    Returns
    -------
    Slides whose ids are their file names without extension, or, if those are not unique, are distinguished by their
    folders (see `sgcldff.slides.ids.distinct_ids`).

    Raises
    ------
    MissingInputError
        If inputs, or local files of a list, do not exist; names all of them (up to 100).
    NothingFoundError
        If there is no slide.
    InputError
        If a list cannot be read, lists contradict each other, or a store refuses access.
    ServiceError
        If a store does not answer.
    """
    require(bool(inputs), "no slide was named: give files, folders, patterns, lists or URLs")
    search = _Search()
    hits, missing = list[_Hit](), list[str]()
    for text in inputs:
        try:
            with reading(shown(text), "cannot be searched", "grant access, or name other files"):
                hits.extend(search.named_by(text))
        except MissingInputError as error:
            missing.append(str(error))
    if missing:
        raise MissingInputError("; ".join(missing))
    if not hits:
        names = ", ".join(shown(text) for text in inputs[:MAX_LISTED])
        raise NothingFoundError(
            f"{names}: no slide was found among {search.ignored} files; looked for OME-Zarr folders and files ending in"
            f" {', '.join(sorted(SUFFIXES))} (to use a file with another extension, name the file)"
        )
    with_planes = [replace(hit, plane=hit.plane if str(hit.plane) else plane) for hit in hits]
    slides = {f"{hit.uri}{hit.plane}": hit for hit in _each_once(with_planes)}
    logger.info("%d slides found; %d other files ignored", len(slides), search.ignored)
    ids = distinct_ids({uri: _trail(uri) for uri in slides}, {uri: hit.id for uri, hit in slides.items() if hit.id})
    return tuple(
        SlideEntry(uri, slides[uri].mpp or mpp, ids[uri], slides[uri].id is not None, slides[uri].patient)
        for uri in sorted(slides, key=natural_key)
    )


def natural_key(text: str) -> tuple[Any, ...]:
    """Return a key that sorts names as people do: folder by folder, numbers by their value."""
    folder, _, name = text.rpartition("/")
    return [*_folder_key(folder), _name_key(name)], text


@lru_cache(maxsize=1024)
def _folder_key(folder: str) -> list[Any]:
    return [_name_key(name) for name in folder.split("/")]


def _name_key(name: str) -> list[Any]:
    parts = DIGITS.split(name.casefold())
    return [(len(part.lstrip("0")), part.lstrip("0")) if at % 2 else (0, part) for at, part in enumerate(parts)]


class _Search:
    """A search through folders, which counts the files that are not slides."""

    def __init__(self) -> None:
        self.ignored = 0

    def named_by(self, text: str) -> Iterable[_Hit]:
        """Return the slides that an input names."""
        file, plane = split_plane(text)
        if str(plane):
            return [replace(hit, plane=plane) for hit in self.named_by(file)]
        location = text if is_remote(text) else str(local_path(text))
        kind = _kind(location)
        if kind is None and has_magic(location) and protocol_of(location) not in HTTP:
            return self._matching(location)
        if kind is None:
            raise MissingInputError(f"{shown(text)}: does not exist; check its name and the current folder")
        if kind == "directory":
            return self._below(location, ())
        return _listed(location) if _suffix(_trail(location)[-1]) in LISTS else [_Hit(_absolute(location))]

    def _matching(self, location: str) -> list[_Hit]:
        """Expand a pattern, searching only folders that can contain matches."""
        pieces = location.split("/")
        first = next(at for at, piece in enumerate(pieces) if has_magic(piece))
        base = "/".join(pieces[:first]) or ("/" if location.startswith("/") else ".")
        pattern = tuple(piece for piece in pieces[first:] if piece)
        hits = self._below(base, pattern) if _kind(base) == "directory" else []
        if not hits:
            raise MissingInputError(f"{shown(location)}: no slide matches; check the pattern and the current folder")
        return hits

    def _below(self, folder: str, pattern: Pattern) -> list[_Hit]:
        list_folder, root = (listing if is_remote(folder) else _local_listing), _absolute(folder)
        trails = self._walk(list_folder, root, pattern, ())
        return [_Hit(_join(root, trail)) for trail in trails if matches(pattern, trail)]

    def _walk(self, list_folder: ListFolder, folder: str, pattern: Pattern, above: Trail) -> Iterator[Trail]:
        """Yield the trails of the slides below a folder."""
        folders, files = list_folder(folder)
        if is_zarr(files):
            yield above
        elif not any(name in RESULT_FILES for name in (*files, *folders)):
            slides = _slides_among(files, folder)
            self.ignored += len(files) - len(slides)
            yield from ((*above, name) for name in slides)
            companions = {name[: -len(".mrxs")] for name in files if name.lower().endswith(".mrxs")}
            for name in folders:
                if not name.startswith(".") and name not in companions and may_contain(pattern, (*above, name)):
                    yield from self._walk(list_folder, _join(folder, (name,)), pattern, (*above, name))


def _slides_among(files: list[str], folder: str) -> list[str]:
    slides = [name for name in files if not name.startswith(".") and _suffix(name) in SUFFIXES]
    dicom = sorted((name for name in slides if _suffix(name) == EXTENSION), key=natural_key)
    series = {name: None if is_remote(folder) else series_of(Path(folder, name)) for name in dicom}
    first = {one: name for name, one in reversed(series.items()) if one is None or one.is_slide}
    return [name for name in slides if name not in series or name in first.values()]


def matches(pattern: Pattern, names: Trail) -> bool:
    """Return whether a pattern matches a file, or a folder above it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(matches(pattern[1:], names[skipped:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and matches(pattern[1:], names[1:])


def may_contain(pattern: Pattern, names: Trail) -> bool:
    """Return whether a folder may contain matches of a pattern."""
    for piece, name in zip(pattern, names, strict=False):
        if piece == "**":
            return True
        if not fnmatchcase(name, piece):
            return False
    return True


def _local_listing(folder: str) -> tuple[list[str], list[str]]:
    folders, files = list[str](), list[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            target = Path(entry.path) if entry.is_symlink() else entry
            if target.is_file():
                files.append(entry.name)
            elif target.is_dir() and not (entry.is_symlink() and _links_to_ancestor(entry.path)):
                folders.append(entry.name)
    return folders, files


def _links_to_ancestor(link: str) -> bool:
    """Return whether a link leads to a folder that contains it, which would make a walk endless."""
    target = Path(link).resolve()
    return any(parent.resolve() == target for parent in Path(link).parents)


def _kind(location: str) -> str | None:
    """Return "file" or "directory"; None if there is neither."""
    if is_remote(location):
        remote = info(location)
        return None if remote is None else str(remote["type"])
    return "directory" if Path(location).is_dir() else "file" if Path(location).exists() else None


def _absolute(location: str) -> str:
    """Return an absolute path, or the URL; a link keeps its own name, which may say more than its target's."""
    if is_remote(location):
        return location.rstrip("/")
    path = Path(location).absolute()
    return str(path if ".." not in path.parts else path.resolve())


def _join(folder: str, names: Iterable[str]) -> str:
    return "/".join((folder.rstrip("/"), *names))


def _suffix(name: str) -> str:
    return extension(name).lower()


def _trail(uri: str) -> Trail:
    """Split an address into the names of folders and file; a page or focal plane stays with the file name."""
    uri, plane = split_plane(uri)
    if protocol_of(uri) in HTTP:
        uri = unquote(urlsplit(uri)._replace(query="", fragment="").geturl())
    path = uri.partition("://")[2] if is_remote(uri) else uri
    *folders, file = [name for name in path.split("/") if name] or [""]
    return *folders, f"{file}{plane}"


def _listed(table: str) -> list[_Hit]:
    """Read a list; errors name the row, counted from 1 below the header."""
    folder = _absolute(table).rpartition("/")[0]
    hits = [
        _listed_slide(folder, f"{shown(table)}, row {number}", row) for number, row in enumerate(_read_list(table), 1)
    ]
    missing = [f"{hit.source}: {hit.uri}" for hit in hits if not (is_remote(hit.uri) or _is_slide(hit.uri))]
    if missing:
        more = f" and {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
        raise MissingInputError(
            f"{len(missing)} slides do not exist (a list names files and OME-Zarr folders, relative to itself): "
            f"{'; '.join(missing[:MAX_LISTED])}{more}"
        )
    return hits


def _listed_slide(folder: str, source: str, row: Mapping[str, str]) -> _Hit:
    slide, plane = split_plane(row["slide"])
    require(bool(slide), f"{source}: names no slide; fill the column slide, or remove the row")
    page, z = (
        whole_number(source, name, text, (1, LARGEST)) if (text := row.get(name)) else None for name in ("page", "z")
    )
    absolute = is_remote(slide) or slide.startswith(("/", "file://"))
    location = slide if absolute else _join(folder, (slide,))
    uri = _absolute(location if is_remote(location) else str(local_path(location)))
    text = row.get("mpp")
    known = number(source, "mpp", text, (MIN_MPP, MAX_MPP)) if text and text != AUTO_MPP else None
    mpp: StatedMpp = AUTO_MPP if text == AUTO_MPP else known
    plane = Plane(page or plane.page, z or plane.z)
    return _Hit(uri, mpp, row.get("id") or None, source, plane, read_patient(source, row))


def _is_slide(location: str) -> bool:
    path = Path(location)
    return path.is_file() or (path.is_dir() and is_zarr([file.name for file in path.iterdir()]))


def _read_list(location: str) -> list[dict[str, str]]:
    copy = local_copy(location)
    try:
        columns, rows = read_text_table(copy.path, shown(location))
    finally:
        copy.close()
    present = ", ".join(columns) or "none"
    require("slide" in columns, f"{shown(location)}: lacks the column slide, has {present}; name it in line 1")
    return rows


def _each_once(hits: Iterable[_Hit]) -> Iterable[_Hit]:
    """Merge hits of the same file; of several paths to it, one without links is kept, or else the first."""
    merged: dict[tuple[str, Plane], _Hit] = {}
    for hit in hits:
        key = (hit.uri if is_remote(hit.uri) else _real(hit.uri), hit.plane)
        other = merged.setdefault(key, hit)
        if other is not hit:
            merged[key] = _merged(other, hit, key[0])
    return merged.values()


def _real(path: str) -> str:
    """Resolve links; resolved folders are cached, since most files of a batch share them."""
    folder, _, name = path.rpartition("/")
    linked = stat.S_ISLNK(os.lstat(path).st_mode)
    return str(Path(path).resolve()) if linked else f"{_real_folder(folder)}/{name}"


@lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return str(Path(folder or "/").resolve())


def _merged(one: _Hit, other: _Hit, real: str) -> _Hit:
    both = [(name, getattr(one, name), getattr(other, name)) for name in ("mpp", "id")]
    both += [
        (item.name, getattr(one.patient, item.name), getattr(other.patient, item.name)) for item in fields(Patient)
    ]
    contradictions = [
        f"{name} {mine} and {yours}" for name, mine, yours in both if None not in (mine, yours) and mine != yours
    ]
    if contradictions:
        sources = " and ".join(source for source in (one.source, other.source) if source)
        raise InputError(f"{shown(one.uri)}: is given {', '.join(contradictions)} ({sources}); give it once")
    uri = min(one.uri, other.uri, key=lambda uri: (uri != real, natural_key(uri)))
    patient, source = one.patient.completed(other.patient), one.source or other.source
    return _Hit(uri, one.mpp or other.mpp, one.id or other.id, source, one.plane, patient)
