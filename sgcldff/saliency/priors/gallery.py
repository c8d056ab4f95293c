"""A figure of images and their priors, for a run's artifacts."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample
from sgcldff.saliency.store import PriorStore
from sgcldff.slides.images import read_rgb, rescale

CELL_INCHES = 2.2
DPI = 110


def prior_gallery(samples: Sequence[Sample], store: PriorStore, path: str | Path) -> Path:
    """Draw one row per sample, its image followed by its priors (black 0, white 1), and return the path of the PNG.

    Raises
    ------
    InputError
        If `samples` is empty, an image cannot be read, or its priors were not computed.
    StoreError
        If the store is damaged.
    """
    if not samples:
        raise InputError("a gallery of no samples: name at least one")
    columns = 1 + len(store.spec.names)
    figure = Figure(figsize=(columns * CELL_INCHES, len(samples) * CELL_INCHES), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(samples), columns, squeeze=False)
    for row, sample in zip(grid, samples, strict=True):
        _draw_row(row, sample, store)
    for axes, name in zip(grid[0], ("image", *store.spec.names), strict=True):
        axes.set_title(name, fontsize=8)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=DPI)
    return target


def _draw_row(row: Sequence[Axes], sample: Sample, store: PriorStore) -> None:
    row[0].imshow(rescale(read_rgb(sample.image), sample.mpp, store.spec.mpp))
    for axes, saliency in zip(row[1:], store.read(sample.sha256), strict=True):
        axes.imshow(saliency, cmap="gray", vmin=0, vmax=1)
    for axes in row:
        axes.set(xticks=[], yticks=[])
    row[0].set_ylabel(sample.id, fontsize=6, parse_math=False)
