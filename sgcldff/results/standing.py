"""What people made of a slide's results, and whether it is of the results that lie there now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, StoreError
from sgcldff.core.json_file import read_json
from sgcldff.counting.differential import Differential
from sgcldff.results.folder import CELLS, DIFFERENTIAL, EARLIER, REVIEWED_CELLS, REVIEWED_DIFFERENTIAL
from sgcldff.slides.images import sha256_of

READING = ("slide_sha256", "model_digest", "spec_digest")
"""What of a lineage tells one reading of a slide from another."""
APPLY_AGAIN = "apply the reviews again with `sgcldff review apply`"


@dataclass(frozen=True)
class Tally:
    """Reviews of a slide's cells by outcome; the first four make up `reviewed`."""

    named: int = 0
    """The model left the cell unidentified, and a person classified it."""
    confirmed: int = 0
    """A person confirmed the predicted type."""
    changed: int = 0
    """A person named another type, or none."""
    open: int = 0
    """The model left the cell unidentified, and so did the reviewers."""
    lost: int = 0
    """Reviews that fit no cell of these results, which are of another run."""

    @property
    def reviewed(self) -> int:
        """Cells of these results that were reviewed."""
        return self.named + self.confirmed + self.changed + self.open


@dataclass(frozen=True)
class ReviewedCounts:
    """A slide's differential after review."""

    differential: Differential
    tally: Tally
    reviewers: tuple[str, ...]
    last: str | None
    """Time of the last review, UTC, in ISO 8601."""


@dataclass(frozen=True)
class Standing:
    """What people made of a slide's results."""

    reviewed: ReviewedCounts | None = None
    """Of the present results; None where nobody reviewed them."""
    earlier: tuple[str, ...] = ()
    """Folders with reviewed results of earlier readings, below the slide's own."""
    damaged: tuple[str, ...] = ()
    """What is wrong with files that could not be read."""


def read_standing(folder: Path) -> Standing:
    """Read what people made of the results in a slide's folder; damaged files are named rather than raised."""
    damaged, reviewed = list[str](), None
    if (path := folder / REVIEWED_DIFFERENTIAL).exists():
        try:
            own, content = read_json(folder / DIFFERENTIAL, "read the slide again"), read_json(path, APPLY_AGAIN)
            with reading(path, "not a reviewed differential", APPLY_AGAIN):
                if all(own["lineage"][name] == content["lineage"][name] for name in READING):
                    reviewed = _reviewed(content)
        except (InputError, StoreError) as error:
            damaged.append(str(error))
    earlier = sorted(place.relative_to(folder).as_posix() for place in folder.glob(f"{EARLIER}/*"))
    return Standing(reviewed, tuple(earlier), tuple(damaged))


def _reviewed(content: Mapping[str, Any]) -> ReviewedCounts:
    review = content["review"]
    tally = TypeAdapter(Tally).validate_python(review)
    return ReviewedCounts(Differential.from_dict(content), tally, tuple(review["reviewers"]), review["last"])


def set_earlier_review_aside(folder: Path) -> Path | None:
    """Move reviewed results into a folder below `EARLIER` if they are of other cells than `CELLS`; None if not.

    Nothing that people did is lost when a slide is read with another model or other settings. The folder is named after
    the content, so that an interrupted move goes on where it stopped.
    """
    present = [folder / name for name in (REVIEWED_CELLS, REVIEWED_DIFFERENTIAL) if (folder / name).exists()]
    if not present or _same_cells(folder):
        return None
    aside = folder / EARLIER / sha256_of(present[-1])[:16]
    aside.mkdir(parents=True, exist_ok=True)
    for path in present:
        path.replace(aside / path.name)
    return aside


def _same_cells(folder: Path) -> bool:
    columns = ["cell_id", "label", "counted", *READING]
    try:
        reviewed, read = (pq.read_table(folder / name, columns=columns) for name in (REVIEWED_CELLS, CELLS))
    except (OSError, pa.ArrowException):
        return False
    return bool(reviewed.equals(read))
