"""The differential: how many cells of each type were counted, and how far chance may have moved their shares."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sgcldff.core.errors import InputError, LabelError, MissingInputError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.records import UNIDENTIFIED, Lineage
from sgcldff.core.settings import require

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

VERSION = 2
"""Of the layout; version 1 had no `excluded`."""


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


@dataclass(frozen=True)
class Differential:
    """Counts, shares and intervals of all types."""

    shares: tuple[ClassShare, ...]
    counted: int
    """Classified cells: the denominator of the shares."""
    rejected: int
    """Cells found in the usable area but left unidentified; not included in the shares."""
    confidence: float
    """Level of the intervals; each holds for its type alone."""
    flags: tuple[str, ...]
    """What a reader has to know before using the figures."""
    excluded: int = 0
    """Cells found outside the smear's usable area; not included in the shares."""
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

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-ready form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Differential":
        """Read what `to_dict` wrote, or version 1 of it; unknown keys are ignored.

        Raises
        ------
        InputError
            If a key is missing, a value is of another kind, or the version is one that is not known yet.
        """
        try:
            version = int(data["version"])  # type: ignore[call-overload]
            require(version <= VERSION, f"version is {version}, known are up to {VERSION}: update the software")
            return TypeAdapter(cls).validate_python({**data, "version": VERSION})
        except (KeyError, TypeError, ValidationError) as error:
            raise InputError(
                f"not a differential ({error}); its keys are {', '.join(cls.__dataclass_fields__)}"
            ) from error


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
    counts: Mapping[str, int], classes: Iterable[str], confidence: float = 0.95, excluded: int = 0
) -> Differential:
    """Make a differential of cells that were counted already, by type or "unidentified"; otherwise `differential`.

    Raises
    ------
    LabelError, InputError
        As `differential`.
    """
    require(0.5 < confidence < 1, f"confidence is {confidence}: give more than 0.5, less than 1")
    classes = tuple(classes)
    if unknown := counts.keys() - {*classes, UNIDENTIFIED}:
        raise LabelError(f"labels {', '.join(sorted(unknown))} are unknown; the classes are {', '.join(classes)}")
    counted = sum(counts.get(label, 0) for label in classes)
    shares = tuple(_share(label, counts.get(label, 0), counted, confidence) for label in classes)
    rejected = counts.get(UNIDENTIFIED, 0)
    return Differential(shares, counted, rejected, confidence, _flags(counted, rejected, excluded), excluded)


def _share(label: str, count: int, counted: int, confidence: float) -> ClassShare:
    return ClassShare(label, count, count / max(counted, 1), *exact_interval(count, counted, confidence))


def exact_interval(count: int, counted: int, confidence: float) -> tuple[float, float]:
    """Return the ends of a share's interval (Clopper and Pearson); 0 and 1 where no cell was counted."""
    if counted == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # takes longer to load than to check all that a command is given

    interval = binomtest(count, counted).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def _flags(counted: int, rejected: int, excluded: int) -> tuple[str, ...]:
    usable = counted + rejected
    few = [text for limit, text in sorted(FLAGS.items()) if counted < limit][:1]
    share, outside = rejected / max(usable, 1), excluded / max(usable + excluded, 1)
    many = [f"{share:.0%} of the cells found were left unidentified: review them"] if share > MANY_UNIDENTIFIED else []
    beyond = [f"{outside:.0%} of the cells found lie outside the usable area and were not counted: check the smear"]
    return (*few, *many, *(beyond if outside > MANY_EXCLUDED else []))


def write_differential(
    path: str | Path, found: Differential, slide_id: str, lineage: Lineage, orientation: int = 1
) -> Path:
    """Write a slide's differential as JSON, with where it comes from; the file appears whole or not at all.

    Parameters
    ----------
    orientation
        How the stored picture was turned, 1 to 8 as in EXIF: the places of all results are those of the upright slide.
    """
    content = {"slide_id": slide_id, "orientation": orientation, **found.to_dict(), "lineage": asdict(lineage)}
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
