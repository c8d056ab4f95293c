"""What people made of a slide's results, and whether it is of the results that lie there now."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.wording import counted, moment
from sgcldff.counting.differential import PRELIMINARY, Differential
from sgcldff.results.folder import (
    CELLS,
    DIFFERENTIAL,
    EARLIER,
    READ_AGAIN,
    REVIEWED_CELLS,
    REVIEWED_DIFFERENTIAL,
    SIGNED,
)
from sgcldff.slides.images import sha256_of

READING = ("slide_sha256", "model_digest", "spec_digest")
"""What of a lineage tells one reading of a slide from another."""
SIGNED_STATUS = "signed"
"""Status of a differential that a person has signed; until then it is `PRELIMINARY`."""
RESTORE = "restore it from a backup"
APPLY_AGAIN = "apply the reviews again with `sgcldff review apply`"


Content = dict[str, Any]
"""What a JSON file holds."""


@dataclass(frozen=True)
class ReviewOutcomes:
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
    outcomes: ReviewOutcomes
    reviewers: tuple[str, ...]
    last: str | None
    """Time of the last review, UTC, in ISO 8601."""


@dataclass(frozen=True)
class Signature:
    """A person's name under a differential."""

    by: str
    at: str
    """UTC, in ISO 8601."""
    model_name: str
    model_version: str
    model_digest: str
    counted: int
    """Cells of the differential."""
    reviewed: int
    """Cells that people had looked at one by one."""
    reviewers: tuple[str, ...]
    place: str
    """Folder of the copy, below the slide's own."""

    def __str__(self) -> str:
        """Say who signed what, and when."""
        cells = f"{counted(self.counted, 'cell')} counted, {counted(self.reviewed, 'cell')} looked at one by one"
        by = f" by {', '.join(self.reviewers)}" if self.reviewers else ""
        model = f"{self.model_name} version {self.model_version}"
        return f"{self.by} on {moment(self.at)}: {model}, {cells}{by}"

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-ready form."""
        return asdict(self) | {"reviewers": list(self.reviewers)}


@dataclass(frozen=True)
class Standing:
    """What people made of a slide's results."""

    reviewed: ReviewedCounts | None = None
    """Of the present results; None where nobody reviewed them."""
    earlier: tuple[str, ...] = ()
    """Folders with reviewed results of earlier readings, below the slide's own."""
    signatures: tuple[Signature, ...] = ()
    """Under the present results, after review where they were reviewed; the latest first."""
    signed_before: tuple[Signature, ...] = ()
    """Under other results of the slide, which are kept as they were; the latest first."""
    damaged: tuple[str, ...] = ()
    """What is wrong with files that could not be read."""

    @property
    def status(self) -> str:
        """`PRELIMINARY` or `SIGNED_STATUS`."""
        return SIGNED_STATUS if self.signatures else PRELIMINARY


def read_standing(folder: Path) -> Standing:
    """Read what people made of the results in a slide's folder; damaged files are named rather than raised."""
    damaged, reviewed, present = list[str](), None, folder / DIFFERENTIAL
    if (path := folder / REVIEWED_DIFFERENTIAL).exists():
        try:
            own, content = read_json(present, READ_AGAIN), read_json(path, APPLY_AGAIN)
            with reading(path, "not a reviewed differential", APPLY_AGAIN):
                if all(own["lineage"][name] == content["lineage"][name] for name in READING):
                    reviewed, present = _reviewed(content), path
        except (InputError, StoreError) as error:
            damaged.append(str(error))
    earlier = sorted(place.relative_to(folder).as_posix() for place in folder.glob(f"{EARLIER}/*"))
    signed, faults = _signed(folder)
    own_signatures: tuple[Signature, ...] = ()
    with suppress(InputError, StoreError):  # results that cannot be read are signed by nobody
        own_signatures = signatures_of(read_json(present, READ_AGAIN), signed) if signed else ()
    before = tuple(one for one, _ in signed if one not in own_signatures)
    return Standing(reviewed, tuple(earlier), own_signatures, before, (*damaged, *faults))


def _signed(folder: Path) -> tuple[list[tuple[Signature, Content]], list[str]]:
    """Read all signatures of a slide with what was signed, the latest first, and what is wrong with damaged ones."""
    signed, faults = list[tuple[Signature, Content]](), list[str]()
    for path in folder.glob(f"{SIGNED}/*/{DIFFERENTIAL}"):
        try:
            content = read_json(path, RESTORE)
            with reading(path, "not a signed differential", RESTORE):
                signature = TypeAdapter(Signature).validate_python(content.pop("signature"))
                signed.append((signature, _without_status(content)))
        except (InputError, StoreError) as error:
            faults.append(str(error))
    return sorted(signed, key=lambda one: (one[0].at, one[0].place), reverse=True), faults


def signatures_of(content: Content, signed: Iterable[tuple[Signature, Content]]) -> tuple[Signature, ...]:
    """Choose the signatures under what a differential holds; none where it is another one now."""
    own = _without_status(content)
    return tuple(signature for signature, signed_content in signed if signed_content == own)


def unsigned(path: Path) -> Content:
    """Read a differential without its status and signature.

    Raises
    ------
    MissingInputError, StoreError
        If there is none, or it is damaged.
    """
    return _without_status(read_json(path, READ_AGAIN))


def _without_status(content: Content) -> Content:
    return {name: value for name, value in content.items() if name not in ("status", "signature")}


def mark_signed(folder: Path) -> None:
    """Say in a slide's differentials, the model's and that after review, whether they are signed as they are now."""
    signed, _ = _signed(folder)
    for path in (folder / DIFFERENTIAL, folder / REVIEWED_DIFFERENTIAL):
        try:
            content = read_json(path, READ_AGAIN)
        except (InputError, StoreError):
            continue  # `read_standing` tells
        signatures = signatures_of(content, signed)
        marked = {name: value for name, value in content.items() if name != "signature"} | {"status": PRELIMINARY}
        if signatures:
            marked |= {"status": SIGNED_STATUS, "signature": signatures[0].to_dict()}
        if marked != content:
            write_json(path, marked)


def _reviewed(content: Mapping[str, Any]) -> ReviewedCounts:
    review = content["review"]
    outcomes = TypeAdapter(ReviewOutcomes).validate_python(review)
    return ReviewedCounts(Differential.from_dict(content), outcomes, tuple(review["reviewers"]), review["last"])


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
