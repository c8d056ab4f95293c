"""One score over both protocols: every data set within, and a data set left out as one more."""

from collections.abc import Iterator
from dataclasses import replace

from sgcldff.benchmark.protocols import Protocol
from sgcldff.benchmark.scoring import OVERALL, Contest, Entry, Run, Runs
from sgcldff.core.settings import EvalSpec

TOGETHER = "within and left-out"
"""Name under which both protocols are taken together."""
_APART = f"{Protocol.LEFT_OUT}/"
"""Start of the name that a data set left out has beside itself within."""


def together(within: Runs, apart: Runs, spec: EvalSpec, type_only: frozenset[str] = frozenset()) -> Iterator[Entry]:
    """Give scores over both protocols, of seeds that were scored in both: `Protocol.LEFT_OUT`, under `TOGETHER`.

    The terms of the mean are the goals of every data set within, and of each goal the mean over the data sets left out.
    """
    runs = {
        name: {seed: _side_by_side(within[name][seed], run) for seed, run in seeds.items() if seed in within[name]}
        for name, seeds in apart.items()
        if name in within
    }
    rows = {f"{_APART}{source}": _APART for seeds in apart.values() for run in seeds.values() for source in run}
    for entry in Contest(runs, spec, type_only, rows).entries(Protocol.LEFT_OUT):
        if entry.data == OVERALL:
            yield replace(entry, data=TOGETHER)


def _side_by_side(within: Run, apart: Run) -> Run:
    return {**within, **{f"{_APART}{source}": said for source, said in apart.items()}}
