"""Fixtures of the tests beside this file."""

import pytest

from tests.damage.kept import make_slide, slide_job
from tests.sgcldff.results.reviewing import every_third_sure, make_queue


@pytest.fixture(scope="module")
def results(smear, read_as, tmp_path_factory):
    """Give a batch with one slide that was read."""
    return read_as(tmp_path_factory.mktemp("results") / "smear", smear, every_third_sure(smear)).parent


@pytest.fixture(scope="module")
def queue(results, smear, tmp_path_factory):
    """Give a queue of the unidentified cells."""
    folder = tmp_path_factory.mktemp("queue") / "queue"
    make_queue(folder, results, smear.slide)
    return folder


@pytest.fixture
def job(tmp_path):
    """Paint a slide of four cells and read it."""
    make_slide(tmp_path)
    return slide_job(tmp_path, tmp_path / "out")
