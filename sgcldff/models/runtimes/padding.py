"""Padding of images to sides, and of batches to sizes, that networks accept."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import STRIDE
from sgcldff.models.runtimes.base import Labels


def padded_images(rgb: Rgb, prior: NDArray[np.float32]) -> tuple[Rgb, NDArray[np.float32]]:
    """Enlarge images and priors to multiples of `STRIDE` px, as `sgcldff.models.model.pad_to_stride` does."""
    rows, columns = (margins(side) for side in rgb.shape[1:3])
    if not any(rows + columns):
        return np.ascontiguousarray(rgb), np.ascontiguousarray(prior, np.float32)
    padded = np.pad(rgb, ((0, 0), rows, columns, (0, 0)), mode="edge")
    return padded, np.pad(prior.astype(np.float32, copy=False), ((0, 0), (0, 0), rows, columns), mode="edge")


def cropped(labels: Labels, height: int, width: int) -> Labels:
    """Undo `padded_images` on labels (B, H, W)."""
    (top, _), (left, _) = margins(height), margins(width)
    return np.ascontiguousarray(labels[:, top : top + height, left : left + width])


def padded_batch(images: NDArray[Any], count: int) -> NDArray[Any]:
    """Extend a batch to `count` images by repeating the last."""
    missing = count - len(images)
    return np.concatenate((images, images[-1:].repeat(missing, axis=0))) if missing else images


def margins(length: int) -> tuple[int, int]:
    """Return how much to add at either end of a side of `length` px to make it a multiple of `STRIDE`."""
    missing = -length % STRIDE
    return missing // 2, missing - missing // 2
