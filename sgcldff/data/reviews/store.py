"""The durable store of reviews: what people said of cells, when, and the pictures that they saw.

Below its folder lie `reviews/*.parquet`, to which files are only ever added, each named after its content, and
`crops/*.png`, named after theirs. What is there already is never written again, so reading the same answers twice, or
in another order, changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import MissingInputError, StoreError
from sgcldff.core.settings import digest

REVIEWS, CROPS = "reviews", "crops"
LAYOUT = "reviews/1"
CANNOT_TELL = "cannot tell"
"""Answer of a reviewer who cannot tell a cell's type."""


@dataclass(frozen=True)
class Review:
    """What one person said of one cell."""

    cell_id: str
    slide_id: str
    slide_sha256: str
    x_um: float
    """The cell's centre on the slide, um to the right; `y_um` downwards."""
    y_um: float
    label: str
    """A class, or `CANNOT_TELL`."""
    reviewer: str
    reviewed_at: datetime
    """UTC."""
    crop_sha256: str
    """Of the picture that was seen; it lies in the store under this name."""
    crop_mpp: float
    """um/px of the picture."""
    told: str
    """What the model had told, "unidentified" included."""
    confidence: float
    model_name: str
    model_version: str
    model_digest: str

    @cached_property
    def id(self) -> str:
        """Digest of what was said, by whom, when and of which cell."""
        said = [self.label, self.reviewer, self.reviewed_at.astimezone(UTC).isoformat(timespec="microseconds")]
        return digest([self.slide_sha256, self.cell_id, *said])


REVIEW_SCHEMA = pa.schema(
    [
        ("review_id", pa.string()),
        *((name, pa.string()) for name in ("cell_id", "slide_id", "slide_sha256")),
        *((name, pa.float64()) for name in ("x_um", "y_um")),
        *((name, pa.string()) for name in ("label", "reviewer")),
        ("reviewed_at", pa.timestamp("us", "UTC")),
        ("crop_sha256", pa.string()),
        ("crop_mpp", pa.float64()),
        ("told", pa.string()),
        ("confidence", pa.float64()),
        *((name, pa.string()) for name in ("model_name", "model_version", "model_digest")),
    ],
    metadata={"sgcldff.layout": LAYOUT},
)


@dataclass(frozen=True)
class ReviewStore:
    """A folder of reviews."""

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> "ReviewStore":
        """Open a store that holds reviews.

        Raises
        ------
        MissingInputError
            If there is none.
        """
        store = cls(Path(folder))
        if not store.parts:
            raise MissingInputError(f"{folder}: holds no reviews; name the --store of `sgcldff review read`")
        return store

    @property
    def parts(self) -> list[Path]:
        """Files of reviews, by name."""
        return sorted((self.folder / REVIEWS).glob("[0-9a-f]*.parquet"))

    def crop(self, sha256: str) -> Path:
        """Name the picture with that digest."""
        return self.folder / CROPS / f"{sha256}.png"

    def reviews(self) -> tuple[Review, ...]:
        """Read all reviews, each once, ordered by their digests.

        Raises
        ------
        StoreError
            If a file is damaged or of another layout.
        """
        found = {review.id: review for part in self.parts for review in _read(part)}
        return tuple(found[name] for name in sorted(found))

    def add(self, reviews: Iterable[Review], pictures: Mapping[str, Path]) -> int:
        """Add the reviews that are not there yet, with their pictures, and say how many those are.

        Pictures come first and the table appears whole, so that a crash leaves no review without its picture.

        Parameters
        ----------
        pictures
            Digest of a picture -> where it lies now.
        """
        known = {review.id for review in self.reviews()}
        fresh = {review.id: review for review in reviews if review.id not in known}
        for sha256 in sorted({review.crop_sha256 for review in fresh.values()}):
            if not self.crop(sha256).exists():
                with atomic_write(self.crop(sha256)) as partial:
                    partial.write_bytes(pictures[sha256].read_bytes())
        if fresh:
            rows = [_row(fresh[name]) for name in sorted(fresh)]
            with atomic_write(self.folder / REVIEWS / f"{digest(sorted(fresh))}.parquet") as partial:
                pq.write_table(pa.Table.from_pylist(rows, schema=REVIEW_SCHEMA), partial, compression="zstd")
        return len(fresh)


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store of reviews."""
    parts = ReviewStore(folder).parts
    return bool(parts) and _layout(parts[0]) == LAYOUT


def _row(review: Review) -> dict[str, object]:
    return {"review_id": review.id, **asdict(review)}


def _layout(part: Path) -> str:
    try:
        metadata: dict[bytes, bytes] = pq.read_schema(part).metadata or {}
    except (OSError, pa.ArrowException):
        return ""
    return metadata.get(b"sgcldff.layout", b"").decode()


def _read(part: Path) -> list[Review]:
    if _layout(part) != LAYOUT:
        raise StoreError(
            f"{part}: damaged or not of layout {LAYOUT}; put it back from a copy, or read its answers again"
        )
    rows = pq.read_table(part, schema=REVIEW_SCHEMA).drop(["review_id"]).to_pylist()
    return [
        replace(review, reviewed_at=review.reviewed_at.astimezone(UTC)) for review in (Review(**row) for row in rows)
    ]
