"""Smears for the tests of priors."""

import cv2
import numpy as np

PLASMA, RED_CELL, CYTOPLASM, NUCLEUS = (236, 228, 224), (214, 150, 148), (168, 142, 196), (92, 48, 130)


def smear(shape=(200, 260), cells=((70, 80), (130, 190)), seed=0):
    """Draw red cells everywhere and white cells 64 px wide; gives the image, the cells' and the nuclei's mask."""
    rng = np.random.default_rng(seed)
    image = np.full((*shape, 3), PLASMA, np.uint8)
    for y, x in rng.integers(0, shape, (25, 2)):
        cv2.circle(image, (int(x), int(y)), 15, RED_CELL, -1, cv2.LINE_AA)
    cell, nucleus = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for y, x in cells:
        for canvas, inner, outer in ((image, NUCLEUS, CYTOPLASM), (cell, 1, 1), (nucleus, 1, 0)):
            cv2.circle(canvas, (x, y), 32, outer, -1)
            cv2.circle(canvas, (x + 4, y), 20, inner, -1)
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), cell.astype(bool), nucleus.astype(bool)
