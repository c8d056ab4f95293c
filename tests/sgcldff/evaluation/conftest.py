"""Fixtures of the tests beside this file."""

import pytest

from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import Sample
from sgcldff.evaluation import EvalReport
from sgcldff.evaluation.evaluate import evaluate
from tests.sgcldff.evaluation.painted import QUICK, model_of, paint, sample_of


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    """Three cells of every one of five types, each in a group of its own."""
    folder = tmp_path_factory.mktemp("painted")
    return tuple(
        sample_of(paint(folder, f"{name}{i}", ink, [(48 + i, 46, 30)]), name)
        for ink, name in enumerate(FIVE_TYPES)
        for i in range(3)
    )


@pytest.fixture(scope="module")
def report(painted: tuple[Sample, ...]) -> EvalReport:
    return evaluate(model_of(), painted, QUICK)
