"""The differential: how many cells of each type were counted, and how far chance may have moved their shares."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError, LabelError, MissingInputError
from sgcldff.core.labels import cannot_tell
from sgcldff.core.proportions import Clustering, clustering, exact_interval
from sgcldff.core.records import UNIDENTIFIED, Lineage
from sgcldff.core.settings import require
from sgcldff.core.wording import PURPOSE
from sgcldff.counting.confusion import AdjustedShare, Confusion, adjusted_shares

FLAGS: Mapping[int, str] = {
    100: "fewer than 100 cells counted: too few for a differential, count more fields or a second smear",
    200: "fewer than 200 cells counted: intervals are wide, rare types may have been missed",
    400: "fewer than 400 cells counted: below the number of a reference differential (CLSI H20)",
}
"""Number of cells -> what is said of a differential that counted fewer; only the first that applies is said."""

MANY_UNIDENTIFIED = 0.1
"""Share of unidentified cells above which a differential is flagged."""
MANY_EXCLUDED = 0.5
"""Share of cells outside the usable area, of all that were found, above which a differential is flagged."""

VERSION = 3
"""Of the layout."""


NOT_COVERED = "errors of the model, unidentified cells, and how the smear was made"
"""What no interval of a share allows for; that of the adjusted share allows for the errors of the model."""
GOAL_FLAG = "counting "
"""Beginning of the flag that says when counting towards a goal stopped."""
ALPHA_KEPT = 0.7
"""Part of the error that intervals may spend where cells were counted until a goal was reached; the rest pays for
looking at them while counting."""


def widened_level(confidence: float) -> float:
    """Return the level at which intervals hold `confidence` although they decided when to stop counting."""
    return 1 - ALPHA_KEPT * (1 - confidence)


@dataclass(frozen=True)
class IntervalMethod:
    """How the intervals of a differential were taken."""

    level: float
    """Of each interval; above the differential's `confidence` where cells were counted towards a goal."""
    goal: Mapping[str, float] | None = None
    """Type -> width of its interval at which counting was to stop; None if everything was counted."""
    clusters: Clustering | None = None
    """How alike the cells of one shard are; None where too few shards hold cells to tell."""
    method: str = "exact binomial (Clopper-Pearson), separately for each type"
    not_covered: str = NOT_COVERED


@dataclass(frozen=True)
class ClassShare:
    """One type's part of a differential."""

    label: str
    count: int
    share: float
    """Part of the counted cells, 0 to 1; 0 where none was counted."""
    low: float
    """Lower end of the exact interval of the share; 0 where no cell was counted."""
    high: float
    """Upper end; 1 where no cell was counted."""
    lowest: float
    """Lower end if no unidentified cell is of this type."""
    highest: float
    """Upper end if all unidentified cells are of this type."""
    adjusted: AdjustedShare | None = None
    """Allows for the model's errors; None where its confusion is not known."""


@dataclass(frozen=True)
class Differential:
    """Counts, shares and intervals of all types."""

    shares: tuple[ClassShare, ...]
    counted: int
    """Classified cells: the denominator of the shares."""
    rejected: int
    """Cells found in the usable area but left unidentified; not included in the shares."""
    confidence: float
    """Level that the intervals hold; each for its type alone."""
    flags: tuple[str, ...]
    """What a reader has to know before using the figures."""
    interval: IntervalMethod
    excluded: int = 0
    """Cells found outside the smear's usable area; not included in the shares."""
    abstains: bool = True
    """Whether the model could leave cells unidentified; otherwise every cell received one of the types."""
    version: int = VERSION

    def __getitem__(self, label: str) -> ClassShare:
        """Return one type's part.

        Raises
        ------
        LabelError
            If the differential has no such type.
        """
        for share in self.shares:
            if share.label == label:
                return share
        raise LabelError(f"the differential has no type {label!r}; it has {', '.join(s.label for s in self.shares)}")

    @property
    def counts(self) -> dict[str, int]:
        """Cells by type, and those left unidentified."""
        return {share.label: share.count for share in self.shares} | {UNIDENTIFIED: self.rejected}

    @property
    def cannot_tell(self) -> tuple[str, ...]:
        """Types that matter in a smear and that these shares cannot show."""
        return cannot_tell(share.label for share in self.shares)

    def adjusted_for(self, confusion: Confusion | None, min_confidence: float = 0.0) -> "Differential":
        """Add shares adjusted for a model's confusion, if it is known and of the same types."""
        if confusion is None or [share.label for share in self.shares] != list(confusion.classes):
            return self
        clusters, total = self.interval.clusters, self.counted + self.rejected
        weight = clusters.effective(total, self.interval.level) / total if clusters and total else 1.0
        effective = {label: count * weight for label, count in self.counts.items()}
        adjusted = adjusted_shares(effective, confusion, min_confidence, self.interval.level)
        shares = tuple(replace(share, adjusted=adjusted.get(share.label)) for share in self.shares)
        return replace(self, shares=shares)

    def retaken(self, interval: IntervalMethod) -> "Differential":
        """Return the same counts with intervals taken in another way."""
        shares = _shares(self.counts, [share.label for share in self.shares], interval)
        return replace(self, shares=shares, interval=interval)

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-ready form; `from_dict` reads it back."""
        plain = asdict(self) | {"shares": [asdict(share) for share in self.shares], "flags": list(self.flags)}
        return plain | {"cannot_tell": list(self.cannot_tell), "purpose": PURPOSE}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Differential":
        """Read what `to_dict` wrote, or a former version of it; unknown keys are ignored.

        Raises
        ------
        InputError
            If a key is missing, a value is of another kind, or the version is one that is not known yet.
        """
        try:
            version = int(data["version"])  # type: ignore[call-overload]
            require(version <= VERSION, f"version is {version}, known are up to {VERSION}: update the software")
            return _current(data) if version == VERSION else _former(data)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"not a differential ({error}); its keys are {', '.join(cls.__dataclass_fields__)}"
            ) from error


def _current(data: Mapping[str, Any]) -> Differential:
    known = {name: data[name] for name in Differential.__dataclass_fields__}
    clusters = data["interval"]["clusters"]
    interval = data["interval"] | {"clusters": clusters and Clustering(**clusters)}
    shares = tuple(_share(share) for share in data["shares"])
    return Differential(
        **known | {"shares": shares, "flags": tuple(data["flags"]), "interval": IntervalMethod(**interval)}
    )


def _share(data: Mapping[str, Any]) -> ClassShare:
    return ClassShare(**{**data, "adjusted": data["adjusted"] and AdjustedShare(**data["adjusted"])})


def _former(data: Mapping[str, Any]) -> Differential:
    """Read version 1, which had no `excluded`, or 2, which did not say how intervals were taken."""
    counts = {share["label"]: share["count"] for share in data["shares"]} | {UNIDENTIFIED: data["rejected"]}
    confidence, flags = data["confidence"], tuple(data["flags"])
    for_goal = any(flag.startswith(GOAL_FLAG) for flag in flags)
    interval = IntervalMethod(widened_level(confidence) if for_goal else confidence)
    classes = [share["label"] for share in data["shares"]]
    return replace(from_counts(counts, classes, confidence, data.get("excluded", 0), interval), flags=flags)


def differential(
    labels: Iterable[str | None], classes: Iterable[str], confidence: float = 0.95, excluded: int = 0
) -> Differential:
    """Count types and give each share's exact binomial interval (Clopper and Pearson, Biometrika 26, 1934).

    Parameters
    ----------
    labels
        One label per cell of the usable area; None or "unidentified" for a cell that was not classified.
    classes
        Types in the order in which they are reported, counted or not.
    excluded
        Cells found outside the usable area.

    Raises
    ------
    LabelError
        If a label is not one of the classes.
    InputError
        If `confidence` is not between 0.5 and 1.
    """
    counts = Counter(UNIDENTIFIED if label is None else label for label in labels)
    return from_counts(counts, classes, confidence, excluded)


def from_counts(
    counts: Mapping[str, int],
    classes: Iterable[str],
    confidence: float = 0.95,
    excluded: int = 0,
    interval: IntervalMethod | None = None,
) -> Differential:
    """Make a differential of cells that were counted already, by type or "unidentified"; otherwise `differential`.

    Parameters
    ----------
    interval
        How intervals are taken; by default at `confidence`, as of independent cells.

    Raises
    ------
    LabelError, InputError
        As `differential`.
    """
    require(0.5 < confidence < 1, f"confidence is {confidence}: give more than 0.5, less than 1")
    classes, method = tuple(classes), interval or IntervalMethod(confidence)
    if unknown := counts.keys() - {*classes, UNIDENTIFIED}:
        raise LabelError(f"labels {', '.join(sorted(unknown))} are unknown; the classes are {', '.join(classes)}")
    counted, rejected = sum(counts.get(label, 0) for label in classes), counts.get(UNIDENTIFIED, 0)
    flags = _flags(counted, rejected, excluded, method.clusters)
    return Differential(_shares(counts, classes, method), counted, rejected, confidence, flags, method, excluded)


def from_parts(
    parts: Sequence[Mapping[str, int]], classes: Iterable[str], confidence: float = 0.95, excluded: int = 0
) -> Differential:
    """Make a differential of counts by part of the slide: intervals allow for cells of one part being alike."""
    classes, total = tuple(classes), sum(map(Counter, parts), Counter[str]())
    table = np.array([[part.get(label, 0) for label in classes] for part in parts], int).reshape(-1, len(classes))
    return from_counts(total, classes, confidence, excluded, IntervalMethod(confidence, clusters=clustering(table)))


def _shares(counts: Mapping[str, int], classes: Iterable[str], method: IntervalMethod) -> tuple[ClassShare, ...]:
    own = {label: counts.get(label, 0) for label in classes}
    counted, open_cells = sum(own.values()), counts.get(UNIDENTIFIED, 0)
    ends = partial(exact_interval, confidence=method.level, clusters=method.clusters)
    return tuple(
        ClassShare(
            label,
            count,
            count / max(counted, 1),
            *ends(count, counted),
            ends(count, counted + open_cells)[0],
            ends(count + open_cells, counted + open_cells)[1],
        )
        for label, count in own.items()
    )


def _flags(counted: int, rejected: int, excluded: int, clusters: Clustering | None) -> tuple[str, ...]:
    usable = counted + rejected
    few = [text for limit, text in sorted(FLAGS.items()) if counted < limit][:1]
    share, outside = rejected / max(usable, 1), excluded / max(usable + excluded, 1)
    many = [f"{share:.0%} of the cells found were left unidentified: review them"] if share > MANY_UNIDENTIFIED else []
    beyond = [f"{outside:.0%} of the cells found lie outside the usable area and were not counted: check the smear"]
    uneven = (
        [f"the types are unevenly spread over the smear: intervals are {clusters.design_effect**0.5:.1f} times as wide"]
        if clusters is not None and clusters.uneven()
        else []
    )
    return (*few, *many, *(beyond if outside > MANY_EXCLUDED else []), *uneven)


def write_differential(
    path: str | Path, found: Differential, slide_id: str, lineage: Lineage, orientation: int = 1
) -> Path:
    """Write a slide's differential as JSON, with where it comes from; the file appears whole or not at all.

    Parameters
    ----------
    orientation
        How the stored picture was turned, 1 to 8 as in EXIF: the places of all results are those of the upright slide.
    """
    path = Path(path)
    content = {"slide_id": slide_id, "orientation": orientation, **found.to_dict(), "lineage": asdict(lineage)}
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_differential(path: str | Path) -> Differential:
    """Read what `write_differential` wrote.

    Raises
    ------
    InputError
        If there is no such file, or it is not JSON or not a differential.
    """
    try:
        return Differential.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such differential: read the slide") from error
    except (json.JSONDecodeError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{path}: {error}") from error
