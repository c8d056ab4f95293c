"""Images that go missing or change during training are skipped per epoch, and everything else stays the same."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback

from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample, Split
from sgcldff.core.settings import TrainSpec
from sgcldff.models.model import load_model
from sgcldff.models.training import batches
from sgcldff.models.training.batches import EpochSampler, FileCheck, SmearDataModule
from sgcldff.models.training.examples import ExampleOptions, SampleKey, SmearDataset
from sgcldff.models.training.trainer import train
from sgcldff.slides.images import sha256_of
from tests.sgcldff.models.test_training import MODEL

SPEC = TrainSpec(epochs=3, batch_size=4, seed=5, ema_decay=0)


@pytest.fixture
def samples(smears, tmp_path) -> list[Sample]:
    """The catalog's samples on files of their own."""
    (tmp_path / "images").mkdir()
    return [
        replace(one, image=str(shutil.copy(one.image, tmp_path / "images" / f"{number}{Path(one.image).suffix}")))
        for number, one in enumerate(smears[0].samples)
    ]


def learned(samples: list[Sample]) -> list[Sample]:
    return [one for one in samples if one.split is Split.TRAIN]


def test_missing_and_changed_files_are_found_and_others_hashed_once(samples, monkeypatch):
    hashed = []
    monkeypatch.setattr(batches, "sha256_of", lambda path: hashed.append(str(path)) or sha256_of(path))
    check = FileCheck(samples)
    assert check.faults() == {}
    assert len(hashed) == sum(1 + (one.mask is not None) for one in samples)
    hashed.clear()
    kept = Path(samples[1].image).read_bytes()
    Path(samples[0].image).unlink()
    Path(samples[1].image).write_bytes(kept[:100])
    faults = check.faults()
    assert set(faults) == {0, 1}
    assert f"{samples[0].image}: cannot be read (No such file" in faults[0]
    assert "was changed since it was prepared" in faults[1]
    assert hashed == [samples[1].image]
    Path(samples[1].image).write_bytes(kept)
    assert set(check.faults()) == {0}


@given(st.integers(2, 30), st.integers(1, 5), st.sets(st.integers(0, 29)), st.integers(0, 3))
def test_only_the_examples_of_skipped_images_change(n, batch, skipped, epoch):
    skipped = {one for one in skipped if one < n - 1}
    samplers = [EpochSampler(np.full(n, 1 / n), batch, 0, lambda bad=bad: bad) for bad in (frozenset(), skipped)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    whole, rest = (list(sampler) for sampler in samplers)
    assert not {draw.index for draw in rest} & skipped
    assert [draw for draw in whole if draw.index not in skipped] == [
        now for now, before in zip(rest, whole, strict=True) if before.index not in skipped
    ]
    assert [draw.seed for draw in rest] == [draw.seed for draw in whole]


def test_a_resumed_epoch_skips_the_same_images_even_if_they_are_back():
    sampler = EpochSampler(np.full(9, 1 / 9), 3, 0, lambda: {2})
    drawn = list(sampler)
    again = EpochSampler(np.full(9, 1 / 9), 3, 0)
    again.resume_at(1, sampler.skipped)
    assert list(again) == drawn[3:]
    again.set_epoch(1)
    assert 2 in {draw.index for draw in again}


class Spoil(Callback):
    """Spoils files when the first epoch ends, or stops the run in the second."""

    def __init__(self, *paths: str, stop: bool = False) -> None:
        self.paths, self.stop = paths, stop

    def on_train_epoch_end(self, trainer, module):
        for path in self.paths if trainer.current_epoch == 0 else ():
            Path(path).write_bytes(b"no image")

    def on_train_batch_start(self, trainer, module, batch, number):
        if self.stop and trainer.current_epoch == 1 and number == 1:
            raise ConnectionAbortedError


@pytest.mark.slow
def test_a_training_skips_spoiled_images_and_resumes_identically(samples, smears, tmp_path, caplog):
    gone, spoiled = (one.image for one in learned(samples)[:2])
    kept = Path(spoiled).read_bytes()
    Path(gone).unlink()
    data = (samples, smears[1])
    whole = train(*data, MODEL, SPEC, tmp_path / "whole", [Spoil(spoiled)], "cpu")
    assert len(whole.skipped) == 2
    assert gone in whole.skipped[0]
    assert spoiled in whole.skipped[1]
    assert f"training images skipped: 1 ({gone}: cannot be read" in caplog.text
    Path(spoiled).write_bytes(kept)
    with pytest.raises(ConnectionAbortedError):
        train(*data, MODEL, SPEC, tmp_path / "parts", [Spoil(spoiled, stop=True)], "cpu")
    parts = train(*data, MODEL, SPEC, tmp_path / "parts", None, "cpu")
    assert load_model(parts.folder, "cpu").digest == load_model(whole.folder, "cpu").digest


def test_an_image_lost_during_an_epoch_is_replaced_by_the_next(samples, smears):
    data = SmearDataset(samples, smears[1], MODEL, ExampleOptions())
    Path(samples[2].image).unlink()
    shown, following = (data[SampleKey(index, None)] for index in (2, 3))
    for mine, other in zip(shown, following, strict=True):
        assert mine.equal(other)
    for one in samples:
        Path(one.image).write_bytes(b"")
    lost = SmearDataset(list(reversed(samples[4:])), smears[1], MODEL, ExampleOptions())
    with pytest.raises(InputError, match=r"none of .* images can be read"):
        lost[SampleKey(0, None)]


def test_a_training_without_readable_images_is_an_error(samples, smears):
    for one in learned(samples):
        Path(one.image).unlink()
    module = SmearDataModule(samples, smears[1], MODEL, SPEC)
    with pytest.raises(InputError, match="no training image can be read any more"):
        list(module.sampler)
