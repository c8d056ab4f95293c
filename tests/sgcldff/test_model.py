"""A model survives saving and loading, answers at any size, and refuses files that do not fit."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from sgcldff.errors import InputError, MissingInputError
from sgcldff.labels import WBC6
from sgcldff.model import load_model, save_model
from sgcldff.model_folder import SPEC_FILE, WEIGHTS_FILE, saved_digest
from sgcldff.nets import build
from sgcldff.specs import ModelSpec, NetSpec, Pretrained, PriorSpec


@pytest.fixture(scope="module")
def spec():
    return ModelSpec(net=NetSpec(pretrained=Pretrained.OFF), prior=PriorSpec(names=("ramf",)), labels=WBC6)


@pytest.fixture
def saved(spec, tmp_path):
    torch.manual_seed(1)
    return save_model(tmp_path / "model", spec, build(spec))


def batch(height, width, n=2):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, height, width, 3), np.uint8), rng.random((n, 1, height, width), np.float32)


def test_loading_gives_the_same_spec_answers_and_digest(spec, saved):
    first, second = load_model(saved, "cpu"), load_model(saved, "cpu")
    assert first.spec.labels == spec.labels
    assert first.spec.prior == spec.prior
    assert first.digest == second.digest
    rgb, prior = batch(64, 64)
    assert np.array_equal(first.predict(rgb, prior).cell_type, second.predict(rgb, prior).cell_type)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 1), (33, 127), (120, 161)])
def test_answers_are_probabilities_at_any_size(saved, height, width):
    output = load_model(saved, "cpu").predict(*batch(height, width))
    assert output.segmentation.shape == (2, 3, height, width)
    assert output.evidence.shape == (2, height, width)
    np.testing.assert_allclose(output.segmentation.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(output.cell_type.sum(axis=1), 1, atol=1e-5)


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(saved):
    model = load_model(saved, "cpu")
    rgb, prior = batch(64, 96, n=3)
    together = model.predict(rgb, prior).segmentation[1]
    np.testing.assert_allclose(model.predict(rgb[1:2], prior[1:2]).segmentation[0], together, atol=1e-4)


def test_digest_follows_the_weights(spec, saved, tmp_path):
    torch.manual_seed(2)
    other = save_model(tmp_path / "other", spec, build(spec))
    assert load_model(saved, "cpu").digest != load_model(other, "cpu").digest


def test_files_hold_no_pickle(saved):
    assert sorted(path.name for path in saved.iterdir()) == [SPEC_FILE, WEIGHTS_FILE]
    assert json.loads((saved / SPEC_FILE).read_text())["labels"]["classes"] == list(WBC6.classes)


def test_missing_and_damaged_files_are_named(saved, tmp_path):
    with pytest.raises(MissingInputError, match=r"holds no spec\.json"):
        load_model(tmp_path)
    weights = saved / WEIGHTS_FILE
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        load_model(saved)
    weights.write_bytes(whole)
    content = json.loads((saved / SPEC_FILE).read_text())
    (saved / SPEC_FILE).write_text(json.dumps(content | {"net": content["net"] | {"fusion_width": 64}}))
    with pytest.raises(InputError, match="does not fit"):
        load_model(saved)
    (saved / SPEC_FILE).write_text(json.dumps(content | {"surprise": 1}))
    with pytest.raises(InputError, match="not a model spec"):
        load_model(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "spec.json"])
def test_pickled_code_in_place_of_a_models_files_is_not_run(saved, tmp_path, name):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    for write in (lambda path: torch.save(Evil(), path), lambda path: path.write_bytes(pickle.dumps(Evil()))):
        write(saved / name)
        with pytest.raises(InputError, match=name):
            load_model(saved)
    assert not (tmp_path / "ran").exists()


def test_the_digest_is_known_without_loading_the_network(saved):
    assert saved_digest(saved) == load_model(saved, "cpu").digest
