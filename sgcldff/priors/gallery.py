"""A picture of images beside their priors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sgcldff.images import read_rgb
from sgcldff.records import Sample
from sgcldff.store import PriorStore

ROWS = 12


def prior_gallery(samples: Sequence[Sample], store: PriorStore, path: str | Path) -> Path:
    """Draw up to 12 images, evenly spread over `samples`, each beside its priors, and write a PNG."""
    chosen = [samples[place] for place in np.linspace(0, len(samples) - 1, min(ROWS, len(samples))).astype(int)]
    names = store.spec.names
    figure = Figure(figsize=(1.8 * (1 + len(names)), 1.8 * len(chosen)), layout="constrained")
    for row, sample in zip(figure.subplots(len(chosen), 1 + len(names), squeeze=False), chosen, strict=True):
        pictures = [read_rgb(sample.image), *store.read(sample.sha256)]
        for axes, picture, title in zip(row, pictures, (sample.id, *names), strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=None if picture.ndim == 3 else 1)
            axes.set_title(title, fontsize=7)
            axes.axis("off")
    figure.savefig(path, dpi=100)
    return Path(path)
