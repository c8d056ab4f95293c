"""Why a model told a type: Grad-CAM, how much of it lies on the cell, and whether evidence and prior agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sgcldff.core.arrays import Rgb
from sgcldff.core.label_codes import BACKGROUND, MAY_BE_BACKGROUND, NUCLEUS
from sgcldff.evaluation.predict import Crop, Reading
from sgcldff.models.model import Model

COLUMNS = ("image", "prior", "evidence", "Grad-CAM", "outline")
INCH = 1.9


@dataclass(frozen=True)
class Explanation:
    """A reading with what the network looked at; S is the model's `crop_px`."""

    reading: Reading
    cam: NDArray[np.float32]
    """Grad-CAM of the told type, float32 in [0, 1], (S, S); all 0 where nothing speaks for the type."""
    on_cell: float
    """Share of the Grad-CAM's energy on the cell, in [0, 1]; NaN where there is no energy or no cell."""
    consistency: float
    """Correlation of evidence and prior, in [-1, 1]; NaN where either is flat."""


def explain(model: Model, readings: Sequence[Reading]) -> tuple[Explanation, ...]:
    """Look into the network for every reading, in their order."""
    if not readings:
        return ()
    crops = [reading.crop for reading in readings]
    told = np.array([reading.probabilities.argmax() for reading in readings])
    cams = grad_cam(model, np.stack([crop.rgb for crop in crops]), np.stack([crop.prior for crop in crops]), told)
    return tuple(
        Explanation(
            reading, cam, energy_share(cam, cell_of(reading.crop)), consistency(reading.evidence, reading.crop.prior)
        )
        for reading, cam in zip(readings, cams, strict=True)
    )


def unexplained(model: Model, readings: Sequence[Reading]) -> tuple[Explanation, ...]:
    """Give readings in the form of `explain` without looking into the network: nothing is known of what it saw."""
    unknown = float("nan")
    return tuple(
        Explanation(reading, np.zeros(reading.evidence.shape, np.float32), unknown, unknown) for reading in readings
    )


def grad_cam(model: Model, rgb: Rgb, prior: NDArray[np.float32], classes: NDArray[np.integer]) -> NDArray[np.float32]:
    """Compute Grad-CAM (Selvaraju et al., ICCV 2017) on the net's `cam_layer`.

    Parameters
    ----------
    rgb
        uint8, (B, S, S, 3), S a multiple of 32.
    prior
        float32 in [0, 1], (B, P, S, S).
    classes
        The class to explain for each image, (B,).

    Returns
    -------
    float32 (B, S, S), each map scaled to a maximum of 1; all 0 where nothing speaks for the class.
    """
    image = torch.from_numpy(rgb).permute(0, 3, 1, 2).to(model.device).float() / 255
    saliency = torch.from_numpy(prior).to(model.device)

    def types(pixels: Tensor, prior: Tensor) -> Tensor:
        return torch.as_tensor(model.net(pixels, prior).cell_type)

    method = LayerGradCam(types, model.net.cam_layer)
    target = torch.from_numpy(classes).to(model.device)
    with torch.enable_grad():
        maps = method.attribute(
            image.requires_grad_(), target, additional_forward_args=saliency, relu_attributions=True
        )
    enlarged = LayerAttribution.interpolate(maps.detach().float(), rgb.shape[1:3], "bilinear")[:, 0].cpu().numpy()
    peaks = enlarged.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(enlarged, peaks, out=np.zeros_like(enlarged), where=peaks > 0), np.float32)


def cell_of(crop: Crop) -> NDArray[np.bool_]:
    """Mark the cells in a crop: the true ones where the truth shows any, else those that were found; bool (S, S)."""
    true = (crop.target & MAY_BE_BACKGROUND == 0) & (crop.target != 0)
    return np.asarray(true if true.any() else crop.labels != BACKGROUND)


def energy_share(cam: NDArray[np.float32], cell: NDArray[np.bool_]) -> float:
    """Give the share of a map's energy on a mask (energy-based pointing game, Wang et al., Score-CAM, CVPRW 2020).

    Returns
    -------
    float
        In [0, 1]; NaN where the map is 0 or the mask empty.
    """
    total = float(cam.sum())
    return float(cam[cell].sum()) / total if total > 0 and cell.any() else float("nan")


def consistency(evidence: NDArray[np.float32], prior: NDArray[np.float32]) -> float:
    """Correlate evidence (S, S) with the mean of the priors (P, S, S): Pearson, in [-1, 1]; NaN where one is flat."""
    seen, expected = evidence.ravel().astype(float), prior.mean(axis=0).ravel().astype(float)
    if np.ptp(seen) == 0 or np.ptp(expected) == 0:
        return float("nan")
    return float(np.corrcoef(seen, expected)[0, 1])


def picture(explanations: Sequence[Explanation], classes: Sequence[str], path: str | Path) -> Path:
    """Draw a row an explanation: image, prior, evidence, Grad-CAM, outlines, and the true and told type; as PNG."""
    rows = max(1, len(explanations))
    figure = Figure(figsize=(INCH * len(COLUMNS), INCH * 1.15 * rows), layout="constrained")
    grid = figure.subplots(rows, len(COLUMNS), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, name in zip(grid[0], COLUMNS, strict=True):
        axes.set_title(name, fontsize=8)
    for row, explanation in zip(grid, explanations, strict=False):
        _draw(row, explanation, classes)
    figure.savefig(path, dpi=110, format="png")
    return Path(path)


def _draw(row: NDArray[np.object_], explanation: Explanation, classes: Sequence[str]) -> None:
    reading, crop = explanation.reading, explanation.reading.crop
    image, prior, evidence, cam, outline = row
    image.imshow(crop.rgb)
    prior.imshow(crop.prior.mean(axis=0), cmap="gray", vmin=0, vmax=1)
    evidence.imshow(reading.evidence, cmap="gray", vmin=0, vmax=1)
    cam.imshow(crop.rgb)
    cam.imshow(explanation.cam, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
    outline.imshow(crop.rgb)
    _contour(outline, crop.labels != BACKGROUND, "lime")
    _contour(outline, crop.labels == NUCLEUS, "cyan")
    told = int(reading.probabilities.argmax())
    text = f"true: {reading.sample.label or 'not known'}\ntold: {classes[told]} {reading.probabilities[told]:.2f}"
    image.text(2, 2, text, fontsize=6, va="top", parse_math=False, bbox={"facecolor": "white", "alpha": 0.7, "lw": 0})


def _contour(axes: Axes, mask: NDArray[np.bool_], colour: str) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=colour, linewidths=1)
