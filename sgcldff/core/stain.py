"""Stain in optical-density space: augmentation, and statistics for comparing stains.

Stains absorb light, and absorbance adds up in optical density (OD = -ln I/I0, Beer-Lambert). Varying the gain of each
OD channel, mixing the channels slightly and shifting them moves an image towards other stains, scanners and
thicknesses; Tellez et al. (Medical Image Analysis 2019) found this to matter most for unseen stains.
"""

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb

CLEAREST = -0.1
"""Lowest optical density (natural logarithm) of a restained image: slightly brighter than white."""
STAINED = 0.15 * np.log(10)
"""Optical density of green (natural logarithm) above which a pixel is stained (0.15 decades: Macenko et al. 2009)."""


def augment(rgb: Rgb, strength: float, rng: Generator, recoloured: float = 0) -> Rgb:
    """Vary stain, brightness, focus and noise.

    Parameters
    ----------
    rgb
        uint8, (H, W, 3).
    strength
        0 returns the image unchanged; 1 is the most that images of one stain differ.
    recoloured
        Share of images, 0 to 1, that get the colours of an unknown stain.
    """
    if strength == 0:
        return rgb
    mixture = other_stain(rng) if rng.random() < recoloured else similar_stain(strength, rng)
    offset = rng.normal(0, 0.06 * strength, 3) + rng.normal(0, 0.05 * strength) + colour_cast(strength, rng)
    varied = noise(blur(restain(rgb, mixture, offset), strength, rng), strength, rng)
    return np.clip(varied + 0.5, 0, 255).astype(np.uint8)


def restain(rgb: Rgb, mixture: NDArray[np.float64], offset: NDArray[np.float64]) -> np.ndarray:
    """Mix the OD channels of an image by a matrix (3, 3) and add an OD (3,); float32 (H, W, 3), OD >= `CLEAREST`."""
    density = -np.log((rgb.astype(np.float32) + 1) / 256)
    restained = density @ mixture.astype(np.float32) + offset.astype(np.float32)
    varied: np.ndarray = 256 * np.exp(-np.maximum(restained, CLEAREST)) - 1
    return varied


def similar_stain(strength: float, rng: Generator) -> NDArray[np.float64]:
    """Draw the OD mixing matrix (3, 3) to another smear of the same stain."""
    mixture = np.eye(3) * rng.uniform(1 - 0.3 * strength, 1 + 0.3 * strength, 3)
    mixture += rng.normal(0, 0.06 * strength, (3, 3))
    return mixture * rng.uniform(1 - 0.2 * strength, 1 + 0.2 * strength)


def other_stain(rng: Generator) -> NDArray[np.float64]:
    """Draw the OD mixing matrix (3, 3) to an arbitrary stain; one in four has a single dye.

    Colour is then no evidence, so types are learned from what all stains show: shape, texture and relative darkness.
    """
    mixture = np.eye(3) * rng.uniform(0.6, 1.4, 3) + rng.normal(0, 0.2, (3, 3))
    if rng.random() < 0.25:
        mixture = np.outer(rng.dirichlet((2, 2, 2)), mixture.sum(axis=0))
    return mixture * rng.uniform(0.7, 1.5)


def colour_cast(strength: float, rng: Generator) -> NDArray[np.float64]:
    """Draw a colour cast for one image in three: the OD (3,) that lamp, filter or stained plasma add to every pixel.

    Backgrounds differ more between laboratories than stained cells do: the blue of a yellow rapid stain's background is
    about 0.6 (natural logarithm) darker than white.
    """
    tinted = rng.random() < 1 / 3
    return tinted * (rng.random(3) < 0.5) * rng.uniform(0, 0.8 * strength, 3)


def blur(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """Put one image in four slightly out of focus."""
    sigma = rng.uniform(0.3, 0.3 + 0.9 * strength)
    return cv2.GaussianBlur(image, (0, 0), sigma) if rng.random() < 0.25 else image


def noise(image: np.ndarray, strength: float, rng: Generator) -> np.ndarray:
    """Add Gaussian noise to one image in three."""
    if rng.random() > 1 / 3:
        return image
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    noisy: np.ndarray = image + grain * np.float32(rng.uniform(0, 6 * strength))
    return noisy


def stain_statistics(rgb: Rgb) -> NDArray[np.float32]:
    """Summarise the colour of an image where it is stained, so that empty glass does not count.

    Parameters
    ----------
    rgb
        uint8, (H, W, 3).

    Returns
    -------
    ndarray
        Mean and standard deviation of the optical density (natural logarithm) of R, G, B; float32 (6,). Where nothing
        is stained, those of the whole image.
    """
    density = -np.log((rgb.reshape(-1, 3).astype(np.float32) + 1) / 256)
    stained = density[density[:, 1] > STAINED]
    measured = stained if len(stained) else density
    return np.concatenate((measured.mean(axis=0), measured.std(axis=0))).astype(np.float32)
