"""Comparison of two images that may show the same place: shifted, mirrored, rotated by right angles, lit differently.

Every result depends only on the two images, so that further images never change it.
"""

from collections.abc import Iterator
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

SIDE = 64
"""Side of the thumbnails, px."""
BLUR = 2.0
"""Standard deviation (px) of the blurred image that is subtracted, to remove stain and illumination."""
FREQUENCIES = (0.024, 0.383)
"""Radial frequencies (cycles/px) used in a fingerprint."""
WINDOW_PX = 32
"""Side (px) of the nine overlapping windows for comparing images that overlap only in part."""
MIN_OVERLAP = 0.25
"""Minimum share of a thumbnail, and of the energy of its detail, that both images must show."""
BLOCK = 512

Pairs = NDArray[np.int64]
"""int64, shape (K, 2): indices i < j."""

Details = NDArray[np.float32]
"""float32, shape (N, 64, 64): thumbnails without structure that is coarser than cells."""


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image to 64x64 grey pixels by area means, whatever its shape."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def details(thumbnails: NDArray[np.uint8]) -> Details:
    """Subtract the blurred image from each thumbnail: uint8 (N, 64, 64) -> float32 of that shape."""
    images = thumbnails.reshape(-1, SIDE, SIDE).astype(np.float32)
    coarse = [cv2.GaussianBlur(image, (0, 0), BLUR) for image in images]
    return images - np.array(coarse, np.float32).reshape(images.shape)


def oriented(images: Details, orientation: int) -> Details:
    """Mirror (orientations 4 to 7) and rotate by orientation % 4 right angles."""
    mirrored = images[:, :, ::-1] if orientation >= 4 else images
    return np.ascontiguousarray(np.rot90(mirrored, orientation % 4, axes=(1, 2)))


def fingerprints(images: Details) -> NDArray[np.float32]:
    """Return descriptors that hardly change when the image is shifted: unit vectors, float32 (N, F).

    Square roots of the amplitudes of the Fourier transform, minus their mean on each ring of equal frequency. The mean
    is common to all images of blobs; the rest is characteristic of an image.

    Parameters
    ----------
    images
        float32, shape (N, side, side).
    """
    side = images.shape[1]
    window = np.hanning(side)[:, None] * np.hanning(side)
    centred = (images - images.mean(axis=(1, 2), keepdims=True)) * np.sqrt(window).astype(np.float32)
    used, rings = _rings(side)
    values = np.sqrt(np.abs(fft.rfft2(centred)[:, used]))
    for ring in np.unique(rings):
        values[:, rings == ring] -= values[:, rings == ring].mean(axis=1, keepdims=True)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9), np.float32)


def _rings(side: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Mark the frequencies that enter a fingerprint, bool (side, side // 2 + 1), and number the ring of each."""
    rows, columns = np.fft.fftfreq(side, 1 / side)[:, None], np.arange(side // 2 + 1)
    radius = np.hypot(rows, columns)
    used = (radius >= FREQUENCIES[0] * side) & (radius < FREQUENCIES[1] * side) & ~((columns == 0) & (rows < 0))
    return used, radius[used].round().astype(np.int64)


def alike(images: Details, min_similarity: float) -> Iterator[tuple[Pairs, int]]:
    """Find the pairs whose fingerprints' cosine is at least `min_similarity`, in any orientation.

    Yields
    ------
    Indices i < j, int64 (K, 2), and an orientation of the first that makes its fingerprint similar to the second's;
    rotated by 180 degrees it has the same amplitudes, and so the same fingerprint.
    """
    upright = fingerprints(images)
    for orientation in (0, 1, 4, 5):
        rotated = upright if orientation == 0 else fingerprints(oriented(images, orientation))
        yield from ((pairs, orientation) for pairs in _similar(rotated, upright, min_similarity))


def displaced(images: Details, min_similarity: float) -> Iterator[Pairs]:
    """Find the pairs, i < j, that are similar in windows shifted by a common displacement.

    The mean cosine of w windows has to reach `min_similarity` * sqrt(9 / w), since it is noisier with fewer windows; at
    least two windows are compared.
    """
    starts = range(0, SIDE - WINDOW_PX + 1, WINDOW_PX // 2)
    windows = {(y, x): fingerprints(images[:, y : y + WINDOW_PX, x : x + WINDOW_PX]) for y in starts for x in starts}
    for step in product(range(WINDOW_PX - SIDE, SIDE - WINDOW_PX + 1, WINDOW_PX // 2), repeat=2):
        matched = [((y, x), (y + step[0], x + step[1])) for y, x in windows if (y + step[0], x + step[1]) in windows]
        if step != (0, 0) and len(matched) >= 2:
            first, second = (np.hstack([windows[pair[side]] for pair in matched]) for side in (0, 1))
            least = min_similarity * np.sqrt(len(windows) / len(matched))
            yield from _similar(first, second, least * len(matched))


def _similar(first: NDArray[np.float32], second: NDArray[np.float32], least: float) -> Iterator[Pairs]:
    """Find i < j for which the product of row i of `first` and row j of `second` is at least `least`."""
    for start in range(0, len(first), BLOCK):
        rows, columns = np.nonzero(first[start : start + BLOCK] @ second[start:].T >= least)
        later = columns > rows
        yield np.column_stack([rows[later], columns[later]]) + start


def overlap_correlation(first: Details, second: Details) -> NDArray[np.float32]:
    """Correlate pairs of details where they overlap, at the best shift: float32 (K,), in [-1, 1].

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
    spectrum = fft.rfft2(first, s=shape) * np.conj(fft.rfft2(second, s=shape))
    return np.asarray(fft.irfft2(spectrum, s=shape), np.float32)


def _rich(energy: NDArray[np.floating], images: Details) -> NDArray[np.bool_]:
    return np.asarray(energy >= MIN_OVERLAP * images.var(axis=(1, 2), keepdims=True) * SIDE**2)
