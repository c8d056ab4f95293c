"""Scores of a benchmark, made from bootstrap distributions that are written down here."""

import numpy as np
import pytest

from sgcldff.benchmark.protocols import Protocol
from sgcldff.benchmark.scoring import EXPLANATIONS, score_entries
from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.bootstrap import BootstrapScores

COLUMNS = (("smears", "calibration_error"), ("smears", "accuracy"), ("smears", EXPLANATIONS[0]))


def test_intervals_end_where_the_figures_do() -> None:
    """Resamples of few groups are spread, beyond 0 and 1 where a score is near."""
    values = np.array([0.02, 0.98, 0.01])
    one = BootstrapScores(values, values + np.linspace(-0.1, 0.1, 201)[:, None])
    error, accuracy, explained = (
        entry.score for entry in score_entries(Protocol.WITHIN, "unet", COLUMNS, [one], None, EvalSpec())
    )
    assert (error.low, error.high) == (0, pytest.approx(0.115))
    assert (accuracy.low, accuracy.high) == (pytest.approx(0.885), 1)
    assert explained.low == pytest.approx(-0.085), "evidence can lie off the cell more than by chance"
