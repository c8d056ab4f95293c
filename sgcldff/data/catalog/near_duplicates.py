"""Near-duplicate images: candidates by hashes and fingerprints, confirmed by correlation of the overlap."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.settings import IngestSpec
from sgcldff.data.catalog.overlap import Details, Pairs, alike, details, displaced, oriented, overlap_correlation

HASH_BITS = 64
CORRELATION_BATCH = 64


def hash_bits(hashes: list[str]) -> NDArray[np.uint64]:
    """Convert hashes of 16 hexadecimal digits to uint64, shape (N,)."""
    return np.array([int(text, 16) for text in hashes], np.uint64)


def close_pairs(hashes: NDArray[np.uint64], distance: int) -> Pairs:
    """Find all pairs of hashes that differ in at most `distance` bits: each once, sorted.

    Multi-index hashing (Norouzi, Punjani and Fleet 2012): two hashes that differ in at most d bits agree on at least
    one of d + 1 parts, so only hashes that share a part are compared. No pair is missed.

    Parameters
    ----------
    hashes
        uint64, shape (N,).
    """
    candidates = _candidates(hashes, distance + 1)
    return _unique(
        [pairs[np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= distance] for pairs in candidates]
    )


def _unique(found: list[Pairs]) -> Pairs:
    return np.unique(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=0)


def _candidates(hashes: NDArray[np.uint64], parts: int) -> Iterator[Pairs]:
    edges = np.linspace(0, HASH_BITS, parts + 1).astype(np.uint64)
    for low, high in pairwise(edges):
        mask = np.uint64(2 ** int(high - low) - 1)
        keys = (hashes >> low) & mask
        order = np.argsort(keys, kind="stable")
        bounds = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, bounds):
            for position in range(len(bucket) - 1):
                later = bucket[position + 1 :]
                yield np.column_stack([np.full_like(later, bucket[position]), later])


def near_duplicates(hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], spec: IngestSpec) -> Pairs:
    """Find the pairs that show the same place, shifted, mirrored, rotated by right angles or lit differently.

    Parameters
    ----------
    hashes
        uint64, shape (N,).
    thumbnails
        uint8, shape (N, 64, 64).
    """
    images = details(thumbnails)
    upright = _unique([close_pairs(hashes, spec.hash_distance), *displaced(images, spec.min_similarity)])
    candidates = [(upright, 0)]
    for pairs, orientation in alike(images, spec.min_similarity):
        candidates += [(pairs, orientation), (pairs, orientation + 2)]
    return _unique([pairs[_confirmed(images, pairs, turn, spec.min_correlation)] for pairs, turn in candidates])


def _confirmed(images: Details, pairs: Pairs, orientation: int, min_correlation: float) -> NDArray[np.bool_]:
    scores = [
        overlap_correlation(oriented(images[batch[:, 0]], orientation), images[batch[:, 1]])
        for batch in np.split(pairs, range(CORRELATION_BATCH, len(pairs), CORRELATION_BATCH))
    ]
    return np.concatenate(scores) >= min_correlation
