"""Finding the slides of a batch by files, folders, patterns, lists and URLs, without opening one."""

import logging
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from glob import has_magic
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sgcldff.core.errors import InputError, MissingInputError, NothingFoundError
from sgcldff.core.locations import is_remote, local_path, shown
from sgcldff.core.settings import require
from sgcldff.core.tables import read_text_table
from sgcldff.slides.content import SUFFIXES, extension, is_zarr, stem
from sgcldff.slides.ids import Trail, distinct_ids
from sgcldff.slides.pixels.page_selection import UNNAMED, Plane, split_plane
from sgcldff.slides.remote.cache import local_copy
from sgcldff.slides.remote.stores import HTTP, info, listing, protocol_of

LISTS = (".csv", ".tsv", ".parquet")
"""Extensions of tables that name slides."""
RESULTS = ("differential.json", "labels.ome.zarr", "queue.parquet")
"""A folder with one of these holds the results of a slide, or pictures of cells to review."""
NAMED_AT_MOST = 100
"""Missing inputs that a message names."""
DIGITS = re.compile(r"([0-9]+)")

logger = logging.getLogger(__name__)

Ls = Callable[[str], tuple[list[str], list[str]]]
"""Names the folders and the files right below a folder."""
Pattern = tuple[str, ...]
"""A glob pattern, one item a folder's or file's name."""


@dataclass(frozen=True)
class SlideEntry:
    """A slide of a batch."""

    uri: str
    """Absolute path, or URL; with `#page=2` or `#z=5` at its end, that page or focal plane."""
    mpp: float | None
    """um/px of level 0, where the user said; None leaves it to the file."""
    id: str
    """Distinct in the batch and safe as the name of a folder."""
    named: bool = False
    """A list chose the id: the file's name, which may say who the patient is, then appears in no result."""

    @property
    def shown_name(self) -> str:
        """Name the slide's file for tables and reports, without its folder; the id where a list chose one."""
        return self.id if self.named else _trail(self.uri)[-1]

    def without_place(self, text: str) -> str:
        """Leave out of a text in which folder the slide lies, and its file's name where a list chose an id."""
        file = _trail(self.uri)[-1]
        for place in (self.uri, shown(self.uri)):
            folder = place.rpartition("/")[0]
            text = text.replace(place, file)
            text = text.replace(f"{folder}/", "") if folder else text
        own = rf"(?<!\w)({re.escape(file)}|{re.escape(stem(file))})(?!\w)"
        return re.sub(own, lambda _: self.id, text) if self.named else text


@dataclass(frozen=True)
class _Found:
    uri: str
    """Of the file."""
    mpp: float | None = None
    id: str | None = None
    source: str = ""
    """Row of the list that names it."""
    plane: Plane = UNNAMED


def find_slides(inputs: Sequence[str], mpp: float | None = None, plane: Plane = UNNAMED) -> tuple[SlideEntry, ...]:
    """Find the slides that are meant, each once, in natural order (`x2` before `x10`).

    Parameters
    ----------
    inputs
        Each is one of: a slide's file; an OME-Zarr folder; a folder, all slides below which are meant; a pattern with
        `*`, `?`, `[...]` and `**` for any number of folders (a folder that matches means all slides below it); a CSV,
        TSV or Parquet list with a column `slide` and, where wanted, `mpp`, `id`, `page` and `z`; its paths are relative
        to the list;
        or a URL of any of these (`s3://bucket/prefix`, `memory://`, `file://`; over `http(s)://` only files and lists,
        since web servers do not list folders). In folders, slides are told by their extensions and Zarr folders by
        their metadata files; hidden files, results of earlier runs and the folders beside .mrxs files are passed over,
        other files are ignored. Of DICOM files, which make one slide, a folder's first is taken. What a list names in
        a store is looked up only when it is read.
    mpp
        um/px of the slides that no list gives one.
    plane
        Page and focal plane of the slides for which none is named. A file is named as `slide.tif#page=2` or
        `slide.zarr#z=5` to mean one; both are counted from 1.

    Returns
    -------
    Slides whose ids are their files' names without extension, or, where those are not distinct, are told apart by their
    folders (see `sgcldff.slides.ids.distinct_ids`).

    Raises
    ------
    MissingInputError
        If inputs, or local files of a list, are not there; names all of them (up to 100).
    NothingFoundError
        If there is no slide.
    InputError
        If a list cannot be read, lists contradict each other, or a store refuses access.
    ServiceError
        If a store does not answer.
    """
    require(bool(inputs), "no slide was named: give files, folders, patterns, lists or URLs")
    search = _Search()
    found, missing = list[_Found](), list[str]()
    for text in inputs:
        try:
            found.extend(search.meant_by(text))
        except MissingInputError as error:
            missing.append(str(error))
    if missing:
        raise MissingInputError("; ".join(missing))
    if not found:
        raise NothingFoundError(_nothing(inputs, search.ignored))
    planed = [replace(one, plane=one.plane if str(one.plane) else plane) for one in found]
    slides = {f"{one.uri}{one.plane}": one for one in _each_once(planed)}
    logger.info("%d slides found; %d other files ignored", len(slides), search.ignored)
    ids = distinct_ids({uri: _trail(uri) for uri in slides}, {uri: one.id for uri, one in slides.items() if one.id})
    return tuple(
        SlideEntry(uri, slides[uri].mpp or mpp, ids[uri], slides[uri].id is not None)
        for uri in sorted(slides, key=natural)
    )


def natural(text: str) -> tuple[Any, ...]:
    """Make a key that sorts names as people do: folder by folder, numbers by their value."""
    folder, _, name = text.rpartition("/")
    return [*_ranked_folder(folder), _ranked(name)], text


@lru_cache(maxsize=1024)
def _ranked_folder(folder: str) -> list[Any]:
    return [_ranked(name) for name in folder.split("/")]


def _ranked(name: str) -> list[Any]:
    return [_number(part) if at % 2 else (0, part) for at, part in enumerate(DIGITS.split(name.casefold()))]


def _number(digits: str) -> tuple[int, str]:
    value = digits.lstrip("0")
    return len(value), value


class _Search:
    """A look through folders; counts the files that are no slides."""

    def __init__(self) -> None:
        self.ignored = 0

    def meant_by(self, text: str) -> Iterable[_Found]:
        """Return the slides that an input means."""
        file, plane = split_plane(text)
        if str(plane):
            return [replace(one, plane=plane) for one in self.meant_by(file)]
        place = text if is_remote(text) else str(local_path(text))
        kind = _kind(place)
        if kind is None and has_magic(place) and protocol_of(place) not in HTTP:
            return self._matching(place)
        if kind is None:
            raise MissingInputError(f"{shown(text)}: is not there; look at its name and at where you are")
        if kind == "directory":
            return self._below(place, ())
        return _rows(place) if _suffix(_trail(place)[-1]) in LISTS else [_Found(_absolute(place))]

    def _matching(self, place: str) -> list[_Found]:
        """Expand a pattern: look only into folders that it may lead to."""
        pieces = place.split("/")
        first = next(at for at, piece in enumerate(pieces) if has_magic(piece))
        base = "/".join(pieces[:first]) or ("/" if place.startswith("/") else ".")
        pattern = tuple(piece for piece in pieces[first:] if piece)
        found = self._below(base, pattern) if _kind(base) == "directory" else []
        if not found:
            raise MissingInputError(f"{shown(place)}: no slide matches; look at the pattern and at where you are")
        return found

    def _below(self, folder: str, pattern: Pattern) -> list[_Found]:
        ls, place = (listing if is_remote(folder) else _local_listing), _absolute(folder)
        return [_Found(_join(place, names)) for names in self._walk(ls, place, pattern, ()) if matches(pattern, names)]

    def _walk(self, ls: Ls, place: str, pattern: Pattern, above: Trail) -> Iterator[Trail]:
        """Yield the slides below a folder by the names that lead to them."""
        folders, files = ls(place)
        if is_zarr(files):
            yield above
        elif not any(name in RESULTS for name in (*files, *folders)):
            slides = _slides_among(files)
            self.ignored += len(files) - len(slides)
            yield from ((*above, name) for name in slides)
            companions = {name[: -len(".mrxs")] for name in files if name.lower().endswith(".mrxs")}
            for name in folders:
                if not name.startswith(".") and name not in companions and leads(pattern, (*above, name)):
                    yield from self._walk(ls, _join(place, (name,)), pattern, (*above, name))


def _slides_among(files: list[str]) -> list[str]:
    slides = [name for name in files if not name.startswith(".") and _suffix(name) in SUFFIXES]
    dicom = sorted((name for name in slides if _suffix(name) == ".dcm"), key=natural)
    return [name for name in slides if name not in dicom[1:]] if len(dicom) > 1 else slides


def matches(pattern: Pattern, names: Trail) -> bool:
    """Return whether a pattern means a file, or a folder above it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(matches(pattern[1:], names[skipped:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and matches(pattern[1:], names[1:])


def leads(pattern: Pattern, names: Trail) -> bool:
    """Return whether there may be something in a folder that a pattern means."""
    for piece, name in zip(pattern, names, strict=False):
        if piece == "**":
            return True
        if not fnmatchcase(name, piece):
            return False
    return True


def _local_listing(folder: str) -> tuple[list[str], list[str]]:
    folders, files = list[str](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                place = Path(entry.path) if entry.is_symlink() else entry
                if place.is_file():
                    files.append(entry.name)
                elif place.is_dir() and not (entry.is_symlink() and _leads_up(entry.path)):
                    folders.append(entry.name)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be looked into ({error.strerror}); allow it, or name other folders"
        ) from error
    return folders, files


def _leads_up(link: str) -> bool:
    """Tell a link to a folder that holds it, in which a walk would go round for ever."""
    target = Path(link).resolve()
    return any(parent.resolve() == target for parent in Path(link).parents)


def _kind(place: str) -> str | None:
    """Tell a file from a folder; None where there is nothing."""
    if is_remote(place):
        told = info(place)
        return None if told is None else str(told["type"])
    return "directory" if Path(place).is_dir() else "file" if Path(place).exists() else None


def _absolute(place: str) -> str:
    """Make an address hold anywhere on this machine; a link keeps its name, which may say more than its aim's."""
    if is_remote(place):
        return place.rstrip("/")
    path = Path(place).absolute()
    return str(path if ".." not in path.parts else path.resolve())


def _join(folder: str, names: Iterable[str]) -> str:
    return "/".join((folder.rstrip("/"), *names))


def _suffix(name: str) -> str:
    return extension(name).lower()


def _trail(uri: str) -> Trail:
    """Split an address into the names of folders and file; the page or focal plane stays with the file's name."""
    uri, plane = split_plane(uri)
    if protocol_of(uri) in HTTP:
        uri = unquote(urlsplit(uri)._replace(query="", fragment="").geturl())
    place = uri.partition("://")[2] if is_remote(uri) else uri
    *folders, file = [name for name in place.split("/") if name] or [""]
    return *folders, f"{file}{plane}"


def _rows(table: str) -> list[_Found]:
    """Read a list; what is wrong with it is told with the row, the first below the names of the columns being 1."""
    folder = _absolute(table).rpartition("/")[0]
    rows = [
        _row(folder, f"{shown(table)}, row {at}", *(row.get(name, "") for name in ("slide", "mpp", "id", "page", "z")))
        for at, row in enumerate(_table(table), 1)
    ]
    missing = [f"{row.source}: {row.uri}" for row in rows if not (is_remote(row.uri) or _is_slide(row.uri))]
    if missing:
        more = f" and {len(missing) - NAMED_AT_MOST} more" if len(missing) > NAMED_AT_MOST else ""
        raise MissingInputError(
            f"{len(missing)} slides are not there (a list names files and OME-Zarr folders, relative to itself): "
            f"{'; '.join(missing[:NAMED_AT_MOST])}{more}"
        )
    return rows


def _row(folder: str, source: str, slide: str, mpp: str, name: str, *place_inside: str) -> _Found:
    require(bool(slide), f"{source}: names no slide; fill the column slide, or remove the row")
    slide, plane = split_plane(slide)
    page, z = (_whole(source, *pair) for pair in zip(("page", "z"), place_inside, strict=True))
    alone = is_remote(slide) or slide.startswith(("/", "file://"))
    place = slide if alone else _join(folder, (slide,))
    uri = place if is_remote(place) else str(local_path(place))
    return _Found(_absolute(uri), _scale(source, mpp), name or None, source, Plane(page or plane.page, z or plane.z))


def _whole(source: str, name: str, text: str) -> int | None:
    """Read the number of a page or focal plane; pandas writes whole numbers beside empty cells as "2.0"."""
    number = text.removesuffix(".0")
    require(not number or (number.isdecimal() and int(number) > 0), f"{source}: {name} is {text}; give 1 or more")
    return int(number) if number else None


def _scale(source: str, mpp: str) -> float | None:
    try:
        scale = float(mpp) if mpp else None
    except ValueError as error:
        raise InputError(f"{source}: mpp {mpp!r} is no number; give um/px with a decimal point, or nothing") from error
    holds = scale is None or (math.isfinite(scale) and scale > 0)
    require(holds, f"{source}: mpp is {mpp}; give a positive number of um/px, or nothing")
    return scale


def _is_slide(place: str) -> bool:
    path = Path(place)
    return path.is_file() or (path.is_dir() and is_zarr([file.name for file in path.iterdir()]))


def _table(place: str) -> list[dict[str, str]]:
    """Read a list's cells as text."""
    copy = local_copy(place)
    try:
        columns, rows = read_text_table(copy.path, shown(place))
    finally:
        copy.close()
    has = ", ".join(columns) or "none"
    require("slide" in columns, f"{shown(place)}: lacks the column slide, has {has}; name it in line 1")
    return rows


def _each_once(found: Iterable[_Found]) -> Iterable[_Found]:
    """Unite what was said of the same file; of several paths to it one without links holds, or else the first."""
    places: dict[tuple[str, Plane], _Found] = {}
    for one in found:
        key = (one.uri if is_remote(one.uri) else _real(one.uri), one.plane)
        other = places.setdefault(key, one)
        if other is not one:
            places[key] = _united(other, one, key[0])
    return places.values()


def _real(path: str) -> str:
    """Follow links; most files of a batch share their folders."""
    folder, _, name = path.rpartition("/")
    linked = stat.S_ISLNK(os.lstat(path).st_mode)
    return str(Path(path).resolve()) if linked else f"{_real_folder(folder)}/{name}"


@lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return str(Path(folder or "/").resolve())


def _united(one: _Found, other: _Found, real: str) -> _Found:
    contradict = [
        f"{name} {mine} and {yours}"
        for name, mine, yours in (("mpp", one.mpp, other.mpp), ("id", one.id, other.id))
        if None not in (mine, yours) and mine != yours
    ]
    if contradict:
        places = " and ".join(place for place in (one.source, other.source) if place)
        raise InputError(f"{shown(one.uri)}: is given {', '.join(contradict)} ({places}); give it once")
    uri = min(one.uri, other.uri, key=lambda uri: (uri != real, natural(uri)))
    return _Found(uri, one.mpp or other.mpp, one.id or other.id, one.source or other.source, one.plane)


def _nothing(inputs: Sequence[str], ignored: int) -> str:
    places = ", ".join(shown(text) for text in inputs[:NAMED_AT_MOST])
    return (
        f"{places}: no slide was found among {ignored} files; looked for OME-Zarr folders and files"
        f" ending in {', '.join(sorted(SUFFIXES))} (name a file of another extension itself)"
    )
