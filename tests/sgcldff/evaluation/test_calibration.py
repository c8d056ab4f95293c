"""Calibration against scikit-learn, closed forms and simulated laboratories; it never makes held-out cells worse."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC11
from sgcldff.evaluation.calibration.adaptation import FOLDS, Candidate, Kind, adapt
from sgcldff.evaluation.calibration.labelled_cells import LabelledCells, are_correct, log_losses
from sgcldff.evaluation.calibration.temperature import fit_temperature
from sgcldff.evaluation.predictions import AnswerLabels


def laboratory(n=200, classes=4, width=6, seed=0, shift=None, noise=1.0):
    """Simulate cells of a model whose logits were right before `shift` was added to them."""
    make = np.random.default_rng(seed)
    centres = 2 * make.normal(size=(classes, width))
    types = make.integers(classes, size=n)
    embedding = centres[types] + noise * make.normal(size=(n, width))
    logits = (embedding @ centres.T - 0.5 * (centres**2).sum(axis=1)) / noise**2
    moved = logits if shift is None else logits + shift
    slides = tuple(f"slide {k % 7}" for k in range(n))
    return LabelledCells(moved, embedding, np.eye(classes, dtype=bool)[types], slides)


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its logits."""

    def fit(self, logits, types):
        self.classes_ = np.unique(types)
        return self

    def decision_function(self, logits):
        return logits

    def predict(self, logits):
        return self.classes_[logits.argmax(axis=1)]


@pytest.mark.parametrize("sure", [0.4, 3.0])
def test_the_temperature_is_that_of_scikit_learn(sure):
    cells = laboratory(noise=2.5)
    types = cells.allowed.argmax(axis=1)
    temperature = fit_temperature(sure * cells.logits, cells.allowed, ["one"] * len(cells))
    model = FrozenEstimator(Logits().fit(cells.logits, types))
    oracle = CalibratedClassifierCV(model, method="temperature", ensemble=False).fit(sure * cells.logits, types)
    expected = oracle.predict_proba(sure * cells.logits)
    np.testing.assert_allclose(softmax(sure * cells.logits / temperature, axis=1), expected, atol=1e-3)


def test_every_stain_counts_alike_for_the_temperature_however_many_cells_it_has():
    sure, unsure = laboratory(noise=1.0), laboratory(n=40, noise=3.0, seed=1)
    logits = np.vstack((sure.logits, 5 * unsure.logits))
    allowed, stains = np.vstack((sure.allowed, unsure.allowed)), ["a"] * 200 + ["b"] * 40
    once = fit_temperature(logits, allowed, stains)
    many = [*range(200), *[200 + k for k in range(40)] * 9]
    assert fit_temperature(logits[many], allowed[many], [stains[k] for k in many]) == pytest.approx(once, rel=1e-4)
    assert fit_temperature(logits[many], allowed[many], ["a"] * len(many)) > 1.05 * once


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_a_head_on_a_model_without_opinions_is_the_logistic_regression_of_scikit_learn(penalty):
    cells = laboratory(n=60)
    blank = LabelledCells(np.zeros_like(cells.logits), cells.embedding, cells.allowed, cells.groups)
    scale = np.sqrt((cells.embedding**2).sum(axis=1).mean())
    design = np.column_stack((np.ones(60), cells.embedding / scale))
    oracle = LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-8, max_iter=10_000)
    oracle.fit(design, cells.allowed.argmax(axis=1))
    found = softmax(Candidate(Kind.HEAD, penalty).fit(blank)(blank), axis=1)
    np.testing.assert_allclose(found, oracle.predict_proba(design), atol=1e-4)


def test_a_bias_on_a_model_without_opinions_gives_every_class_its_share():
    types = np.repeat(np.arange(3), (10, 25, 5))
    blank = LabelledCells(np.zeros((40, 3)), np.ones((40, 2)), np.eye(3, dtype=bool)[types], ("slide",) * 40)
    bias = Candidate(Kind.BIAS, 1e-6).fit(blank).bias
    np.testing.assert_allclose(softmax(bias), [10 / 40, 25 / 40, 5 / 40], atol=1e-4)


@pytest.mark.parametrize("cells", [20, 60])
def test_a_shifted_model_is_put_right_by_a_few_cells_of_the_laboratory(cells):
    shift = np.array([6.0, -4.0, 0.0, 3.0])
    found = adapt(laboratory(n=cells, noise=2.0, shift=shift))
    fresh = laboratory(n=4000, noise=2.0, shift=shift).take(range(1000, 4000))
    ideal = laboratory(n=4000, noise=2.0).take(range(1000, 4000))
    before, after, best = (
        are_correct(logits, fresh.allowed).mean() for logits in (fresh.logits, found.adjustment(fresh), ideal.logits)
    )
    assert found.helps
    assert after > before + 0.6 * (best - before)


def macro_f1(held_out):
    """Let scikit-learn score held-out predictions."""
    true = held_out.allowed.argmax(axis=1)
    return f1_score(true, held_out.logits.argmax(axis=1), labels=np.unique(true), average="macro", zero_division=0)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 2**31), st.integers(10, 30), st.booleans(), st.booleans())
def test_held_out_cells_are_never_classified_worse_than_before(seed, n, shifted, senseless):
    make = np.random.default_rng(seed)
    cells = laboratory(n, seed=seed, shift=4 * make.normal(size=4) * shifted, noise=2.0)
    if senseless:
        cells = LabelledCells(cells.logits, cells.embedding, make.permutation(cells.allowed), cells.groups)
    found = adapt(cells)
    assert found.after.right >= found.before.right
    assert found.after.log_loss <= found.before.log_loss
    assert macro_f1(found.after) >= macro_f1(found.before)
    assert found.after.macro_f1 == pytest.approx(macro_f1(found.after))
    assert found.before.right == are_correct(cells.logits, cells.allowed).sum()
    assert found.helps or not (found.adjustment.weight.any() or found.adjustment.bias.any())


def test_a_model_that_fits_is_left_as_it_is_and_says_so():
    found = adapt(laboratory(n=300, noise=0.3))
    assert not found.helps
    assert found.after is found.before


def test_cells_of_a_single_type_change_nothing():
    cells = laboratory(n=60, shift=np.array([9.0, 0, 0, 0]), noise=2.0)
    same = np.flatnonzero(cells.allowed[:, 2])
    assert not are_correct(cells.logits, cells.allowed)[same].all()
    assert not adapt(cells.take(same)).helps


@pytest.mark.slow
def test_a_model_that_fits_is_seldom_changed_by_chance():
    changed = [adapt(laboratory(n=40, seed=seed, noise=1.5)).helps for seed in range(8)]
    assert np.mean(changed) <= 0.25


def test_a_class_that_nobody_reviewed_and_no_cell_was_mistaken_for_keeps_its_logit():
    cells = laboratory(n=40, shift=np.array([5.0, 0, 0, -30.0]), noise=2.0)
    kept = np.flatnonzero(~cells.allowed[:, 3])
    bias = Candidate(Kind.BIAS, 1.0).fit(cells.take(kept)).bias
    assert abs(bias[3]) < 1e-3
    assert bias[0] < -1


def test_slides_are_held_out_whole_where_there_are_enough(monkeypatch):
    cells, seen = laboratory(n=2 * FOLDS + 10), []
    slides = tuple(f"slide {k % (FOLDS + 5)}" for k in range(len(cells)))
    original = Candidate.fit
    monkeypatch.setattr(Candidate, "fit", lambda self, part: seen.append(set(part.groups)) or original(self, part))
    adapt(LabelledCells(cells.logits, cells.embedding, cells.allowed, slides))
    *fits, whole = seen
    assert whole == set(slides)
    assert all(len(part) < len(set(slides)) for part in fits)


@given(st.integers(0, 2**31))
def test_rightness_and_loss_are_those_of_labels_that_stand_for_several_classes(seed):
    make = np.random.default_rng(seed)
    labels = make.choice(["neutrophil", "immature granulocyte", "lymphocyte", "band neutrophil"], 12)
    logits = 2 * make.normal(size=(12, len(WBC11.classes)))
    allowed = np.stack([WBC11.allowed(label) for label in labels])
    chances = softmax(logits, axis=1)
    choices = (
        AnswerLabels.for_labels([label], WBC11).predict(p, label, WBC11)[0]
        for p, label in zip(chances, labels, strict=True)
    )
    assert are_correct(logits, allowed).tolist() == [told == label for told, label in zip(choices, labels, strict=True)]
    losses, slopes = log_losses(logits, allowed)
    np.testing.assert_allclose(losses, -np.log((chances * allowed).sum(axis=1)), rtol=1e-9)
    nudge = 1e-6 * make.normal(size=logits.shape)
    rise = (log_losses(logits + nudge, allowed)[0] - log_losses(logits - nudge, allowed)[0]) / 2
    np.testing.assert_allclose((slopes * nudge).sum(axis=1), rise, atol=1e-11)


def test_too_few_cells_and_labels_that_rule_nothing_out_are_refused():
    with pytest.raises(InputError, match="9 cells with a type are too few to calibrate: review at least 10"):
        adapt(laboratory(n=9))
    cells = laboratory(n=12)
    cells.allowed[3] = True
    with pytest.raises(InputError, match="allows every class"):
        adapt(cells)
