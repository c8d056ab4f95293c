"""Robustness of scores to corruptions of the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sgcldff.benchmark import scoring
from sgcldff.benchmark.protocols import CORRUPTIONS, REFERENCE, Protocol
from sgcldff.core.settings import EvalSpec, Perturbation
from sgcldff.evaluation.bootstrap import BootstrapScores
from sgcldff.evaluation.metrics import Doubles

Corruption = tuple[Perturbation, int]
"""Kind and strength."""
SHARE, TYPE_SHARE = "share", "type_share"
"""Mean score over all corruptions, as a share of the score on unchanged images."""


@dataclass(frozen=True)
class RobustnessComparison:
    """Predictions of candidates on unchanged and on corrupted images."""

    clean: scoring.CandidatePredictions
    corrupted: Mapping[Corruption, scoring.CandidatePredictions]
    spec: EvalSpec
    type_only: frozenset[str] = frozenset()

    def entries(self) -> Iterator[scoring.ScoreEntry]:
        """Return the scores under every corruption, their mean, and its share of the score on unchanged images.

        Only seeds that were scored under all corruptions are included.
        """
        columns, clean = tuple(_columns()), self._scores(self.clean)
        corrupted = [self._scores(self.corrupted.get(corruption, {})) for corruption in CORRUPTIONS]
        complete = {
            name: [
                _combined(own, [side[name][seed] for side in corrupted])
                for seed, own in seeds.items()
                if all(seed in side.get(name, {}) for side in corrupted)
            ]
            for name, seeds in clean.items()
        }
        reference = scoring.mean_over_seeds(complete[REFERENCE]) if complete.get(REFERENCE) else None
        for name, seeds in complete.items():
            if seeds:
                base = reference if name != REFERENCE else None
                yield from scoring.score_entries(Protocol.ROBUSTNESS, name, columns, seeds, base, self.spec)

    def _scores(self, runs: scoring.CandidatePredictions) -> Mapping[str, Mapping[int, BootstrapScores]]:
        """Return score and type score only, (2,) for every candidate and seed."""
        scores = scoring.Comparison(runs, self.spec, self.type_only).scores
        return {
            name: {seed: BootstrapScores(one.values[-2:], one.draws[:, -2:]) for seed, one in seeds.items()}
            for name, seeds in scores.items()
        }


def _columns() -> Iterator[tuple[str, str]]:
    for figure, share in ((scoring.SCORE, SHARE), (scoring.TYPE_SCORE, TYPE_SHARE)):
        yield scoring.OVERALL, f"clean_{figure}"
        yield from ((kind.value, f"{figure}@{strength}") for kind, strength in CORRUPTIONS)
        yield from ((kind.value, figure) for kind in Perturbation)
        yield from ((scoring.OVERALL, figure), (scoring.OVERALL, share))


def _combined(clean: BootstrapScores, corrupted: Sequence[BootstrapScores]) -> BootstrapScores:
    values = _rows(clean.values[None], np.stack([one.values for one in corrupted])[:, None])
    draws = _rows(clean.draws, np.stack([one.draws for one in corrupted]))
    return BootstrapScores(values[0], draws)


def _rows(clean: Doubles, corrupted: Doubles) -> Doubles:
    """Arrange scores (R, 2), and those under C corruptions (C, R, 2), in the order of `_columns`, (R, M)."""
    parts = []
    for k in range(2):
        scores, whole = corrupted[..., k].T, clean[:, k]
        kinds = [scores[:, [kind is own for own, _ in CORRUPTIONS]].mean(axis=1) for kind in Perturbation]
        mean = scores.mean(axis=1)
        share = np.divide(mean, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
        parts += [whole, scores, *kinds, mean, share]
    return np.column_stack(parts)
