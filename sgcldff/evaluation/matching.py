"""Matching of detected cells with true ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

Points = NDArray[np.float64]
"""(N, 2), x and y in the same unit."""


@dataclass(frozen=True)
class Matching:
    """Pairs of detected and true cells, each in at most one pair."""

    pairs: NDArray[np.int64]
    """(M, 2): index of the detected and of the true cell."""
    detected: int
    true: int

    @property
    def recall(self) -> float:
        """Share of the true cells that are detected; 1 if there are none."""
        return len(self.pairs) / self.true if self.true else 1.0

    @property
    def precision(self) -> float:
        """Share of the detected cells that are true; 1 if there are none."""
        return len(self.pairs) / self.detected if self.detected else 1.0

    @property
    def missed(self) -> int:
        """Number of true cells that are not detected."""
        return self.true - len(self.pairs)

    @property
    def false_positives(self) -> int:
        """Number of detected cells that are not true."""
        return self.detected - len(self.pairs)


def match_cells(detected: Points, true: Points, radius: float) -> Matching:
    """Pair cells whose centres lie within `radius`: as many as possible, then as close together as possible.

    Each cluster of neighbouring cells is a separate linear assignment problem, so that millions of cells are feasible.
    """
    if not len(detected) or not len(true):
        return Matching(np.empty((0, 2), np.int64), len(detected), len(true))
    near = KDTree(detected).sparse_distance_matrix(KDTree(true), radius, output_type="coo_matrix")
    if not near.nnz:
        return Matching(np.empty((0, 2), np.int64), len(detected), len(true))
    shape = (len(detected) + len(true),) * 2
    graph = coo_array((np.ones(near.nnz), (near.row, near.col + len(detected))), shape=shape)
    _, cluster = connected_components(graph, directed=False)
    order = np.argsort(cluster[near.row], kind="stable")
    bounds = np.flatnonzero(np.diff(cluster[near.row][order], prepend=-1))
    edges = zip(bounds, [*bounds[1:], len(order)], strict=True)
    pairs = [_assign(near.row[order[a:b]], near.col[order[a:b]], near.data[order[a:b]], radius) for a, b in edges]
    return Matching(np.concatenate([np.empty((0, 2), np.int64), *pairs]), len(detected), len(true))


def _assign(rows: NDArray[np.int64], columns: NDArray[np.int64], distances: Points, radius: float) -> NDArray[np.int64]:
    """Solve one cluster; a pair further apart than `radius` costs more than all allowed pairs together."""
    detected, row = np.unique(rows, return_inverse=True)
    true, column = np.unique(columns, return_inverse=True)
    forbidden = (1 + radius) * (1 + len(detected) + len(true))
    cost = np.full((len(detected), len(true)), forbidden)
    cost[row, column] = distances
    assigned = np.column_stack(linear_sum_assignment(cost))
    allowed = assigned[cost[assigned[:, 0], assigned[:, 1]] < forbidden]
    return np.column_stack((detected[allowed[:, 0]], true[allowed[:, 1]])).astype(np.int64)
