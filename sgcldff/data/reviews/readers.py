"""How far readers agree on the cells that both answered: Cohen's kappa, and the cells on which they differ."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

from sgcldff.core.proportions import Range, beyond_chance, exact_interval
from sgcldff.core.wording import counted
from sgcldff.data.reviews.consensus import Consensus
from sgcldff.data.reviews.store import Review

Pair = tuple[Review, Review]
"""What two readers answered about one cell."""


@dataclass(frozen=True)
class ReaderAgreement:
    """How two readers answered the same cells."""

    readers: tuple[str, str]
    cells: int
    """Cells that both answered."""
    kappa: Range | None
    """Agreement beyond chance, 1 at most; None where both gave one answer throughout, as by chance alone."""
    disagreements: tuple[Pair, ...]
    """Cells on which they differ, by slide and position."""
    confidence: float
    """Level of the interval of kappa."""

    @property
    def agreed(self) -> int:
        """Cells on which both gave the same answer."""
        return self.cells - len(self.disagreements)

    def __str__(self) -> str:
        both = f"{' and '.join(self.readers)}: {self.agreed} of {counted(self.cells, 'cell')} alike"
        if self.kappa is None:
            return f"{both}, one answer throughout: no kappa"
        return f"{both}, kappa {self.kappa.value:.2f} ({self.kappa.low:.2f} – {self.kappa.high:.2f})"

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-ready form."""
        different = [
            {"slide_id": one.slide_id, "cell_id": one.cell_id, "answers": [one.label, other.label]}
            for one, other in self.disagreements
        ]
        kappa = self.kappa and asdict(self.kappa)
        numbers = {"cells": self.cells, "agreed": self.agreed, "kappa": kappa, "confidence": self.confidence}
        return {"readers": list(self.readers), **numbers, "disagreements": different}


def reader_agreements(verdicts: Iterable[Consensus], confidence: float = 0.95) -> tuple[ReaderAgreement, ...]:
    """Compare every two readers on the cells that both answered, by their last answers.

    "Cannot tell" is an answer as others are.

    Parameters
    ----------
    confidence
        Level of the intervals.
    """
    answers: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for verdict in verdicts:
        for pair in combinations(verdict.votes, 2):
            answers[pair[0].reviewer.casefold(), pair[1].reviewer.casefold()].append(pair)
    return tuple(_agreement(pairs, confidence) for _, pairs in sorted(answers.items()))


def _agreement(pairs: Sequence[Pair], confidence: float) -> ReaderAgreement:
    different = [pair for pair in pairs if pair[0].label != pair[1].label]
    ordered = sorted(different, key=lambda pair: (pair[0].slide_id, pair[0].y_um, pair[0].x_um))
    labels = [(one.label, other.label) for one, other in pairs]
    names = (pairs[-1][0].reviewer, pairs[-1][1].reviewer)
    return ReaderAgreement(names, len(pairs), cohen_kappa(labels, confidence), tuple(ordered), confidence)


def cohen_kappa(labels: Sequence[tuple[str, str]], confidence: float = 0.95) -> Range | None:
    """Return Cohen's kappa of pairs of labels; None where only one label occurs.

    The interval is that of the share of agreement (Clopper-Pearson), with the agreement by chance taken as known: as J.
    Cohen's own (Educ. Psychol. Meas. 20, 1960), but exact. The usual standard error of kappa itself is 0 where all
    labels agree, and too small where few differ.
    """
    one, other = zip(*labels, strict=True)
    if len({*one, *other}) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score  # slow to import

    first, second = Counter(one), Counter(other)
    chance = sum(first[label] * second[label] for label in first) / len(labels) ** 2
    same = sum(a == b for a, b in labels)
    low, high = (beyond_chance(share, chance) for share in exact_interval(same, len(labels), confidence))
    return Range(float(cohen_kappa_score(one, other)), low, high)
