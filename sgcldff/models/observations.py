"""What images and their cells look like to a model, as far as drift is told from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
KEPT = 1500
"""Images, and cells, that stand for all of a set: distances between all pairs of them are looked at."""


@dataclass(frozen=True, eq=False)
class Observations:
    """N images and the M cells on them."""

    groups: NDArray[np.int64]
    """Code of each image's patient, slide or cluster of near-duplicates; (N,)."""
    labels: tuple[str, ...]
    """Label of each image; empty where there is none."""
    stain: Floats
    """Mean and standard deviation of the optical density of R, G, B where stained; (N, 6)."""
    coverage: Floats
    """Share of each image's pixels where a prior is at least one half; (N, P) in [0, 1]."""
    owners: NDArray[np.int64]
    """Image on which each cell lies; (M,)."""
    types: tuple[str, ...]
    """Class of each cell; empty where it is not known."""
    embedding: Floats
    """What the model tells a cell's type from; (M, D)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Sequence[int] | NDArray[np.int64]) -> "Observations":
        """Choose images, each once, by their places, with their cells."""
        images = np.asarray(chosen, np.int64)
        place = np.full(len(self), -1)
        place[images] = np.arange(len(images))
        cells = np.flatnonzero(place[self.owners] >= 0)
        return Observations(
            self.groups[images],
            tuple(self.labels[image] for image in images),
            self.stain[images],
            self.coverage[images],
            place[self.owners[cells]],
            tuple(self.types[cell] for cell in cells),
            self.embedding[cells],
        )

    def sampled(self, seed: int, most: int = KEPT) -> "Observations":
        """Draw at most so many images, and of their cells at most so many, at random; both stay in their order."""
        rng = np.random.default_rng(seed)
        images = self if len(self) <= most else self.take(np.sort(rng.permutation(len(self))[:most]))
        if len(images.owners) <= most:
            return images
        cells = np.sort(rng.permutation(len(images.owners))[:most])
        types = tuple(images.types[cell] for cell in cells)
        return replace(images, owners=images.owners[cells], types=types, embedding=images.embedding[cells])
