"""One score over both protocols, in which the left-out data sets together count as one more data set."""

from collections.abc import Iterator
from dataclasses import replace

from sgcldff.benchmark.protocols import Protocol
from sgcldff.benchmark.scoring import OVERALL, CandidatePredictions, Comparison, ScoreEntry
from sgcldff.core.settings import EvalSpec

BOTH_PROTOCOLS = "within and left-out"
"""Name of the scores over both protocols."""
LEFT_OUT_ROW = f"{Protocol.LEFT_OUT}/"
"""Row of the left-out data sets, and prefix of their names."""


def pooled_entries(
    within: CandidatePredictions,
    left_out: CandidatePredictions,
    spec: EvalSpec,
    type_only: frozenset[str] = frozenset(),
) -> Iterator[ScoreEntry]:
    """Return scores over both protocols, for seeds that were scored in both, as `BOTH_PROTOCOLS` of `LEFT_OUT`.

    The terms of the mean are the goals of every data set within, and each goal's mean over the left-out data sets.
    """
    runs = {
        name: {
            seed: {**within[name][seed], **{f"{LEFT_OUT_ROW}{source}": own for source, own in run.items()}}
            for seed, run in seeds.items()
            if seed in within[name]
        }
        for name, seeds in left_out.items()
        if name in within
    }
    sources = {source for seeds in left_out.values() for run in seeds.values() for source in run}
    rows = {f"{LEFT_OUT_ROW}{source}": LEFT_OUT_ROW for source in sources}
    for entry in Comparison(runs, spec, type_only, rows).entries(Protocol.LEFT_OUT):
        if entry.data == OVERALL:
            yield replace(entry, data=BOTH_PROTOCOLS)
