"""A model's reference survives saving, recognises new images, and serves to measure drift."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.labels import WBC5
from sgcldff.core.records import Split
from sgcldff.core.settings import DriftSpec, Engine, ModelSpec, Precision
from sgcldff.core.stain import stain_statistics
from sgcldff.evaluation.drift import measure_drift
from sgcldff.evaluation.drift.observe import describe, observe
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import build
from sgcldff.models.reference import (
    REFERENCE_FILE,
    Reference,
    read_typicality,
    reference_digest,
    require_typicality,
)
from sgcldff.models.runtimes import load_runtime
from sgcldff.models.training.examples import read_scene
from sgcldff.promotion.retrain_policy import count_labelled_cells
from sgcldff.slides.images import sha256_of
from tests.small import SMALL

SPEC = ModelSpec(net=SMALL, labels=WBC5, crop_px=64)


@pytest.fixture(scope="module")
def folder(smears, tmp_path_factory):
    """Save a model of random weights with its reference."""
    torch.manual_seed(0)
    saved = save_model(tmp_path_factory.mktemp("reference") / "model", SPEC, build(SPEC))
    describe(load_model(saved, "cpu"), smears[0].samples).save(saved)
    return saved


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, "cpu")


def test_all_cells_of_train_and_validation_are_described(folder, model, smears):
    catalog, reference = smears[0], Reference.open(folder)
    learned = [sample for sample in catalog.samples if sample.split is not Split.TEST]
    cells = [len(read_scene(sample, SPEC.mpp).centres) for sample in learned]
    held_out = sum(count for count, sample in zip(cells, learned, strict=True) if sample.split is Split.VAL)
    assert len(reference.observations) == len(learned)
    assert np.bincount(reference.observations.owners).tolist() == cells
    assert len(reference.typicality.held_out) == held_out
    assert reference.model == model.digest
    labelled = [sample.label for sample in learned if sample.label]
    assert sorted(filter(None, reference.observations.types)) == sorted(labelled)


def test_the_file_contains_no_names(folder, smears):
    text = (folder / REFERENCE_FILE).read_bytes()
    assert not any(name.encode() in text for sample in smears[0].samples for name in (sample.image, sample.group))
    with safe_open(folder / REFERENCE_FILE, "numpy") as file:
        assert json.loads(file.metadata()["reference"])["model"]


def test_a_reference_survives_saving_with_the_same_digest(folder, tmp_path):
    reference = Reference.open(folder)
    assert reference_digest(folder) == sha256_of(reference.save(tmp_path))[:16]
    again = Reference.open(tmp_path)
    assert again.known == reference.known
    for name in ("groups", "labels", "stain", "coverage", "owners", "types", "embedding"):
        assert np.array_equal(getattr(again.observations, name), getattr(reference.observations, name))
    assert np.array_equal(again.typicality.whitening, reference.typicality.whitening)


def test_images_are_new_if_unseen_or_annotated_differently(folder, smears):
    reference, samples = Reference.open(folder), smears[0].samples
    assert reference.unknown(samples) == ()
    labelled = next(sample for sample in samples if sample.label)
    field = next(sample for sample in samples if not sample.label)
    fresh = [
        replace(labelled, sha256="0" * 64),
        replace(labelled, label="monocyte" if labelled.label != "monocyte" else "basophil"),
        replace(field, label="monocyte"),
        replace(field, mask=None, mask_code=None, mask_sha256="", boxes=((0, 0, 9, 9), (20, 20, 30, 30))),
    ]
    assert reference.unknown([*samples, *fresh]) == tuple(fresh)
    assert count_labelled_cells(fresh) == 5


def test_halves_of_a_set_are_alike_and_a_copy_with_another_stain_is_not(folder, model, smears, tmp_path):
    seen, spec = Reference.open(folder).observations, DriftSpec(min_images=10)
    order = np.random.default_rng(0).permutation(np.unique(seen.groups))
    first = np.isin(seen.groups, order[: len(order) // 2])
    assert measure_drift(seen.take(np.flatnonzero(first)), seen.take(np.flatnonzero(~first)), spec).exceeding == ()
    paler = observe(model, [restained(sample, tmp_path) for sample in smears[0].samples if sample.label][:20])
    assert "stain" in {figure.name for figure in measure_drift(seen, paler, spec).exceeding}


def restained(sample, folder):
    """Copy an image with 60 % of its optical density."""
    path = folder / f"{sample.sha256}.png"
    pixels = np.asarray(Image.open(sample.image).convert("RGB"), np.float64)
    Image.fromarray(np.uint8(256 * np.exp(0.6 * np.log((pixels + 1) / 256)) - 0.5)).save(path)
    return replace(sample, image=str(path), sha256=sha256_of(path))


def test_stain_statistics_use_stained_pixels_only():
    rgb = np.full((40, 50, 3), 255, np.uint8)
    rgb[:10] = (100, 50, 150)
    density = -np.log((np.array([100, 50, 150]) + 1) / 256)
    np.testing.assert_allclose(stain_statistics(rgb), [*density, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(stain_statistics(rgb[10:]), 0, atol=1e-5)


@pytest.mark.parametrize("engine", [Engine.TORCH, Engine.OPENVINO])
def test_every_engine_scores_typicality(folder, model, engine):
    runtime, embedding = load_runtime(folder, engine, Precision.FP32), Reference.open(folder).observations.embedding
    assert np.array_equal(runtime.typicality(embedding), Reference.open(folder).typicality(embedding))


def test_a_limit_that_a_model_cannot_apply_is_refused(folder, model, tmp_path):
    require_typicality(folder, 0.5)
    require_typicality(tmp_path, 0)
    with pytest.raises(InputError, match=r"min_typicality is 0\.05.*no reference\.safetensors.*train the model again"):
        require_typicality(tmp_path, 0.05)
    with pytest.raises(InputError, match=r"with \d+ validation cells this model resolves nothing below 0\.\d+"):
        require_typicality(folder, 1e-4)
    assert read_typicality(tmp_path, model.digest) is None


def test_missing_damaged_and_foreign_files_are_named(folder, model, tmp_path):
    with pytest.raises(MissingInputError, match="train the model again"):
        Reference.open(tmp_path)
    whole = (folder / REFERENCE_FILE).read_bytes()
    (tmp_path / REFERENCE_FILE).write_bytes(whole[:-10])
    with pytest.raises(InputError, match=r"reference\.safetensors: damaged"):
        Reference.open(tmp_path)
    (tmp_path / REFERENCE_FILE).write_bytes(whole.replace(b"reference/1", b"reference/9"))
    with pytest.raises(InputError, match="layout 'reference/9'"):
        Reference.open(tmp_path)
    (tmp_path / REFERENCE_FILE).write_bytes(whole)
    with pytest.raises(InputError, match=rf"belongs to the weights {model.digest}, not 0123"):
        read_typicality(tmp_path, "0123")
