"""Whether two images show the same place: shifted, mirrored, turned by right angles, or lit differently.

All verdicts depend on the two images alone, so that further images never change them.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

SIDE = 64
"""Side of the thumbnails, px."""
BLUR = 3.0
"""Standard deviation (px) of the blur that is taken away, and with it stain and illumination."""
BAND = (1.5, 24.5)
"""Radial frequencies (cycles a thumbnail) that enter a fingerprint."""
MIN_OVERLAP = 0.25
"""Share of a thumbnail, and of its detail's energy, that has to be seen in both images."""
BLOCK = 512

Details = NDArray[np.float32]
"""float32, shape (N, 64, 64): thumbnails without what is coarser than cells."""


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image to 64x64 grey pixels by area means, whatever its shape."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def details(thumbnails: NDArray[np.uint8]) -> Details:
    """Take the blurred image away from each thumbnail: uint8 (N, 64, 64) -> float32 of that shape."""
    images = thumbnails.reshape(-1, SIDE, SIDE).astype(np.float32)
    coarse = [cv2.GaussianBlur(image, (0, 0), BLUR) for image in images]
    return images - np.array(coarse, np.float32).reshape(images.shape)


def oriented(images: Details, orientation: int) -> Details:
    """Mirror (orientations 4 to 7) and turn by orientation % 4 right angles."""
    mirrored = images[:, :, ::-1] if orientation >= 4 else images
    return np.ascontiguousarray(np.rot90(mirrored, orientation % 4, axes=(1, 2)))


def fingerprints(images: Details) -> NDArray[np.float32]:
    """Describe details in a way that does not change when the image is shifted: unit vectors, float32 (N, F).

    Square roots of the amplitudes of the Fourier transform, less their mean on each ring of equal frequency. What all
    images of blobs share is on that mean; the rest tells one image from another.
    """
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)
    centred = (images - images.mean(axis=(1, 2), keepdims=True)) * np.sqrt(window).astype(np.float32)
    rows, columns = np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.arange(SIDE // 2 + 1)
    radius = np.hypot(rows, columns)
    used = (radius >= BAND[0]) & (radius < BAND[1]) & ~((columns == 0) & (rows < 0))
    values = np.sqrt(np.abs(fft.rfft2(centred)[:, used]))
    rings = radius[used].round().astype(int)
    for ring in np.unique(rings):
        values[:, rings == ring] -= values[:, rings == ring].mean(axis=1, keepdims=True)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9), np.float32)


def alike(images: Details, min_similarity: float) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Find the pairs whose fingerprints' cosine is at least `min_similarity`, in any orientation.

    Yields
    ------
    Indices i < j, int64 (K, 2), and an orientation of the first that makes its fingerprint like the second's; that
    turned by two more right angles does so too, since amplitudes do not tell them apart.
    """
    known = fingerprints(images)
    for orientation in (0, 1, 4, 5):
        turned = known if orientation == 0 else fingerprints(oriented(images, orientation))
        for start in range(0, len(images), BLOCK):
            first, second = np.nonzero(turned[start : start + BLOCK] @ known[start:].T >= min_similarity)
            later = second > first
            yield np.column_stack([first[later], second[later]]) + start, orientation


def overlap_correlation(first: Details, second: Details) -> NDArray[np.float32]:
    """Correlate pairs of details where they overlap, at the shift at which they agree best: float32 (K,), in [-1, 1].

    Pearson's correlation over the overlap at all shifts by zero-padded Fourier transforms (Padfield 2012, "Masked
    object registration in the Fourier domain"); an overlap with little area or little detail counts as -1.
    """
    one = np.ones((1, SIDE, SIDE), np.float32)
    area = np.maximum(_correlate(one, one), 1)
    mean_first, mean_second = _correlate(first, one) / area, _correlate(one, second) / area
    energy_first = _correlate(first**2, one) - area * mean_first**2
    energy_second = _correlate(one, second**2) - area * mean_second**2
    shared = _correlate(first, second) - area * mean_first * mean_second
    enough = (area >= MIN_OVERLAP * SIDE**2) & _rich(energy_first, first) & _rich(energy_second, second)
    scale = np.sqrt(np.maximum(energy_first, 1e-3) * np.maximum(energy_second, 1e-3))
    best = np.where(enough, shared / scale, -1).max(axis=(1, 2))
    return np.asarray(best, np.float32)


def _correlate(first: Details, second: Details) -> Details:
    shape = (2 * SIDE, 2 * SIDE)
    product = fft.rfft2(first, s=shape) * np.conj(fft.rfft2(second, s=shape))
    return np.asarray(fft.irfft2(product, s=shape), np.float32)


def _rich(energy: NDArray[np.floating], images: Details) -> NDArray[np.bool_]:
    return np.asarray(energy >= MIN_OVERLAP * images.var(axis=(1, 2), keepdims=True) * SIDE**2)
