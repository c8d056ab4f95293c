"""Reviewed cells, from the store that `sgcldff review read` fills."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.records import Sample
from sgcldff.data.adapters.base import Adapter, Rejected
from sgcldff.data.reviews.consensus import Consensus, consensus_of
from sgcldff.data.reviews.store import ReviewStore, is_store
from sgcldff.slides.images import sha256_of

SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Reviewed(Adapter):
    """One sample per cell on whose type most reviewers agree; the group is the slide, by its digest."""

    def recognises(self, folder: Path) -> bool:
        """Look for reviews."""
        return is_store(folder)

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the cells whose type is agreed on; cells that cannot be classified have no label."""
        if not is_store(folder):
            raise self.not_found(folder, "reviews/*.parquet")
        store = ReviewStore.open(folder)
        for consensus in consensus_of(store.reviews()):
            if consensus.label is not None:
                yield self._sample(store, consensus, consensus.label)

    def _sample(self, store: ReviewStore, consensus: Consensus, label: str) -> Sample | Rejected:
        review, slide = consensus.latest, f"{self.name}/{consensus.slide_sha256}"
        name = f"{slide}/x{review.x_um:.0f}-y{review.y_um:.0f}"
        if not SHA256.fullmatch(review.crop_sha256):
            return Rejected(name, f"{store.folder}: the review of {review.cell_id} has no image: read it again")
        image = store.crop(review.crop_sha256)
        if not image.is_file() or sha256_of(image) != review.crop_sha256:
            return Rejected(name, f"{image}: missing or damaged; restore it from a backup")
        return Sample(name, self.name, slide, str(image), review.crop_mpp, self.licence, label=label)


ADAPTER = Reviewed(
    name="reviewed",
    title="reviewed cells",
    licence="its owner's",
    url="",
    instructions="name the --store of `sgcldff review read`",
    own_scale=True,
)
