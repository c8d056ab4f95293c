"""What the reviews of a cell come to, when several people, or one person twice, have spoken."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sgcldff.data.reviews.store import CANNOT_TELL, Review

SAME_UM = 3.0
"""Centres this close are of one cell, found by two models, say; white cells are 7 um wide or more."""


@dataclass(frozen=True)
class Verdict:
    """What is held of a cell after all of its reviews."""

    slide_sha256: str
    label: str | None
    """The type; None: most cannot tell it, or no majority agrees, and the cell is unidentified still."""
    votes: tuple[Review, ...]
    """The last review of every reviewer, by the reviewers' names."""

    @property
    def latest(self) -> Review:
        """The review that came last."""
        return max(self.votes, key=_moment)

    @property
    def reviewed_at(self) -> datetime:
        """When the last of the reviews was made, UTC."""
        return self.latest.reviewed_at

    @property
    def reviewers(self) -> tuple[str, ...]:
        """Who reviewed the cell."""
        return tuple(review.reviewer for review in self.votes)

    @property
    def disputed(self) -> bool:
        """Reviewers differ, and no majority agrees."""
        return majority(review.label for review in self.votes) is None


def settle(reviews: Iterable[Review]) -> tuple[Verdict, ...]:
    """Return the verdict on every cell that was reviewed, in whatever order the reviews come.

    Of each reviewer the last review of a cell counts. The answer of more than half of the reviewers holds; that they
    cannot tell is an answer. Otherwise the cell stays unidentified.
    """
    ordered = sorted(reviews, key=lambda review: (review.slide_sha256, review.id))
    slides = groupby(ordered, key=lambda review: review.slide_sha256)
    return tuple(_verdict(spot) for _, of_slide in slides for spot in _spots(list(of_slide)))


def _spots(reviews: Sequence[Review]) -> Iterator[list[Review]]:
    """Gather the reviews of each cell of a slide."""
    from scipy.sparse import coo_array  # these take longer to load than to check all that a command is given
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    pairs = KDTree(places_of(reviews)).query_pairs(SAME_UM, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(reviews),) * 2)
    _, numbers = connected_components(links, directed=False)
    ordered = sorted(range(len(reviews)), key=lambda at: int(numbers[at]))
    for _, members in groupby(ordered, key=lambda at: int(numbers[at])):
        yield [reviews[at] for at in members]


def places_of(reviews: Iterable[Review]) -> NDArray[np.float64]:
    """Return the places of reviewed cells, (x, y) in um, shape (N, 2)."""
    return np.array([(review.x_um, review.y_um) for review in reviews], np.float64).reshape(-1, 2)


def _verdict(reviews: Iterable[Review]) -> Verdict:
    last: dict[str, Review] = {}
    for review in sorted(reviews, key=_moment):
        last[review.reviewer.casefold()] = review
    votes = tuple(last[name] for name in sorted(last))
    label = majority(review.label for review in votes)
    return Verdict(votes[0].slide_sha256, None if label == CANNOT_TELL else label, votes)


def _moment(review: Review) -> tuple[datetime, str]:
    return review.reviewed_at, review.id


def majority(labels: Iterable[str]) -> str | None:
    """Return the label that more than half of the votes are for; None where there is none."""
    counts = Counter(labels)
    label, votes = counts.most_common(1)[0]
    return label if 2 * votes > counts.total() else None
