"""Painted cells, and a model that knows the paint."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn

from sgcldff.core.labels import FIVE_TYPES, WBC5, LabelSpace
from sgcldff.core.records import MaskCode, Sample
from sgcldff.core.settings import EvalSpec, ModelSpec, PriorSpec
from sgcldff.evaluation import Predictions
from sgcldff.evaluation.predictions import PIXEL_COUNTS, schema
from sgcldff.models.model import Model
from sgcldff.models.nets.base import Prediction

PAPER, PLASMA = (240, 235, 220), (190, 190, 225)
INKS = ((90, 40, 120), (40, 90, 120), (120, 40, 40), (40, 40, 160), (120, 90, 160), (40, 120, 60))
SIDE = 96
QUICK = EvalSpec(resamples=200)
CODE = MaskCode(cytoplasm=64, nucleus=200)


class Painter(nn.Module):
    """Tells background, cytoplasm and nuclei of C types by their colours, pixel by pixel."""

    def __init__(self, classes: int, blind_to: Sequence[int] = ()) -> None:
        super().__init__()
        colours = torch.tensor([PAPER, PLASMA, *INKS[:classes]], dtype=torch.float32) / 255
        self.match = nn.Conv2d(3, len(colours), 1)
        self.match.weight = nn.Parameter(800 * colours[:, :, None, None])
        self.match.bias = nn.Parameter(-400 * (colours**2).sum(dim=1))
        self.share = nn.Softmax(dim=1)
        self.blind_to = list(blind_to)

    @property
    def cam_layer(self) -> nn.Module:
        return self.share

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        likeness = self.match(image)
        share = self.share(likeness)
        nucleus = likeness[:, 2:].logsumexp(dim=1, keepdim=True)
        half = image.shape[2] // 2
        centre = share[:, 2:, half - 8 : half + 8, half - 8 : half + 8].mean(dim=(2, 3))
        seen = centre.clone()
        seen[:, self.blind_to] = 0
        evidence = torch.nn.functional.avg_pool2d(share[:, 2:].sum(dim=1, keepdim=True), 4)
        return Prediction(torch.cat((likeness[:, :2], nucleus), dim=1), 6 * seen, evidence, centre)


def model_of(space: LabelSpace = WBC5, blind_to: Sequence[int] = (), kind: type[Painter] = Painter) -> Model:
    spec = ModelSpec(labels=space, crop_px=64, prior=PriorSpec(names=("frequency_tuned",)))
    return Model(spec, kind(len(space.classes), blind_to).eval(), torch.device("cpu"))


def disc(centre: tuple[int, int], radius: int, shape: tuple[int, int]) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def paint(
    folder: Path, name: str, ink: int, cells: Iterable[tuple[int, int, int]] = ((48, 48, 30),), side: int = SIDE
) -> tuple[Path, Path]:
    """Paint cells (y, x, radius) and their mask; the first one in `ink`, the others in the next ink."""
    image, mask = np.full((side, side, 3), PAPER, np.uint8), np.zeros((side, side), np.uint8)
    for number, (y, x, radius) in enumerate(cells):
        cell, nucleus = (disc((y, x), r, mask.shape) for r in (radius, radius // 2))
        image[cell], mask[cell] = PLASMA, 128
        image[nucleus], mask[nucleus] = INKS[(ink + (number > 0)) % len(FIVE_TYPES)], 255
    paths = folder / f"{name}.png", folder / f"{name}_mask.png"
    Image.fromarray(image).save(paths[0])
    Image.fromarray(mask).save(paths[1])
    return paths


def sample_of(paths: tuple[Path, Path], label: str | None, source: str = "painted", group: str = "") -> Sample:
    image, mask = paths
    identity = {"id": f"{source}/{image.stem}", "source": source, "group": group or image.stem}
    return Sample(**identity, image=str(image), mpp=0.2, licence="none", label=label, mask=str(mask), mask_code=CODE)


def predictions_of(rows: int, seed: int, skill: float = 0.7, groups: int = 40, truth: int = 0) -> Predictions:
    """Made-up answers; `truth` seeds images and labels, `seed` the answers."""
    fixed, rng = np.random.default_rng(truth), np.random.default_rng(seed)
    labels = fixed.integers(0, 5, rows)
    unions = fixed.integers(800, 1000, rows)
    told = np.where(rng.random(rows) < skill, labels, rng.integers(0, 5, rows))
    chances = rng.dirichlet(np.ones(5), rows) * 0.4
    chances[np.arange(rows), told] += 0.6
    table = {
        "id": [f"s/{i:04}" for i in range(rows)],
        "source": ["s"] * rows,
        "group": [f"g{i % groups}" for i in range(rows)],
        "sha256": [f"{i:064x}" for i in range(rows)],
        "mask_sha256": [""] * rows,
        "label": [FIVE_TYPES[i] for i in labels],
        "told": [FIVE_TYPES[i] for i in told],
        "confidence": chances.max(axis=1),
        "typicality": [None] * rows,
        "found": [True] * rows,
        "cell_intersection": (unions * (0.8 + 0.2 * rng.random(rows))).astype(int),
        "cell_union": unions,
        "nucleus_intersection": (unions * 0.8).astype(int),
        "nucleus_union": unions,
        **{start + name: [90] * rows for start, names in PIXEL_COUNTS.items() if "boundary" in start for name in names},
        "cam_on_cell": rng.random(rows),
        "occlusion": [None] * rows,
        **{f"probability_{name}": chances[:, k] for k, name in enumerate(FIVE_TYPES)},
    }
    return Predictions(FIVE_TYPES, f"model{seed}", pa.table(table, schema=schema(FIVE_TYPES, f"model{seed}")))
