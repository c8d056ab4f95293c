"""Which of the pictures in a file is meant: by its role, or by what the user named."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from sgcldff.core.errors import InputError, SlideError
from sgcldff.core.geometry import Shape

ROLES = r"label|macro|thumb(?:nail)?|overview|barcode|preview|map|mask"
NAMED_ROLE = re.compile(rf"(?<![a-z])({ROLES})(?![a-z])", re.IGNORECASE)
"""A role anywhere in a picture's name; "macrophage" is none."""
DESCRIBED_ROLE = re.compile(rf"^\W*(?:{ROLES})(?![a-z])", re.IGNORECASE | re.MULTILINE)
"""A role at the beginning of a line of a description, where scanners write it."""
RIVAL = 0.3
"""Share of the largest picture's area from which another one may be meant as well; levels of a pyramid are smaller."""
FRAGMENT = re.compile(r"#((?:page|z)=\d+(?:&(?:page|z)=\d+)*)$")
LISTED_AT_MOST = 12


@dataclass(frozen=True)
class Plane:
    """What of a file is meant, counted from 1; None where only one is there to choose."""

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


UNNAMED = Plane()
"""Nothing was named: the one that is there is meant."""


@dataclass(frozen=True)
class Candidate:
    """A picture that a file holds."""

    shape: Shape
    name: str = ""
    """As the file gives it."""
    aside: bool = False
    """It is a label, a macro picture, a thumbnail or a mask."""
    reduced: bool = False
    """It is said to be a smaller copy of another one."""

    def __str__(self) -> str:
        height, width = self.shape
        return f"{f'{self.name!r}, ' if self.name else ''}{width} x {height} px"


def split_plane(uri: str) -> tuple[str, Plane]:
    """Split what is named as `slide.tif#page=2` or `slide.zarr#z=5` into the file and the plane."""
    found = FRAGMENT.search(uri)
    if found is None:
        return uri, Plane()
    return uri[: found.start()], Plane(**{name: int(number) for name, number in parse_qsl(found[1])})


def has_role(name: str, description: str = "") -> bool:
    """Tell by its name or its description that a picture is a label, a macro picture, a thumbnail or a mask."""
    return bool(NAMED_ROLE.search(name) or DESCRIBED_ROLE.search(description))


def choose_picture(path: Path, candidates: Sequence[Candidate], page: int | None) -> int:
    """Choose a picture: the one that was named, or the largest that is no label, macro picture, thumbnail or mask.

    Raises
    ------
    SlideError
        If there is none, none of that number, or another one that may be meant as well; lists them.
    """
    eligible = [at for at, one in enumerate(candidates) if not one.aside]
    eligible = [at for at in eligible if not candidates[at].reduced] or eligible
    if not candidates:
        raise SlideError(f"{path}: its tables name no picture; copy or export it again")
    if not eligible:
        held = ", ".join(map(str, candidates))
        raise SlideError(f"{path}: holds no slide, only a label, macro picture or thumbnail ({held}); give the slide")
    if page is not None:
        return eligible[_index(path, "page", page, len(eligible))]
    areas = {at: candidates[at].shape[0] * candidates[at].shape[1] for at in eligible}
    best = max(eligible, key=areas.__getitem__)
    if sum(area > RIVAL * areas[best] for area in areas.values()) > 1:
        listed = [f"page {number} ({candidates[at]})" for number, at in enumerate(eligible[:LISTED_AT_MOST], 1)]
        raise SlideError(
            f"{path}: holds {len(eligible)} pictures: {', '.join(listed)}{', ...' * (len(eligible) > len(listed))}; say"
            f" which one is meant (--page 1, or {path.name}#page=1), or export it alone"
        )
    return best


def choose_focus(path: Path, count: int, z: int | None) -> int:
    """Choose one of the focal planes.

    Raises
    ------
    SlideError
        If there are several and none was named, or there is none of that number.
    """
    if z is not None:
        return _index(path, "z", z, count)
    if count > 1:
        raise SlideError(
            f"{path}: holds {count} focal planes (axis z); say which one is meant (--z {(count + 1) // 2}, or"
            f" {path.name}#z={(count + 1) // 2})"
        )
    return 0


def _index(path: Path, name: str, number: int, count: int) -> int:
    if number > count:
        raise SlideError(f"{path}: {name} {number} is asked for, but it has {count}; give 1 to {count}")
    return number - 1
