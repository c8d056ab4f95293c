"""A model survives saving and loading, predicts at any size, and refuses files that do not fit."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file, save_file

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.labels import WBC6
from sgcldff.core.settings import ModelSpec, NetSpec, Pretrained, PriorSpec
from sgcldff.models.checkpoint import SPEC_FILE, WEIGHTS_FILE, saved_digest
from sgcldff.models.model import load_model, save_model, weights_digest
from sgcldff.models.nets import build
from tests.small import SMALL


@pytest.fixture(scope="module")
def spec():
    return ModelSpec(net=SMALL, prior=PriorSpec(names=("ramf",)), labels=WBC6)


@pytest.fixture
def saved(spec, tmp_path):
    torch.manual_seed(1)
    return save_model(tmp_path / "model", spec, build(spec))


def batch(height, width, n=2):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, height, width, 3), np.uint8), rng.random((n, 1, height, width), np.float32)


def test_loading_restores_spec_predictions_and_digest(spec, saved):
    first, second = load_model(saved, "cpu"), load_model(saved, "cpu")
    assert first.spec.labels == spec.labels
    assert first.spec.prior == spec.prior
    assert first.digest == second.digest
    rgb, prior = batch(64, 64)
    assert np.array_equal(first.predict(rgb, prior).cell_type, second.predict(rgb, prior).cell_type)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 1), (33, 127), (120, 161)])
def test_predictions_are_probabilities_at_any_size(saved, height, width):
    output = load_model(saved, "cpu").predict(*batch(height, width))
    assert output.segmentation.shape == (2, 3, height, width)
    assert output.evidence.shape == (2, height, width)
    np.testing.assert_allclose(output.segmentation.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(output.cell_type.sum(axis=1), 1, atol=1e-5)


def test_a_prediction_does_not_depend_on_the_rest_of_the_batch(saved):
    model = load_model(saved, "cpu")
    rgb, prior = batch(64, 96, n=3)
    together = model.predict(rgb, prior).segmentation[1]
    np.testing.assert_allclose(model.predict(rgb[1:2], prior[1:2]).segmentation[0], together, atol=1e-4)


def test_digest_follows_the_weights(spec, saved, tmp_path):
    torch.manual_seed(2)
    other = save_model(tmp_path / "other", spec, build(spec))
    assert load_model(saved, "cpu").digest != load_model(other, "cpu").digest


def test_files_contain_no_pickle(saved):
    assert sorted(path.name for path in saved.iterdir()) == [SPEC_FILE, WEIGHTS_FILE]
    assert json.loads((saved / SPEC_FILE).read_text())["labels"]["classes"] == list(WBC6.classes)


def test_missing_and_damaged_files_are_named(saved, tmp_path):
    with pytest.raises(MissingInputError, match=r"contains no spec\.json"):
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


@pytest.mark.parametrize(("ending", "value"), [("weight", float("nan")), ("running_var", -1.0)])
def test_weights_that_find_nothing_are_refused(saved, ending, value):
    weights = load_file(saved / WEIGHTS_FILE)
    name = next(name for name in sorted(weights) if name.endswith(ending))
    weights[name].flat[0] = value
    save_file(weights, saved / WEIGHTS_FILE)
    with pytest.raises(InputError, match=rf"weights\.safetensors: {name} is not finite, or a negative variance"):
        load_model(saved, "cpu")


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


def holding(weights, steps=7):
    """Return a net of one weight tensor and a counter like that of BatchNorm."""
    net = torch.nn.Module()
    net.register_buffer("weights", torch.from_numpy(weights))
    net.register_buffer("steps", torch.tensor(steps))
    return net


FITTING = arrays(np.float32, array_shapes(), elements=st.floats(-65504, 65504, width=32))


@given(weights=FITTING, steps=st.integers(0, 2**60))
def test_half_precision_rounds_each_float_once_and_leaves_counters_alone(tmp_path_factory, spec, weights, steps):
    folder = save_model(tmp_path_factory.mktemp("half"), spec, holding(weights, steps), half=True)
    written = load_file(folder / WEIGHTS_FILE)
    assert written["weights"].dtype == np.float16
    np.testing.assert_array_equal(written["weights"], weights.astype(np.float16))
    assert (written["steps"].dtype, int(written["steps"])) == (np.int64, steps)
    assert saved_digest(folder) == weights_digest(holding(weights.astype(np.float16).astype(np.float32), steps))


@given(weights=FITTING)
def test_saving_in_half_precision_again_changes_nothing_more(tmp_path_factory, spec, weights):
    once = save_model(tmp_path_factory.mktemp("half"), spec, holding(weights), half=True)
    loaded = load_file(once / WEIGHTS_FILE)["weights"].astype(np.float32)
    twice = save_model(tmp_path_factory.mktemp("half"), spec, holding(loaded), half=True)
    assert (twice / WEIGHTS_FILE).read_bytes() == (once / WEIGHTS_FILE).read_bytes()


@given(weights=FITTING.filter(lambda weights: weights.size > 0), large=st.floats(65536, 2.0**120, width=32))
def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path_factory, spec, weights, large):
    weights.flat[-1] = -large
    folder = tmp_path_factory.mktemp("large") / "model"
    with pytest.raises(InputError, match=r"weights: -\S+ is beyond half precision .*full precision"):
        save_model(folder, spec, holding(weights), half=True)
    assert not folder.exists()


def test_a_model_in_half_precision_predicts_alike_at_half_the_size(spec, saved, tmp_path):
    whole = load_model(saved, "cpu")
    halved = save_model(tmp_path / "half", spec, whole.net, half=True)
    model = load_model(halved, "cpu")
    assert {tensor.dtype for tensor in model.net.state_dict().values()} == {torch.float32, torch.int64}
    assert saved_digest(halved) == model.digest != whole.digest
    sizes = [(folder / WEIGHTS_FILE).stat().st_size for folder in (halved, saved)]
    assert sizes[0] == pytest.approx(sizes[1] / 2, rel=0.02)
    rgb, prior = batch(64, 96)
    ours, theirs = model.predict(rgb, prior), whole.predict(rgb, prior)
    np.testing.assert_allclose(ours.segmentation, theirs.segmentation, atol=0.01)
    np.testing.assert_allclose(ours.cell_type, theirs.cell_type, atol=0.01)


def test_a_model_from_before_the_number_of_convolutions_was_stated_has_three(tmp_path):
    former = ModelSpec(net=NetSpec(pretrained=Pretrained.OFF, convolutions=3))
    save_model(tmp_path, former, build(former))
    path = tmp_path / SPEC_FILE
    content = json.loads(path.read_text())
    del content["net"]["convolutions"]
    path.write_text(json.dumps(content))
    assert load_model(tmp_path, "cpu").spec == former
