"""Features of images and their cells by which drift is measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Floats

MAX_OBSERVATIONS = 1500
"""Images, and cells, that represent a set: distances between all pairs of them are computed."""


@dataclass(frozen=True, eq=False)
class Observations:
    """N images and the M cells on them."""

    groups: NDArray[np.int64]
    """Code of each image's patient, slide or cluster of near-duplicates; (N,)."""
    labels: tuple[str, ...]
    """Label of each image; empty if unlabelled."""
    stain: Floats
    """Mean and standard deviation of the optical density of R, G, B where stained; (N, 6)."""
    coverage: Floats
    """Share of each image's pixels where a prior is at least one half; (N, P) in [0, 1]."""
    owners: NDArray[np.int64]
    """Index of the image of each cell; (M,)."""
    types: tuple[str, ...]
    """Class of each cell; empty if unknown."""
    embedding: Floats
    """Features from which the model classifies each cell; (M, D)."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Sequence[int] | NDArray[np.int64]) -> "Observations":
        """Select images, by distinct indices, with their cells."""
        images = np.asarray(chosen, np.int64)
        new_index = np.full(len(self), -1)
        new_index[images] = np.arange(len(images))
        cells = np.flatnonzero(new_index[self.owners] >= 0)
        return Observations(
            self.groups[images],
            tuple(self.labels[image] for image in images),
            self.stain[images],
            self.coverage[images],
            new_index[self.owners[cells]],
            tuple(self.types[cell] for cell in cells),
            self.embedding[cells],
        )

    def sampled(self, seed: int, most: int = MAX_OBSERVATIONS) -> "Observations":
        """Sample at most `most` images, and at most `most` of their cells, at random but in order."""
        rng = np.random.default_rng(seed)
        images = self if len(self) <= most else self.take(np.sort(rng.permutation(len(self))[:most]))
        if len(images.owners) <= most:
            return images
        cells = np.sort(rng.permutation(len(images.owners))[:most])
        types = tuple(images.types[cell] for cell in cells)
        return replace(images, owners=images.owners[cells], types=types, embedding=images.embedding[cells])
