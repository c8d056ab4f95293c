"""Confidence fitted on stains that a model never saw: an exported model answers with it, and abstains by its limit."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from sgcldff.core.errors import InputError
from sgcldff.core.labels import BROADER, WBC11
from sgcldff.core.settings import ModelSpec
from sgcldff.evaluation.calibration.adaptation import Candidate, Kind
from sgcldff.evaluation.calibration.held_out import GOAL, fit_confidence
from sgcldff.evaluation.calibration.laboratory import apply_adjustment, labelled_cells
from sgcldff.models.export import export_model
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import build
from tests.small import SMALL

pytestmark = pytest.mark.slow

SPEC = ModelSpec(net=SMALL, labels=WBC11, crop_px=64)


@pytest.fixture(scope="module")
def stains(smears):
    """Two data sets of labelled cells."""
    cells = [sample for sample in smears[0].samples if sample.label]
    return [replace(cell, source=f"stain {k % 2}") for k, cell in enumerate(cells)]


@pytest.fixture(scope="module")
def overconfident(stains, tmp_path_factory):
    """Fit a head to the cells, and multiply its logits by thirty."""
    torch.manual_seed(0)
    folder = save_model(tmp_path_factory.mktemp("untrained") / "model", SPEC, build(SPEC))
    model = load_model(folder, "cpu")
    apply_adjustment(Candidate(Kind.HEAD, 1.0).fit(labelled_cells(model, stains)[0]), model)
    with torch.no_grad():
        model.net.type_layer.weight.mul_(30)
        model.net.type_layer.bias.mul_(30)
    return save_model(tmp_path_factory.mktemp("overconfident") / "model", SPEC, model.net)


def test_an_exported_model_is_calibrated_on_them_and_keeps_its_answers(overconfident, stains, tmp_path):
    model = load_model(overconfident, "cpu")
    fitted = fit_confidence(model, stains)
    assert fitted.temperature > 1.5
    assert fitted.cells == Counter(cell.source for cell in stains)
    place = export_model(
        overconfident, tmp_path / "out", temperature=fitted.temperature, min_confidence=fitted.min_confidence
    )
    calibrated = load_model(place, "cpu")
    assert calibrated.spec.min_confidence == fitted.min_confidence
    before, after = (labelled_cells(one, stains)[0] for one in (model, calibrated))
    np.testing.assert_allclose(after.logits * fitted.temperature, before.logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(after.embedding, before.embedding)
    assert fit_confidence(calibrated, stains).temperature == pytest.approx(1, abs=0.01)


def test_of_the_cells_above_the_limit_the_goal_is_right_on_the_mean_of_stains(overconfident, stains):
    model = load_model(overconfident, "cpu")
    fitted = fit_confidence(model, stains)
    assert fitted.limit is not None
    cells, used = labelled_cells(model, stains)
    probabilities = softmax(cells.logits / fitted.temperature, axis=1)
    best = [WBC11.classes[k] for k in probabilities.argmax(axis=1)]
    alike = np.array([[broad(name) == broad(own) for name in WBC11.classes] for own in best])
    confidence = (probabilities * alike).sum(axis=1)
    right = np.array([broad(own) == broad(cell.label) for own, cell in zip(best, used, strict=True)])
    source = np.array([cell.source for cell in used])
    kept = confidence >= fitted.limit.confidence
    accuracy = np.mean([right[kept & (source == stain)].mean() for stain in ("stain 0", "stain 1")])
    assert accuracy == pytest.approx(fitted.limit.accuracy)
    assert accuracy >= GOAL


def broad(label):
    return BROADER.get(label, label)


def test_images_that_the_model_was_trained_on_or_cannot_name_are_ignored(overconfident, stains):
    model = load_model(overconfident, "cpu")
    blasts = [replace(cell, label="blast") for cell in stains[:5]]
    known = frozenset(cell.sha256 for cell in stains[5:20])
    fitted = fit_confidence(model, [*blasts, *stains[5:]], known)
    assert fitted.cells.total() == sum(cell.sha256 not in known for cell in stains[5:])
    with pytest.raises(InputError, match=r"9 of 14 images show a cell .* at least 10"):
        fit_confidence(model, [*blasts, *stains[5:14]])


def test_where_no_limit_keeps_the_goal_no_cell_is_classified(overconfident, stains):
    others = {name: WBC11.classes[(k + 5) % 11] for k, name in enumerate(WBC11.classes)}
    wrong = [replace(cell, label=others[WBC11.members(cell.label)[0]]) for cell in stains]
    fitted = fit_confidence(load_model(overconfident, "cpu"), wrong)
    assert fitted.limit is None
    assert fitted.min_confidence == 1
    assert "all cells stay unidentified" in str(fitted)
