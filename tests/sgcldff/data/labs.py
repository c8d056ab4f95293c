"""A laboratory's folder of images."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from sgcldff.core.settings import IngestSpec
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import ingest


def picture(seed, side=96):
    """Return a unique textured cell on a textured background, uint8 RGB."""
    rng = np.random.default_rng(seed)
    image = 190 + gaussian_filter(rng.normal(0, 260, (side, side, 3)), (3, 3, 0))
    cell = cv2.circle(
        np.zeros((side, side)), tuple(rng.integers(30, 60, 2).tolist()), int(rng.integers(12, 25)), 40, -1
    )
    return np.clip(image - gaussian_filter(cell, 2)[..., None], 1, 250).astype(np.uint8)


def save(path: Path, pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


class Lab:
    """A folder of images with a table, and the catalog made from it."""

    def __init__(self, root: Path):
        self.root, self.rows = root, []
        self.catalog_folder = root.parent / "catalog"

    def add(self, name, pixels=None, **columns):
        save(self.root / name, picture(len(self.rows)) if pixels is None else pixels)
        self.rows.append({"image": name, "mpp": 0.2, "label": "neutrophil"} | columns)
        return self.root / name

    def add_many(self, count, **columns):
        for _ in range(count):
            self.add(f"{len(self.rows):03d}.png", **columns)

    def sources(self):
        pd.DataFrame(self.rows).to_csv(self.root / "manifest.csv", index=False)
        return [Source("table", str(self.root))]

    def ingest(self, **settings):
        return ingest(self.sources(), self.catalog_folder, IngestSpec(**settings))


def reasons(catalog):
    return {Path(row["image"]).name: row["reason"] for row in catalog.quarantine.to_pylist()}
