"""A training stopped by its deadline resumes to the same weights."""

from dataclasses import replace
from itertools import count

import pytest

from sgcldff.core.errors import OutOfTimeError
from sgcldff.core.labels import WBC5
from sgcldff.core.settings import ModelSpec, TrainSpec
from sgcldff.models.model import load_model
from sgcldff.models.training.deadline import Deadline
from sgcldff.models.training.trainer import LAST_CHECKPOINT, train
from tests.small import SMALL

pytestmark = pytest.mark.slow

MODEL = ModelSpec(net=SMALL, labels=WBC5, crop_px=64)
SPEC = TrainSpec(epochs=2, batch_size=8, seed=5)


@pytest.fixture(scope="module")
def data(smears):
    """Return samples and priors to train on."""
    catalog, priors = smears
    return catalog.samples, priors


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """Return the digest of an uninterrupted training."""
    return digest(train(*data, MODEL, SPEC, tmp_path_factory.mktemp("whole"), None, "cpu").folder)


def digest(folder):
    return load_model(folder, "cpu").digest


def test_a_training_stopped_twice_ends_like_an_uninterrupted_one(data, undisturbed, tmp_path):
    last = tmp_path / f"{LAST_CHECKPOINT}.ckpt"
    for _ in range(2):
        deadline = Deadline(3, last, clock=count(1).__next__)
        with pytest.raises(OutOfTimeError, match=r"last\.ckpt is written") as stop:
            train(*data, MODEL, SPEC, tmp_path, [deadline], "cpu")
        assert stop.value.exit_code == 3
        assert not (tmp_path / "model").exists()
    assert digest(train(*data, MODEL, SPEC, tmp_path, None, "cpu").folder) == undisturbed


def test_a_training_in_time_is_not_stopped(data, undisturbed, tmp_path):
    deadline = Deadline(1, tmp_path / f"{LAST_CHECKPOINT}.ckpt", clock=lambda: 0.0)
    assert digest(train(*data, MODEL, SPEC, tmp_path, [deadline], "cpu").folder) == undisturbed


def test_an_epoch_is_validated_before_a_late_training_stops(data, tmp_path):
    steps = -(-sum(sample.split == "train" for sample in data[0]) // SPEC.batch_size)
    deadline = Deadline(steps, tmp_path / f"{LAST_CHECKPOINT}.ckpt", clock=count(1).__next__)
    with pytest.raises(OutOfTimeError, match="epoch 2 of 3"):
        train(*data, MODEL, replace(SPEC, epochs=3), tmp_path, [deadline], "cpu")
    assert (tmp_path / "best.ckpt").is_file()
