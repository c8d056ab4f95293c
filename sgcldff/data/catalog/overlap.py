"""Whether two images show the same place: shifted, mirrored, turned by right angles, or lit differently.

All verdicts depend on the two images alone, so that further images never change them.
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
"""Standard deviation (px) of the blur that is taken away, and with it stain and illumination."""
BAND = (0.024, 0.383)
"""Radial frequencies (cycles a px) that enter a fingerprint."""
WINDOW = 32
"""Side (px) of the nine overlapping windows by which images that share only a part are compared."""
MIN_OVERLAP = 0.25
"""Share of a thumbnail, and of its detail's energy, that has to be seen in both images."""
BLOCK = 512

Pairs = NDArray[np.int64]
"""int64, shape (K, 2): indices i < j."""

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
    """Describe details in a way that hardly changes when the image is shifted: unit vectors, float32 (N, F).

    Square roots of the amplitudes of the Fourier transform, less their mean on each ring of equal frequency. What all
    images of blobs share is on that mean; the rest tells one image from another.

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
    used = (radius >= BAND[0] * side) & (radius < BAND[1] * side) & ~((columns == 0) & (rows < 0))
    return used, radius[used].round().astype(np.int64)


def alike(images: Details, min_similarity: float) -> Iterator[tuple[Pairs, int]]:
    """Find the pairs whose fingerprints' cosine is at least `min_similarity`, in any orientation.

    Yields
    ------
    Indices i < j, int64 (K, 2), and an orientation of the first that makes its fingerprint like the second's; that
    turned by two more right angles does so too, since amplitudes do not tell them apart.
    """
    known = fingerprints(images)
    for orientation in (0, 1, 4, 5):
        turned = known if orientation == 0 else fingerprints(oriented(images, orientation))
        yield from ((pairs, orientation) for pairs in _similar(turned, known, min_similarity))


def displaced(images: Details, min_similarity: float) -> Iterator[Pairs]:
    """Find the pairs, i < j, that are alike in windows which lie apart by the same displacement.

    The mean cosine of w windows has to reach `min_similarity` * sqrt(9 / w), as its noise is larger with fewer of
    them; two windows at least are compared.
    """
    starts = range(0, SIDE - WINDOW + 1, WINDOW // 2)
    windows = {(y, x): fingerprints(images[:, y : y + WINDOW, x : x + WINDOW]) for y in starts for x in starts}
    for step in product(range(WINDOW - SIDE, SIDE - WINDOW + 1, WINDOW // 2), repeat=2):
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
    spectrum = fft.rfft2(first, s=shape) * np.conj(fft.rfft2(second, s=shape))
    return np.asarray(fft.irfft2(spectrum, s=shape), np.float32)


def _rich(energy: NDArray[np.floating], images: Details) -> NDArray[np.bool_]:
    return np.asarray(energy >= MIN_OVERLAP * images.var(axis=(1, 2), keepdims=True) * SIDE**2)
