"""The differential: how many cells of each type were counted, and how far chance may have moved their shares."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from sgcldff.core.errors import InputError, LabelError, MissingInputError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.labels import NOT_WHITE, SUBTYPES, cannot_tell
from sgcldff.core.proportions import Clustering, clustering, exact_interval
from sgcldff.core.records import UNIDENTIFIED, Lineage, ScaleSource
from sgcldff.core.settings import require
from sgcldff.core.wording import PURPOSE
from sgcldff.counting.alerts import alerts
from sgcldff.counting.confusion import AdjustedShare, Confusion, adjusted_shares
from sgcldff.counting.specimen import LaboratoryFigures, Specimen
from sgcldff.slides.red_cells import RedCellScale

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

PRELIMINARY = "preliminary"
"""Status of a differential that nobody has signed."""
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
class CountBeside:
    """Cells that are no white cells, and how many there are per 100 white cells."""

    label: str
    count: int
    per_100: float | None
    """Cells per 100 white cells; None, as the ends of its interval, where no white cell was counted."""
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SlideScale:
    """The scale at which a slide was read, beside what its red cells say."""

    mpp: float
    """um/px of level 0."""
    source: ScaleSource
    red_cells: RedCellScale | None
    """None where too few single red cells were found."""

    @property
    def doubt(self) -> str:
        """Say that the red cells contradict the scale; empty where they do not, or it is theirs."""
        seen = self.red_cells
        if self.source is ScaleSource.RED_CELLS or seen is None or not seen.contradicts(self.mpp):
            return ""
        return (
            f"the scale is probably wrong: {self.mpp:.3g} um/px according to {self.source}, but red cells suggest"
            f" {seen}; if it is right, they are unusually large or small"
        )


@dataclass(frozen=True)
class Differential:
    """Counts, shares and intervals of all types."""

    shares: tuple[ClassShare, ...]
    counted: int
    """Classified white cells: the denominator of the shares."""
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
    groups: tuple[ClassShare, ...] = ()
    """Broader types, all of whose subtypes are among the shares: a differential of five types beside one of nine."""
    beside: tuple[CountBeside, ...] = ()
    """Types that are no white cells, such as nucleated red cells; not included in the shares."""
    foreign: tuple[str, ...] = ()
    """Types of shares and `beside` that the model does not have: people named them."""
    specimen: Specimen | None = None
    """What the laboratory knows of the blood; None where it said nothing."""
    scale: SlideScale | None = None
    """None where only cells were counted."""
    version: int = VERSION

    def __getitem__(self, label: str) -> ClassShare:
        """Return the part of one type, or of a broader one.

        Raises
        ------
        LabelError
            If the differential has no such type.
        """
        for share in (*self.shares, *self.groups):
            if share.label == label:
                return share
        raise LabelError(f"the differential has no type {label!r}; it has {', '.join(s.label for s in self.shares)}")

    @property
    def classes(self) -> tuple[str, ...]:
        """All types: white cells, then those counted beside them."""
        return (*(share.label for share in self.shares), *(one.label for one in self.beside))

    @property
    def counts(self) -> dict[str, int]:
        """Cells by type, and those left unidentified."""
        white = {share.label: share.count for share in self.shares}
        return white | {one.label: one.count for one in self.beside} | {UNIDENTIFIED: self.rejected}

    @property
    def cannot_tell(self) -> tuple[str, ...]:
        """Types that matter in a smear and that the model does not have."""
        return cannot_tell(label for label in self.classes if label not in self.foreign)

    @property
    def laboratory(self) -> LaboratoryFigures:
        """Absolute counts, and what lies outside the reference intervals."""
        return LaboratoryFigures(self)

    def measured_at(self, scale: SlideScale) -> "Differential":
        """Record the scale of the slide; a doubt about it is the first flag, since every type depends on it."""
        return replace(self, scale=scale, flags=(*([scale.doubt] if scale.doubt else []), *self.flags))

    def adjusted_for(self, confusion: Confusion | None, min_confidence: float = 0.0) -> "Differential":
        """Add shares adjusted for a model's confusion, if it is known and of the same types."""
        if confusion is None or set(self.classes) != set(confusion.classes):
            return self
        confusion = confusion.among([share.label for share in self.shares])
        clusters, total = self.interval.clusters, self.counted + self.rejected
        weight = clusters.effective(total, self.interval.level) / total if clusters and total else 1.0
        effective = {label: self.counts[label] * weight for label in (*confusion.classes, UNIDENTIFIED)}
        adjusted = adjusted_shares(effective, confusion, min_confidence, self.interval.level)
        shares = tuple(replace(share, adjusted=adjusted.get(share.label)) for share in self.shares)
        return replace(self, shares=shares)

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-ready form; `from_dict` reads it back."""
        beside = {"alerts": alerts(self), "cannot_tell": list(self.cannot_tell), "purpose": PURPOSE}
        return asdict(self) | (self.laboratory.to_dict() if self.specimen else {}) | beside

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
            return TypeAdapter(cls).validate_python(data) if version == VERSION else _former(data)
        except (KeyError, TypeError, ValidationError) as error:
            raise InputError(
                f"not a differential ({error}); its keys are {', '.join(cls.__dataclass_fields__)}"
            ) from error


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
    own = {label: counts.get(label, 0) for label in classes}
    white = {label: count for label, count in own.items() if label not in NOT_WHITE}
    counted, rejected = sum(white.values()), counts.get(UNIDENTIFIED, 0)
    broad = {
        name: sum(white[label] for label in fine)
        for name, fine in SUBTYPES.items()
        if name not in white and white.keys() >= {*fine}
    }
    take = partial(_share, counted=counted, unidentified=rejected, method=method)
    return Differential(
        shares=tuple(take(label, count) for label, count in white.items()),
        counted=counted,
        rejected=rejected,
        confidence=confidence,
        flags=_flags(counted, rejected, excluded, method.clusters),
        interval=method,
        excluded=excluded,
        groups=tuple(take(label, count) for label, count in broad.items()),
        beside=tuple(_per_100(label, own[label], counted, method) for label in own if label in NOT_WHITE),
    )


def from_parts(
    parts: Sequence[Mapping[str, int]], classes: Iterable[str], confidence: float = 0.95, excluded: int = 0
) -> Differential:
    """Make a differential of counts by part of the slide: intervals allow for cells of one part being alike."""
    classes, total = tuple(classes), sum(map(Counter, parts), Counter[str]())
    white = [label for label in classes if label not in NOT_WHITE]
    table = np.array([[part.get(label, 0) for label in white] for part in parts], int).reshape(-1, len(white))
    return from_counts(total, classes, confidence, excluded, IntervalMethod(confidence, clusters=clustering(table)))


def _share(label: str, count: int, counted: int, unidentified: int, method: IntervalMethod) -> ClassShare:
    ends = partial(exact_interval, confidence=method.level, clusters=method.clusters)
    lowest, _ = ends(count, counted + unidentified)
    _, highest = ends(count + unidentified, counted + unidentified)
    return ClassShare(label, count, count / max(counted, 1), *ends(count, counted), lowest, highest)


def _per_100(label: str, count: int, white: int, method: IntervalMethod) -> CountBeside:
    """Count cells per 100 white ones; the interval is that of their share p of both together, as p / (1 - p)."""
    if not white:
        return CountBeside(label, count, None, None, None)
    low, high = exact_interval(count, count + white, method.level, method.clusters)
    return CountBeside(label, count, 100 * count / white, 100 * low / (1 - low), 100 * high / (1 - high))


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
    content = {
        "slide_id": slide_id,
        "status": PRELIMINARY,
        "orientation": orientation,
        **found.to_dict(),
        "lineage": asdict(lineage),
    }
    return write_json(path, content)


def read_differential(path: str | Path) -> Differential:
    """Read what `write_differential` wrote.

    Raises
    ------
    InputError
        If there is no such file, or it is damaged or not a differential.
    """
    try:
        return Differential.from_dict(read_json(path, "read the slide again"))
    except MissingInputError as error:
        raise MissingInputError(f"{path}: no such differential: read the slide") from error
    except StoreError as error:
        raise InputError(str(error)) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
