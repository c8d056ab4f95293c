"""Found cells against known ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

Points = NDArray[np.float64]
"""(N, 2), x and y in one unit."""


@dataclass(frozen=True)
class Matching:
    """Pairs of found and true cells, each used once."""

    pairs: NDArray[np.int64]
    """(M, 2): index of the found and of the true cell."""
    found: int
    true: int

    @property
    def recall(self) -> float:
        """Share of the true cells that were found; 1 where there are none."""
        return len(self.pairs) / self.true if self.true else 1.0

    @property
    def precision(self) -> float:
        """Share of the found cells that are true; 1 where none was found."""
        return len(self.pairs) / self.found if self.found else 1.0

    @property
    def missed(self) -> int:
        """True cells that were not found."""
        return self.true - len(self.pairs)

    @property
    def invented(self) -> int:
        """Found cells that are not there."""
        return self.found - len(self.pairs)


def match_cells(found: Points, true: Points, radius: float) -> Matching:
    """Pair cells whose centres lie within `radius`, as many as possible, then as close together as possible.

    Clusters of near cells are solved one by one by linear assignment, so millions of cells are no burden.
    """
    if not len(found) or not len(true):
        return Matching(np.empty((0, 2), np.int64), len(found), len(true))
    near = KDTree(found).sparse_distance_matrix(KDTree(true), radius, output_type="coo_matrix")
    if not near.nnz:
        return Matching(np.empty((0, 2), np.int64), len(found), len(true))
    shape = (len(found) + len(true),) * 2
    graph = coo_array((np.ones(near.nnz), (near.row, near.col + len(found))), shape=shape)
    _, cluster = connected_components(graph, directed=False)
    order = np.argsort(cluster[near.row], kind="stable")
    bounds = np.flatnonzero(np.diff(cluster[near.row][order], prepend=-1))
    edges = zip(bounds, [*bounds[1:], len(order)], strict=True)
    pairs = [_assign(near.row[order[a:b]], near.col[order[a:b]], near.data[order[a:b]], radius) for a, b in edges]
    return Matching(np.concatenate([np.empty((0, 2), np.int64), *pairs]), len(found), len(true))


def _assign(rows: NDArray[np.int64], columns: NDArray[np.int64], gaps: Points, radius: float) -> NDArray[np.int64]:
    """Solve one cluster; a pair further apart than `radius` costs more than all allowed ones together."""
    found, row = np.unique(rows, return_inverse=True)
    true, column = np.unique(columns, return_inverse=True)
    forbidden = (1 + radius) * (1 + len(found) + len(true))
    cost = np.full((len(found), len(true)), forbidden)
    cost[row, column] = gaps
    chosen = np.column_stack(linear_sum_assignment(cost))
    kept = chosen[cost[chosen[:, 0], chosen[:, 1]] < forbidden]
    return np.column_stack((found[kept[:, 0]], true[kept[:, 1]])).astype(np.int64)
