"""One picture, stored as a slide in several formats."""

import cv2
import numpy as np
import tifffile

SHAPE = (700, 523)
MPP = 0.25
PER_CM = (1e4 / MPP,) * 2
TAGS = {"resolution": PER_CM, "resolutionunit": "CENTIMETER"}


def drawn(shape=SHAPE, seed=0):
    """A smear-like picture with detail at all scales: noise over soft blobs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(90, 240, (shape[0] // 30 + 2, shape[1] // 30 + 2, 3)).astype(np.uint8)
    soft = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(soft + rng.normal(0, 12, soft.shape), 0, 255).astype(np.uint8)


PICTURE = drawn()
LEVELS = (PICTURE, np.ascontiguousarray(PICTURE[::2, ::2]), np.ascontiguousarray(PICTURE[::4, ::4]))


def write_tiff(path, levels=LEVELS, byteorder="<", **settings):
    with tifffile.TiffWriter(path, byteorder=byteorder) as tiff:
        for at, level in enumerate(levels):
            options = {"tile": (128, 128), "compression": "zlib", "metadata": None, **TAGS} | settings
            tiff.write(level, photometric="rgb", subfiletype=min(at, 1), **options)
