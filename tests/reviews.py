"""Stores of reviews, as if people had classified the cells in the middle of images."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from sgcldff.core.records import Sample
from sgcldff.data.reviews.store import Review, ReviewStore
from sgcldff.slides.images import sha256_of


def write_reviews(folder: Path, samples: Iterable[Sample], slide: str = "") -> Path:
    """Store a review of each image with its own label; its group is its slide, unless one is named."""
    store, images, reviews = ReviewStore(folder), {}, []
    for number, sample in enumerate(samples):
        sha256 = sha256_of(sample.image)
        images[sha256] = Path(sample.image)
        reviews.append(
            Review(
                cell_id=sample.id,
                slide_id=slide or sample.group,
                slide_sha256=slide or sample.group,
                x_um=100.0 * number,
                y_um=0.0,
                label=sample.label,
                reviewer="Ada",
                reviewed_at=datetime(2026, 11, 1, tzinfo=UTC),
                crop_sha256=sha256,
                crop_mpp=sample.mpp,
                told="unidentified",
                confidence=0.5,
                model_name="sgcldff",
                model_version="1",
                model_digest="ab" * 8,
            )
        )
    store.add(reviews, images)
    return folder
