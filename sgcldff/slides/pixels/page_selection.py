"""Selection of a picture in a file, by its role or by the user's choice of page and focal plane."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from sgcldff.core.errors import InputError, SlideError
from sgcldff.core.geometry import Shape

ROLES = r"label|macro|thumb(?:nail)?|overview|barcode|preview|map|mask"
NAMED_ROLE = re.compile(rf"(?<![a-z])({ROLES})(?![a-z])", re.IGNORECASE)
"""A role anywhere in a picture's name, but not "macrophage"."""
DESCRIBED_ROLE = re.compile(rf"^\W*(?:{ROLES})(?![a-z])", re.IGNORECASE | re.MULTILINE)
"""A role at the start of a line of a description, where scanners write it."""
RIVAL = 0.3
"""Area, relative to the largest picture, from which another picture is an alternative and not a pyramid level."""
FRAGMENT = re.compile(r"#((?:page|z)=[0-9]{1,9}(?:&(?:page|z)=[0-9]{1,9})*)$")
MAX_LISTED = 12


@dataclass(frozen=True)
class Plane:
    """The selected part of a file, counted from 1; None if there is only one."""

    page: int | None = None
    """Page, series or time."""
    z: int | None = None
    """Focal plane."""

    def __post_init__(self) -> None:
        for name, number in (("page", self.page), ("z", self.z)):
            if number is not None and number < 1:
                raise InputError(f"{name} is {number}: pages and focal planes are counted from 1")

    def __str__(self) -> str:
        parts = [f"{name}={number}" for name, number in (("page", self.page), ("z", self.z)) if number is not None]
        return f"#{'&'.join(parts)}" if parts else ""


ANY_PLANE = Plane()
"""No selection: the file has only one picture."""


@dataclass(frozen=True)
class PictureCandidate:
    """A picture in a file."""

    shape: Shape
    name: str = ""
    """Name in the file."""
    auxiliary: bool = False
    """Whether it is a label, macro image, thumbnail or mask."""
    reduced: bool = False
    """Whether it is declared as a smaller copy of another picture."""

    def __str__(self) -> str:
        height, width = self.shape
        return f"{f'{self.name!r}, ' if self.name else ''}{width} x {height} px"


def split_plane(uri: str) -> tuple[str, Plane]:
    """Split `slide.tif#page=2` or `slide.zarr#z=5` into the file and the plane."""
    fragment = FRAGMENT.search(uri)
    if fragment is None:
        return uri, Plane()
    return uri[: fragment.start()], Plane(**{name: int(number) for name, number in parse_qsl(fragment[1])})


def has_role(name: str, description: str = "") -> bool:
    """Return whether name or description identify a picture as a label, macro image, thumbnail or mask."""
    return bool(NAMED_ROLE.search(name) or DESCRIBED_ROLE.search(description))


def choose_picture(path: Path, candidates: Sequence[PictureCandidate], page: int | None) -> int:
    """Return the index of the selected picture, or of the largest that is not a label, macro image, thumbnail or mask.

    Raises
    ------
    SlideError
        If there is no such picture, or no page was selected and several pictures qualify; lists them.
    """
    eligible = [at for at, one in enumerate(candidates) if not one.auxiliary]
    eligible = [at for at in eligible if not candidates[at].reduced] or eligible
    if not candidates:
        raise SlideError(f"{path}: its tables name no picture; copy or export it again")
    if not eligible:
        listed = ", ".join(map(str, candidates))
        raise SlideError(
            f"{path}: contains no slide, only a label, macro image or thumbnail ({listed}); name the slide itself"
        )
    if page is not None:
        return eligible[_index(path, "page", page, len(eligible))]
    areas = {at: candidates[at].shape[0] * candidates[at].shape[1] for at in eligible}
    best = max(eligible, key=areas.__getitem__)
    if sum(area > RIVAL * areas[best] for area in areas.values()) > 1:
        pages = [f"page {number} ({candidates[at]})" for number, at in enumerate(eligible[:MAX_LISTED], 1)]
        raise SlideError(
            f"{path}: contains {len(eligible)} pictures: {', '.join(pages)}{', ...' * (len(eligible) > len(pages))};"
            f" select one (--page 1, or {path.name}#page=1), or export it alone"
        )
    return best


def choose_focus(path: Path, count: int, z: int | None) -> int:
    """Return the index of the selected focal plane.

    Raises
    ------
    SlideError
        If there are several and none was selected, or the number is too large.
    """
    if z is not None:
        return _index(path, "z", z, count)
    if count > 1:
        raise SlideError(
            f"{path}: contains {count} focal planes (axis z); select one (--z {(count + 1) // 2}, or"
            f" {path.name}#z={(count + 1) // 2})"
        )
    return 0


def _index(path: Path, name: str, number: int, count: int) -> int:
    if number > count:
        raise SlideError(f"{path}: {name} {number} was selected, but it has {count}; give 1 to {count}")
    return number - 1
