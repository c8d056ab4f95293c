"""Pairs of images that show nearly the same: perceptual hashes find them, thumbnails confirm them."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64

Pairs = NDArray[np.int64]
"""int64, shape (K, 2): indices i < j, each pair once, sorted."""


def hash_bits(hashes: list[str]) -> NDArray[np.uint64]:
    """Turn hashes of 16 hexadecimal digits into uint64, shape (N,)."""
    return np.array([int(text, 16) for text in hashes], np.uint64)


def close_pairs(hashes: NDArray[np.uint64], distance: int) -> Pairs:
    """Find all pairs of hashes that differ in at most `distance` bits.

    Multi-index hashing (Norouzi, Punjani and Fleet 2012): two hashes that differ in at most d bits agree on at least
    one of d + 1 parts, so only hashes that share a part are compared. No pair is missed.

    Parameters
    ----------
    hashes
        uint64, shape (N,).
    """
    found = [pairs[_differ(hashes, pairs) <= distance] for pairs in _candidates(hashes, distance + 1)]
    if not found:
        return np.empty((0, 2), np.int64)
    return np.unique(np.concatenate(found), axis=0)


def _differ(hashes: NDArray[np.uint64], pairs: Pairs) -> NDArray[np.uint8]:
    return np.asarray(np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]))


def _candidates(hashes: NDArray[np.uint64], parts: int) -> Iterator[Pairs]:
    edges = np.linspace(0, HASH_BITS, parts + 1).astype(np.uint64)
    for low, high in pairwise(edges):
        mask = np.uint64(2 ** int(high - low) - 1)
        yield from _same((hashes >> low) & mask)


def _same(keys: NDArray[np.uint64]) -> Iterator[Pairs]:
    """Pair the indices of equal keys, one index with all later ones of its bucket at a time."""
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order])) + 1
    for bucket in np.split(order, bounds):
        for position in range(len(bucket) - 1):
            later = bucket[position + 1 :]
            yield np.column_stack([np.full_like(later, bucket[position]), later])


def correlation(thumbnails: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.float64]:
    """Correlate the thumbnails of each pair: float64, shape (K,), in [-1, 1].

    Parameters
    ----------
    thumbnails
        uint8, shape (N, pixels).
    """
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    return np.asarray(np.einsum("kp,kp->k", unit[pairs[:, 0]], unit[pairs[:, 1]]))


def near_duplicates(
    hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], distance: int, min_correlation: float
) -> Pairs:
    """Find the pairs whose hashes are at most `distance` bits apart and whose thumbnails correlate enough."""
    pairs = close_pairs(hashes, distance)
    return pairs[correlation(thumbnails, pairs) >= min_correlation]
