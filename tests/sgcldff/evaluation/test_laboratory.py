"""A calibrated model is another model that answers as calibrated, knows its cells, and leaves its parent as it was."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC11
from sgcldff.core.settings import ModelSpec
from sgcldff.counting.confusion import Confusion
from sgcldff.evaluation.calibration import adaptation
from sgcldff.evaluation.calibration.adaptation import Candidate, Kind
from sgcldff.evaluation.calibration.laboratory import calibrate_for_lab, labelled_cells
from sgcldff.evaluation.drift.observe import observe
from sgcldff.models.checkpoint import CALIBRATION_FILE, CONFUSION_FILE, TRAINED_ON, original_digest, saved_digest
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import NETWORKS, build
from sgcldff.models.reference import Reference
from sgcldff.promotion.leakage import TrainingRecord
from tests.small import SMALL

pytestmark = pytest.mark.slow

OFF = SMALL
SPEC = ModelSpec(net=OFF, labels=WBC11, crop_px=64)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """Give the folder of a model that never learned anything."""
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("parent") / "model", SPEC, build(SPEC))


@pytest.fixture(scope="module")
def cells(smears):
    catalog, _ = smears
    return [sample for sample in catalog.samples if sample.label]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_type_layer_turns_embeddings_into_types(name):
    torch.manual_seed(0)
    net = build(ModelSpec(net=replace(OFF, name=name))).eval()
    with torch.inference_mode():
        told = net(torch.rand(3, 3, 64, 64), torch.rand(3, 1, 64, 64))
        torch.testing.assert_close(net.type_layer(told.embedding), told.cell_type)


def test_cells_have_the_logits_with_which_the_network_answers(parent, cells):
    model = load_model(parent, "cpu")
    found, used = labelled_cells(model, [*cells[:5], replace(cells[5], label=None)])
    assert [sample.id for sample in used] == [sample.id for sample in cells[:5]]
    assert found.allowed.tolist() == [WBC11.allowed(sample.label).tolist() for sample in used]
    layer = model.net.type_layer
    by_hand = found.embedding @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(found.logits, by_hand, atol=1e-4)


def test_a_calibrated_model_answers_as_calibrated_and_outlines_as_before(parent, cells, tmp_path):
    before = saved_digest(parent)
    calibration = calibrate_for_lab(parent, cells, tmp_path / "ours")
    assert calibration.adaptation.helps
    assert calibration.folder == tmp_path / "ours"
    model, old = load_model(tmp_path / "ours", "cpu"), load_model(parent, "cpu")
    assert saved_digest(parent) == before == calibration.parent
    assert model.digest == saved_digest(tmp_path / "ours") != before
    known, now = labelled_cells(old, cells)[0], labelled_cells(model, cells)[0]
    np.testing.assert_allclose(now.embedding, known.embedding, atol=1e-6)
    expected = softmax(calibration.adaptation.adjustment(known), axis=1)
    np.testing.assert_allclose(softmax(now.logits, axis=1), expected, atol=1e-4)
    was, has = old.net.state_dict(), model.net.state_dict()
    changed = {name for name, tensor in was.items() if not torch.equal(tensor, has[name])}
    assert changed <= {"type_head.tell.1.bias", "type_head.tell.1.weight"}


def test_a_calibrated_model_says_what_it_came_from_and_which_images_it_knows(parent, cells, tmp_path):
    (parent / TRAINED_ON).write_text(json.dumps({"sha256": ["f" * 64], "data": "first", "complete": True}))
    unread = replace(cells[0], sha256="")
    calibration = calibrate_for_lab(parent, [unread, *cells[1:20]], tmp_path / "ours")
    record = json.loads((tmp_path / "ours" / CALIBRATION_FILE).read_text())
    assert record["parent"] == saved_digest(parent)
    assert original_digest(tmp_path / "ours") == saved_digest(parent)
    assert original_digest(parent) is None
    assert sum(record["cells"].values()) == record["before"]["cells"] == 20
    assert record["before"]["right"] <= record["after"]["right"]
    accuracy = record["after"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] == record["after"]["right"] / 20 <= accuracy["high"]
    assert load_model(tmp_path / "ours", "cpu").spec.calibrated == calibration.summary
    known = TrainingRecord.read(tmp_path / "ours" / TRAINED_ON)
    assert known.images == {"f" * 64, *(sample.sha256 for sample in cells[:20])}
    assert (known.data, known.complete) == ("first", True)
    assert str(calibration).startswith(f"20 cells: {record['before']['right']} correct as it was")


def test_a_calibrated_model_keeps_the_confusion_on_the_cells_that_were_held_out(parent, cells, tmp_path):
    after = calibrate_for_lab(parent, cells, tmp_path / "ours").adaptation.after
    confusion = Confusion.read(tmp_path / "ours" / CONFUSION_FILE)
    exact = after.allowed.sum(axis=1) == 1  # "neutrophil" may be segmented or band
    table = confusion.counts(min_confidence=0)
    assert np.trace(table) == after.correct[exact].sum() < table.sum() == exact.sum()
    assert table[:, :-1].sum(axis=1).tolist() == after.allowed[exact].sum(axis=0).tolist()


def test_a_model_that_cannot_be_helped_is_not_written_and_it_is_said(parent, cells, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "CANDIDATES", (Candidate(Kind.NOTHING),))
    calibration = calibrate_for_lab(parent, cells, tmp_path / "ours")
    assert calibration.folder is None
    assert not (tmp_path / "ours").exists()
    assert "the model is left as it is: no change does better on held-out cells" in str(calibration)
    assert calibration.before == calibration.after


def test_a_folder_with_a_model_is_not_written_over(parent, cells):
    with pytest.raises(InputError, match="contains a model already"):
        calibrate_for_lab(parent, cells, parent)


def test_cells_whose_place_or_type_is_not_known_are_passed_over(parent, smears, tmp_path):
    catalog, _ = smears
    fields = [sample for sample in catalog.samples if sample.label is None]
    with pytest.raises(InputError, match="0 cells with a type are too few"):
        calibrate_for_lab(parent, fields, tmp_path / "ours")


def test_the_drift_reference_of_a_calibrated_model_names_its_weights(parent, cells, tmp_path):
    model = load_model(parent, "cpu")
    observations = observe(model, cells[:6])
    Reference(model.digest, {}, observations, None).save(parent)
    calibrate_for_lab(parent, cells, tmp_path / "ours")
    reference = Reference.open(tmp_path / "ours")
    assert reference.model == saved_digest(tmp_path / "ours")
    np.testing.assert_array_equal(reference.observations.embedding, observations.embedding)
