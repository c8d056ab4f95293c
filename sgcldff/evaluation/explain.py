"""Explanations of a classification: Grad-CAM, its share on the cell, and occlusion of the cell and its surroundings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sgcldff.core.arrays import Rgb
from sgcldff.core.label_codes import BACKGROUND, MAY_BE_BACKGROUND, NUCLEUS
from sgcldff.core.proportions import beyond_chance
from sgcldff.evaluation.predict import Crop, ImagePrediction
from sgcldff.models.model import Model

PANELS = ("image", "prior", "evidence", "Grad-CAM", "outline")
PANEL_INCHES = 1.9


@dataclass(frozen=True)
class Explanation:
    """A prediction with its explanation; S is the model's `crop_px`."""

    prediction: ImagePrediction
    cam: NDArray[np.float32]
    """Grad-CAM of the predicted type, float32 in [0, 1], (S, S); all 0 if there is no evidence for the type."""
    on_cell: float
    """Share of the Grad-CAM's energy on the cell beyond the share that chance puts there, at most 1; 0 for a map that
    takes no notice of the cell, negative for one that avoids it; NaN if there is no energy, or no cell."""
    occlusion: float
    """Fall of the predicted type's probability when the cell is covered, less its fall when the surroundings are, in
    [-1, 1]; near 0 or below for a type that was not read from the cell; NaN if there is no cell."""


def explain(model: Model, predictions: Sequence[ImagePrediction]) -> tuple[Explanation, ...]:
    """Explain every prediction, in the same order."""
    if not predictions:
        return ()
    crops = [prediction.crop for prediction in predictions]
    predicted = np.array([prediction.probabilities.argmax() for prediction in predictions])
    cams = grad_cam(model, np.stack([crop.rgb for crop in crops]), np.stack([crop.prior for crop in crops]), predicted)
    return tuple(
        Explanation(one, cam, share_beyond_chance(cam, cell_of(one.crop)), float(difference))
        for one, cam, difference in zip(predictions, cams, occlusion(model, crops, predicted), strict=True)
    )


def unexplained(model: Model, predictions: Sequence[ImagePrediction]) -> tuple[Explanation, ...]:
    """Return predictions in the form of `explain`, without computing explanations."""
    nan = float("nan")
    return tuple(Explanation(one, np.zeros(one.evidence.shape, np.float32), nan, nan) for one in predictions)


def grad_cam(model: Model, rgb: Rgb, prior: NDArray[np.float32], classes: NDArray[np.integer]) -> NDArray[np.float32]:
    """Compute Grad-CAM (Selvaraju et al., ICCV 2017) on the net's `cam_layer`.

    Weighted sums of several maps are added at the resolution of the finest, each spread such that its
    total stays the same: a total is what a map contributes to the logit.

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
    float32 (B, S, S), each map scaled to a maximum of 1; all 0 if there is no evidence for the class.
    """
    image = torch.from_numpy(rgb).permute(0, 3, 1, 2).to(model.device).float() / 255
    saliency = torch.from_numpy(prior).to(model.device)

    def types(pixels: Tensor, prior: Tensor) -> Tensor:
        return torch.as_tensor(model.net(pixels, prior).cell_type)

    method = LayerGradCam(types, model.net.cam_layer)
    target = torch.from_numpy(classes).to(model.device)
    with torch.enable_grad():
        found = method.attribute(image.requires_grad_(), target, additional_forward_args=saliency)
    maps = [one.detach().float() for one in (found if isinstance(found, tuple) else (found,))]
    finest = max((one.shape[2:] for one in maps), key=lambda shape: shape.numel())
    spread = [
        LayerAttribution.interpolate(one, finest, "bilinear") * (one.shape[2:].numel() / finest.numel()) for one in maps
    ]
    evidence = torch.stack(spread).sum(dim=0).relu()
    enlarged = LayerAttribution.interpolate(evidence, rgb.shape[1:3], "bilinear")[:, 0].cpu().numpy()
    peaks = enlarged.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(enlarged, peaks, out=np.zeros_like(enlarged), where=peaks > 0), np.float32)


def cell_of(crop: Crop) -> NDArray[np.bool_]:
    """Return the mask of the cells in a crop, bool (S, S): the true ones if any are annotated, else the predicted."""
    true = (crop.target & MAY_BE_BACKGROUND == 0) & (crop.target != 0)
    return np.asarray(true if true.any() else crop.labels != BACKGROUND)


def energy_share(cam: NDArray[np.float32], cell: NDArray[np.bool_]) -> float:
    """Return the share of a map's energy on a mask (energy-based pointing game, Wang et al., Score-CAM, CVPRW 2020).

    Returns
    -------
    float
        In [0, 1]; NaN if the map is 0 or the mask is empty.
    """
    total = float(cam.sum())
    return float(cam[cell].sum()) / total if total > 0 and cell.any() else float("nan")


def share_beyond_chance(cam: NDArray[np.float32], cell: NDArray[np.bool_]) -> float:
    """Return the share of a map's energy on a mask, rescaled to 0 for an even map and 1 for one that lies on the mask.

    Returns
    -------
    float
        At most 1; NaN if the map is 0, or the mask is empty or full.
    """
    chance = float(cell.mean())
    return beyond_chance(energy_share(cam, cell), chance) if chance < 1 else float("nan")


def occlusion(model: Model, crops: Sequence[Crop], classes: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return how much more a class depends on the cell than on its surroundings, by covering one and then the other.

    Covered pixels take the median colour of the background and a prior of 0 (occlusion sensitivity, Zeiler and Fergus,
    ECCV 2014, with two regions).

    Parameters
    ----------
    crops
        B crops.
    classes
        The class to explain in each crop, (B,).

    Returns
    -------
    float32 (B,), in [-1, 1]: the class's probability with the surroundings covered, less that with the cell covered;
    NaN if there is no cell, or no background.
    """
    rim = np.ones((5, 5), np.uint8)  # two pixels around a cell are covered with it, so that none of it shows
    cells = np.stack([cv2.dilate(cell_of(crop).astype(np.uint8), rim) for crop in crops]).astype(bool)
    judged = cells.any(axis=(1, 2)) & ~cells.all(axis=(1, 2))
    rgb, prior = np.stack([crop.rgb for crop in crops]), np.stack([crop.prior for crop in crops])
    fill = np.zeros((len(crops), 1, 1, 3), np.uint8)
    for index in np.flatnonzero(judged):
        fill[index] = np.median(rgb[index][~cells[index]], axis=0)

    def probability_without(covered: NDArray[np.bool_]) -> NDArray[np.float32]:
        output = model.predict(
            np.where(covered[..., None], fill, rgb), np.where(covered[:, None], np.float32(0), prior)
        )
        return np.asarray(output.cell_type[np.arange(len(crops)), classes], np.float32)

    difference = probability_without(~cells) - probability_without(cells)
    return np.asarray(np.where(judged, difference, np.nan), np.float32)


def draw_explanations(explanations: Sequence[Explanation], classes: Sequence[str], path: str | Path) -> Path:
    """Draw one row per explanation: image, prior, evidence, Grad-CAM, outlines, true and predicted type; as PNG."""
    rows = max(1, len(explanations))
    size = PANEL_INCHES * len(PANELS), PANEL_INCHES * 1.15 * rows
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, len(PANELS), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, name in zip(grid[0], PANELS, strict=True):
        axes.set_title(name, fontsize=8)
    for row, explanation in zip(grid, explanations, strict=False):
        _draw(row, explanation, classes)
    figure.savefig(path, dpi=110, format="png")
    return Path(path)


def _draw(row: NDArray[np.object_], explanation: Explanation, classes: Sequence[str]) -> None:
    prediction, crop = explanation.prediction, explanation.prediction.crop
    image, prior, evidence, cam, outline = row
    image.imshow(crop.rgb)
    prior.imshow(crop.prior.mean(axis=0), cmap="gray", vmin=0, vmax=1)
    evidence.imshow(prediction.evidence, cmap="gray", vmin=0, vmax=1)
    cam.imshow(crop.rgb)
    cam.imshow(explanation.cam, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
    outline.imshow(crop.rgb)
    _contour(outline, crop.labels != BACKGROUND, "lime")
    _contour(outline, crop.labels == NUCLEUS, "cyan")
    best = int(prediction.probabilities.argmax())
    text = f"true: {prediction.sample.label or 'unknown'}\n{classes[best]} {prediction.probabilities[best]:.2f}"
    image.text(2, 2, text, fontsize=6, va="top", parse_math=False, bbox={"facecolor": "white", "alpha": 0.7, "lw": 0})


def _contour(axes: Axes, mask: NDArray[np.bool_], colour: str) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=colour, linewidths=1)
