"""Slides that are painted so that a model of two colour thresholds segments them exactly."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import tifffile

from sgcldff.core.settings import GateSpec, InferSpec, ModelSpec
from sgcldff.models.out_of_distribution import Typicality
from sgcldff.models.runtimes import Types

PAPER, RED, CYTOPLASM = (236, 230, 232), (222, 176, 178), (176, 186, 226)
NUCLEI = ((96, 64, 150), (96, 64, 190))
"""Colours of the nuclei of two types, the first and the second of the model's classes."""
MPP = 0.2
EVERYTHING = GateSpec(enabled=False)
SPEC = InferSpec(gate=EVERYTHING, tile_px=64, halo_px=32, shard_px=128, batch_size=3)


def classify(rgb):
    """Tell nucleus (dark green), cytoplasm (pale blue) and background: uint8, of any shape (..., 3)."""
    red, green = rgb[..., 0].astype(int), rgb[..., 1].astype(int)
    return np.where(green < 110, 2, np.where(red < 200, 1, 0)).astype(np.uint8)


@dataclass
class ColourModel:
    """Segments by colour; the type is told by the blue of the dark pixels about the crop's centre."""

    digest: str = "colours"
    spec: ModelSpec = field(default_factory=lambda: ModelSpec(crop_px=96))
    typicality: Typicality | None = None
    tiles: int = 0
    crops: int = 0

    def segment(self, rgb, prior):
        assert prior.shape == (len(rgb), 1, *rgb.shape[1:3])
        assert prior.dtype == np.float32
        self.tiles += len(rgb)
        return classify(rgb)

    def classify(self, rgb, prior):
        assert prior.shape == (len(rgb), 1, 96, 96)
        self.crops += len(rgb)
        told = np.stack([self.types(image) for image in rgb])
        return Types(told, rgb[:, 48, 48].astype(np.float32), np.ones((len(rgb), 12, 12), np.float32))

    def types(self, image):
        side = image.shape[0]
        middle = image[side // 4 : -side // 4, side // 4 : -side // 4]
        dark = middle[classify(middle) == 2]
        second = dark.size > 0 and dark[:, 2].mean() > 170
        told = np.full(len(self.spec.labels.classes), 0.05, np.float32)
        told[int(second)] = 0.8
        return told


def paint(shape, centres, factor=1, seed=0, reds=60):
    """Draw cells of alternating type at `centres` (y, x), and red cells beside them."""
    rng = np.random.default_rng(seed)
    image = np.full((*shape, 3), PAPER, np.uint8)
    for y, x in rng.uniform(0, 1, (reds, 2)) * shape:
        cv2.circle(image, (int(x), int(y)), 17 * factor, RED, -1)
    for kind, (y, x) in enumerate(centres):
        cv2.circle(image, (int(x), int(y)), 30 * factor, CYTOPLASM, -1)
        for dy, dx in rng.normal(0, 7 * factor, (3, 2)):
            cv2.circle(image, (int(x + dx), int(y + dy)), 11 * factor, NUCLEI[kind % 2], -1)
    return image


def saved(folder, image, mpp=MPP, name="slide.tif"):
    per_cm = (1e4 / mpp,) * 2
    options = {"tile": (128, 128), "compression": "zlib", "resolution": per_cm, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / name, image, photometric="rgb", metadata=None, **options)
    return folder / name


SHAPE = (500, 430)
CENTRES = [(y, x) for y in (0, 128, 256, 384, 495) for x in (4, 128, 256, 384)] + [(64, 64), (320, 333), (192, 200)]
"""On every seam and corner of shards of 128 px, at the border, and inside."""
