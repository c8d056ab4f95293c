"""An exported model equals the original, with all its files, and can be registered and run like any other."""

import json

import numpy as np
import pytest
import torch

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.settings import Engine, ModelSpec, Precision
from sgcldff.evaluation.drift.observe import describe
from sgcldff.models.checkpoint import CONFUSION_FILE, SPEC_FILE, TRAINED_ON, WEIGHTS_FILE, saved_digest
from sgcldff.models.export import export_model
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import build
from sgcldff.models.reference import REFERENCE_FILE, Reference, read_typicality
from sgcldff.models.runtimes import load_runtime
from sgcldff.registry import Registry
from tests.small import SMALL

pytestmark = pytest.mark.slow

SPEC = ModelSpec(net=SMALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, smears):
    """Save a model with the record of its images and its reference."""
    torch.manual_seed(3)
    folder = save_model(tmp_path_factory.mktemp("trained") / "model", SPEC, build(SPEC))
    describe(load_model(folder, "cpu"), smears[0].samples).save(folder)
    (folder / CONFUSION_FILE).write_text("{}")
    (folder / TRAINED_ON).write_text(json.dumps({"sha256": ["ab" * 32], "data": "d", "complete": True}))
    return folder


@pytest.fixture(scope="module")
def halved(trained, tmp_path_factory):
    return export_model(trained, tmp_path_factory.mktemp("exported") / "model", half=True)


def test_a_copy_is_the_same_model_file_by_file(trained, tmp_path):
    copy = export_model(trained, tmp_path / "copy")
    assert saved_digest(copy) == saved_digest(trained)
    for name in (SPEC_FILE, CONFUSION_FILE, TRAINED_ON, REFERENCE_FILE, WEIGHTS_FILE):
        assert (copy / name).read_bytes() == (trained / name).read_bytes(), name


def test_in_half_precision_the_reference_belongs_to_the_new_weights(trained, halved):
    model = load_model(halved, "cpu")
    assert saved_digest(halved) == model.digest != saved_digest(trained)
    ours, theirs = Reference.open(halved), Reference.open(trained)
    assert ours.model == model.digest
    assert ours.known == theirs.known
    typicality = read_typicality(halved, model.digest)
    assert np.array_equal(typicality.held_out, theirs.typicality.held_out)
    assert (halved / TRAINED_ON).read_bytes() == (trained / TRAINED_ON).read_bytes()


@pytest.mark.parametrize("engine", [Engine.TORCH, Engine.OPENVINO])
def test_engines_run_a_model_in_half_precision_in_full_precision(halved, engine):
    rng = np.random.default_rng(0)
    rgb, prior = rng.integers(0, 256, (2, 64, 64, 3), np.uint8), rng.random((2, 1, 64, 64), np.float32)
    types = load_runtime(halved, engine, Precision.FP32).classify(rgb, prior)
    expected = load_model(halved, "cpu").predict(rgb, prior).cell_type
    np.testing.assert_allclose(types.probabilities, expected, atol=1e-4)


def test_a_model_in_half_precision_can_be_registered_and_resolved(halved, tmp_path):
    registry = Registry(tmp_path / "registry")
    ref = registry.register(halved)
    found, folder = registry.resolve(f"models:/sgcldff/{ref.version}")
    assert found == ref
    assert saved_digest(folder) == ref.digest == saved_digest(halved)
    assert {REFERENCE_FILE, TRAINED_ON, CONFUSION_FILE} <= {path.name for path in folder.iterdir()}


def test_a_model_without_reference_and_record_is_exported_without(tmp_path):
    bare = save_model(tmp_path / "bare", SPEC, build(SPEC))
    copy = export_model(bare, tmp_path / "copy", half=True)
    assert sorted(path.name for path in copy.iterdir()) == [SPEC_FILE, WEIGHTS_FILE]
    assert load_model(copy, "cpu").spec.labels.classes == FIVE_TYPES


def test_a_model_that_cannot_be_exported_is_an_input_error(trained, halved, tmp_path):
    before = (halved / WEIGHTS_FILE).read_bytes()
    with pytest.raises(InputError, match="already contains a model; remove it"):
        export_model(trained, halved)
    assert (halved / WEIGHTS_FILE).read_bytes() == before
    with pytest.raises(MissingInputError, match=r"contains no spec\.json"):
        export_model(tmp_path, tmp_path / "copy")
    foreign = save_model(tmp_path / "foreign", SPEC, build(SPEC))
    (foreign / REFERENCE_FILE).write_bytes((trained / REFERENCE_FILE).read_bytes())
    with pytest.raises(InputError, match="belongs to the weights"):
        export_model(foreign, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
