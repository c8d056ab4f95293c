"""Consensus of the reviews of a cell by several people, or repeatedly by one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.labels import BROADER, NO_WHITE_CELL
from sgcldff.data.reviews.store import CANNOT_TELL, Review

SAME_UM = 3.0
"""Centres this close belong to one cell, for example as found by two models; white cells are at least 7 um wide."""


@dataclass(frozen=True)
class Consensus:
    """The outcome of all reviews of a cell."""

    slide_sha256: str
    label: str | None
    """The type; None: most reviewers cannot classify the cell, or there is no majority; it stays unidentified."""
    votes: tuple[Review, ...]
    """The last review of every reviewer, by the reviewers' names."""

    @property
    def latest(self) -> Review:
        """The most recent review."""
        return max(self.votes, key=_moment)

    @property
    def reviewed_at(self) -> datetime:
        """Time of the most recent review, UTC."""
        return self.latest.reviewed_at

    @property
    def reviewers(self) -> tuple[str, ...]:
        """Names of the reviewers."""
        return tuple(review.reviewer for review in self.votes)

    @property
    def disputed(self) -> bool:
        """Whether there is no majority."""
        return majority(review.label for review in self.votes) is None


def consensus_of(reviews: Iterable[Review]) -> tuple[Consensus, ...]:
    """Return the consensus on every reviewed cell, independent of the order of the reviews.

    Each reviewer's last review of a cell counts. The answer of more than half of the reviewers is the consensus, and
    "cannot tell" is an answer. Without a majority the cell stays unidentified.
    """
    ordered = sorted(reviews, key=lambda review: (review.slide_sha256, review.id))
    slides = groupby(ordered, key=lambda review: review.slide_sha256)
    return tuple(_consensus(of_cell) for _, of_slide in slides for of_cell in _by_cell(list(of_slide)))


def _by_cell(reviews: Sequence[Review]) -> Iterator[list[Review]]:
    """Group the reviews of a slide by cell."""
    from scipy.sparse import coo_array  # slow to import, and not needed to check a command's arguments
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    pairs = KDTree(positions_of(reviews)).query_pairs(SAME_UM, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(reviews),) * 2)
    _, cells = connected_components(links, directed=False)
    ordered = sorted(range(len(reviews)), key=lambda index: int(cells[index]))
    for _, members in groupby(ordered, key=lambda index: int(cells[index])):
        yield [reviews[index] for index in members]


def positions_of(reviews: Iterable[Review]) -> NDArray[np.float64]:
    """Return the positions of reviewed cells, (x, y) in um, shape (N, 2)."""
    return np.array([(review.x_um, review.y_um) for review in reviews], np.float64).reshape(-1, 2)


def _consensus(reviews: Iterable[Review]) -> Consensus:
    last: dict[str, Review] = {}
    for review in sorted(reviews, key=_moment):
        last[review.reviewer.casefold()] = review
    votes = tuple(last[name] for name in sorted(last))
    label = majority(review.label for review in votes)
    return Consensus(votes[0].slide_sha256, None if label == CANNOT_TELL else label, votes)


def _moment(review: Review) -> tuple[bool, datetime, str]:
    """Return a sort key by time; a review that claims to come from the future outranks none."""
    return not in_future(review.reviewed_at), review.reviewed_at, review.id


def in_future(moment: datetime) -> bool:
    """Return whether a time lies ahead by more than clocks and time zones may differ."""
    return moment > datetime.now(UTC) + timedelta(days=1)


def majority(labels: Iterable[str]) -> str | None:
    """Return the label with more than half of the votes; None if there is none.

    Who differ only in what else a cell is, such as a platelet or debris, agree that it is no white cell.
    """
    own = tuple(labels)
    broad = tuple(NO_WHITE_CELL if BROADER.get(label) == NO_WHITE_CELL else label for label in own)
    for answers in (own, broad):
        label, votes = Counter(answers).most_common(1)[0]
        if 2 * votes > len(answers):
            return label
    return None
