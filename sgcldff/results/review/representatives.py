"""Cells that together represent all cells, on whose types a model is calibrated.

They are the medoids of k-means clusters of the embeddings, whether the model was sure of them or not: a model that was
calibrated on the cells of which it was least sure misjudges the shares of the types.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Floats
from sgcldff.core.geometry import Box, Place
from sgcldff.core.settings import InferSpec
from sgcldff.models.runtimes import Runtime
from sgcldff.saliency.priors import build
from sgcldff.slides import ScaledSlide, SlideSource

CELLS_DRAWN = 400
"""Cells among which representatives are sought, drawn by chance from all slides."""
CELLS_AT_ONCE = 32


def embed_cells(source: SlideSource, places: Sequence[Place], runtime: Runtime) -> Floats:
    """Return the embeddings, (N, D), of the cells at places (y, x) in px of level 0.

    Raises
    ------
    SlideError
        If the slide is damaged there.
    """
    slide, priors = ScaledSlide(source, runtime.spec.mpp), build(runtime.spec.prior)
    side, margin = runtime.spec.crop_px, InferSpec().halo_px
    inner = Box(0, 0, side, side).shift(margin, margin).slices
    parts = []
    for at in range(0, len(places), CELLS_AT_ONCE):
        corners = [[round(end / slide.factor - side / 2) for end in place] for place in places[at : at + CELLS_AT_ONCE]]
        seen = np.stack([slide.read_mirrored(Box(y, x, y + side, x + side).grow(margin)) for y, x in corners])
        prior = np.stack([priors(rgb)[:, *inner] for rgb in seen])
        parts.append(runtime.classify(np.ascontiguousarray(seen[:, *inner]), prior).embedding)
    return np.concatenate(parts)


def representatives(embeddings: Floats, number: int) -> NDArray[np.intp]:
    """Return the indices of at most `number` cells, given the embeddings (N, D) of all."""
    if len(embeddings) <= number:
        return np.arange(len(embeddings))
    from sklearn.cluster import KMeans  # slow to import, and needed for a calibration only

    clusters = KMeans(number, n_init=4, random_state=0).fit(embeddings)
    return np.unique(clusters.transform(embeddings).argmin(axis=0))
