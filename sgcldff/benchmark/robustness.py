"""How scores hold under changes of the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sgcldff.benchmark.protocols import CHANGES, REFERENCE, Protocol
from sgcldff.benchmark.scoring import (
    OVERALL,
    SCORE,
    TYPE_SCORE,
    Contest,
    Entry,
    Runs,
    entries,
    mean_sampled,
)
from sgcldff.core.settings import EvalSpec, Perturbation
from sgcldff.evaluation.bootstrap import Sampled
from sgcldff.evaluation.metrics import Floats

Change = tuple[Perturbation, int]
"""Kind and strength."""
Scored = Mapping[str, Mapping[int, Sampled]]
SHARE, TYPE_SHARE = "share", "type_share"
"""What is left of the scores on unchanged images, as a share, on the mean over all changes."""


@dataclass(frozen=True)
class Trial:
    """What contenders said of unchanged and of changed images."""

    clean: Runs
    changed: Mapping[Change, Runs]
    spec: EvalSpec
    type_only: frozenset[str] = frozenset()

    def entries(self) -> Iterator[Entry]:
        """Give the scores under every change, their mean, and what share of the clean score that is.

        Only seeds that were scored under all changes count.
        """
        columns, clean = tuple(_columns()), self._scores(self.clean)
        changed = [self._scores(self.changed.get(change, {})) for change in CHANGES]
        every = {name: _rows_of(name, clean, changed) for name in clean}
        whole = {name: seeds for name, seeds in every.items() if seeds}
        ours = mean_sampled(whole[REFERENCE]) if REFERENCE in whole else None
        for name, seeds in whole.items():
            base = ours if name != REFERENCE else None
            yield from entries((Protocol.ROBUSTNESS, name), columns, seeds, base, self.spec)

    def _scores(self, runs: Runs) -> Scored:
        """Keep score and type score alone, (2,) of every contender and seed."""
        found = Contest(runs, self.spec, self.type_only).sampled
        return {
            name: {seed: Sampled(one.values[-2:], one.draws[:, -2:]) for seed, one in seeds.items()}
            for name, seeds in found.items()
        }


def _rows_of(name: str, clean: Scored, changed: Sequence[Scored]) -> list[Sampled]:
    complete = [seed for seed in clean[name] if all(seed in side.get(name, {}) for side in changed)]
    return [_against(clean[name][seed], [side[name][seed] for side in changed]) for seed in complete]


def _columns() -> Iterator[tuple[str, str]]:
    for figure, share in ((SCORE, SHARE), (TYPE_SCORE, TYPE_SHARE)):
        yield OVERALL, f"clean_{figure}"
        yield from ((kind.value, f"{figure}@{strength}") for kind, strength in CHANGES)
        yield from ((kind.value, figure) for kind in Perturbation)
        yield from ((OVERALL, figure), (OVERALL, share))


def _against(clean: Sampled, changed: Sequence[Sampled]) -> Sampled:
    values = _rows(clean.values[None], np.stack([one.values for one in changed])[:, None])
    draws = _rows(clean.draws, np.stack([one.draws for one in changed]))
    return Sampled(values[0], draws)


def _rows(clean: Floats, changed: Floats) -> Floats:
    """From scores (R, 2), and those under C changes (C, R, 2), to columns of `_columns`, (R, M)."""
    parts = []
    for k in range(2):
        scores = changed[..., k].T
        kinds = [scores[:, [kind is own for own, _ in CHANGES]].mean(axis=1) for kind in Perturbation]
        mean = scores.mean(axis=1)
        parts += [clean[:, k], scores, *kinds, mean, _ratio(mean, clean[:, k])]
    return np.column_stack(parts)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))
