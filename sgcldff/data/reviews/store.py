"""The permanent store of reviews: people's answers about cells, when they gave them, and the images that they saw.

Its folder contains `reviews/*.parquet` and `crops/*.png`. Files are named after their content, only ever added, and
never rewritten, so reading the same answers twice, or in another order, changes nothing. Every file of reviews names
those that were the newest when it was added, as a commit names its parents: a file that is lost later is missed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import MissingInputError, StoreError
from sgcldff.core.parquet_file import read_table, write_table
from sgcldff.core.settings import digest

REVIEWS, CROPS = "reviews", "crops"
REVIEWS_LAYOUT = "reviews/1"
AFTER = b"sgcldff.after"
"""Metadata of a file: the names, without suffix, of those that were the newest when it was added."""
CANNOT_TELL = "cannot tell"
"""Answer of a reviewer who cannot classify a cell."""
REMEDY = "restore it from a backup, or remove what is damaged and read the answers again"


@dataclass(frozen=True)
class Review:
    """One person's answer about one cell."""

    cell_id: str
    slide_id: str
    slide_sha256: str
    x_um: float
    """Position of the cell's centre on the slide, um to the right; `y_um` downwards."""
    y_um: float
    label: str
    """A class, a type that the model lacks, words after "other: ", or `CANNOT_TELL`."""
    reviewer: str
    reviewed_at: datetime
    """UTC."""
    crop_sha256: str
    """Digest of the image that was shown, and its name in the store."""
    crop_mpp: float
    """um/px of the image."""
    told: str
    """The model's classification, possibly "unidentified"; the name is that of the stored column."""
    confidence: float
    model_name: str
    model_version: str
    model_digest: str

    @cached_property
    def id(self) -> str:
        """Digest of the cell, the answer, the reviewer and the time."""
        answer = [self.label, self.reviewer, self.reviewed_at.astimezone(UTC).isoformat(timespec="microseconds")]
        return digest([self.slide_sha256, self.cell_id, *answer])


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
    metadata={"sgcldff.layout": REVIEWS_LAYOUT},
)


@dataclass(frozen=True)
class ReviewStore:
    """A folder of reviews."""

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> "ReviewStore":
        """Open a store that contains reviews.

        Raises
        ------
        MissingInputError
            If there are none.
        """
        store = cls(Path(folder))
        if not store.files:
            raise MissingInputError(f"{folder}: contains no reviews; name the --store of `sgcldff review read`")
        return store

    @property
    def files(self) -> list[Path]:
        """Files of reviews, by name."""
        return sorted((self.folder / REVIEWS).glob("[0-9a-f]*.parquet"))

    def crop(self, sha256: str) -> Path:
        """Return the path of the image with that digest."""
        return self.folder / CROPS / f"{sha256}.png"

    def reviews(self) -> tuple[Review, ...]:
        """Read all reviews, each once, ordered by their digests.

        Raises
        ------
        StoreError
            If a file is damaged or has another layout, or one is missing that others were added after.
        """
        reviews, (_, missing) = self._stored(), self._newest_and_missing()
        if missing:
            raise StoreError(
                f"{self.folder / REVIEWS}: {', '.join(f'{name}.parquet' for name in missing)} missing, though later "
                f"answers were added after it; {REMEDY}"
            )
        return tuple(reviews[name] for name in sorted(reviews))

    def _stored(self) -> dict[str, Review]:
        return {review.id: review for file in self.files for review in _read_reviews(file)}

    def _newest_and_missing(self) -> tuple[list[str], list[str]]:
        """Return the names of the files that no other was added after, and of those that others were added after."""
        names = {file.stem for file in self.files}
        earlier = {name for file in self.files for name in _metadata(file).get(AFTER, b"").decode().split()}
        return sorted(names - earlier), sorted(earlier - names)

    def add(self, reviews: Iterable[Review], images: Mapping[str, Path]) -> int:
        """Add new reviews with their images, and return how many there were.

        Images are written first and the table atomically, so that a crash leaves no review without its image. The same
        answers as before make the same file, so that a lost file is restored by reading its answers again.

        Parameters
        ----------
        images
            Digest of an image -> its current path.
        """
        known = self._stored()
        new = {review.id: review for review in reviews if review.id not in known}
        for sha256 in sorted({review.crop_sha256 for review in new.values()}):
            if not self.crop(sha256).exists():
                with atomic_write(self.crop(sha256)) as partial:
                    partial.write_bytes(images[sha256].read_bytes())
        if new:
            rows = [{"review_id": name, **asdict(new[name])} for name in sorted(new)]
            newest, _ = self._newest_and_missing()
            schema = REVIEW_SCHEMA.with_metadata({**REVIEW_SCHEMA.metadata, AFTER: " ".join(newest)})
            table = pa.Table.from_pylist(rows, schema=schema)
            write_table(self.folder / REVIEWS / f"{digest(sorted(new))}.parquet", table)
        return len(new)


def is_store(folder: Path) -> bool:
    """Return whether a folder is a store of reviews."""
    files = ReviewStore(folder).files
    return bool(files) and _layout(files[0]) == REVIEWS_LAYOUT


def _layout(file: Path) -> str:
    return _metadata(file).get(b"sgcldff.layout", b"").decode(errors="replace")


def _metadata(file: Path) -> dict[bytes, bytes]:
    """Return a file's metadata; empty if it is no Parquet file."""
    try:
        return pq.read_schema(file).metadata or {}
    except (OSError, ValueError, pa.ArrowException):  # ValueError: names that are not UTF-8
        return {}


def _read_reviews(file: Path) -> list[Review]:
    if _layout(file) != REVIEWS_LAYOUT:
        raise StoreError(f"{file}: damaged or not of layout {REVIEWS_LAYOUT}; {REMEDY}")
    try:
        rows = read_table(file, REMEDY, REVIEW_SCHEMA).drop(["review_id"]).to_pylist()
        reviews = [Review(**(row | {"reviewed_at": row["reviewed_at"].astimezone(UTC)})) for row in rows]
        named = digest(sorted(review.id for review in reviews))
    except (ValueError, AttributeError, OverflowError) as error:
        raise StoreError(f"{file}: damaged ({error}); {REMEDY}") from error
    if named != file.stem:
        raise StoreError(f"{file}: damaged (its reviews are those of {named}.parquet); {REMEDY}")
    return reviews
