"""How often intervals of few groups and rare classes hold the truth, by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.bootstrap import intervals
from sgcldff.evaluation.metrics import (
    TypePredictions,
    averaged_labels,
    bootstrap,
    calibration_by_chance,
    calibration_error,
    mean_of,
    quantiles,
    type_scores,
)

SPEC = EvalSpec(resamples=400)


@pytest.mark.parametrize(("groups", "plain"), [(5, 0.9), (10, 0.93), (39, 1)])
def test_means_of_few_groups_have_honest_intervals(groups, plain):
    """Eight images a patient, whose outlines are alike; percentiles alone are too narrow."""
    rng, held, percentiles = np.random.default_rng(0), [], []
    names = [f"g{k:02}" for k in range(groups) for _ in range(8)]
    for _ in range(300):
        scores = (0.85 + np.repeat(rng.normal(0, 0.05, groups), 8) + rng.normal(0, 0.03, 8 * groups))[:, None]
        (found,) = intervals(mean_of(scores), names, SPEC)
        low, high = quantiles(bootstrap(mean_of(scores), names, SPEC)[:, 0], SPEC)
        held.append(found.low <= 0.85 <= found.high)
        percentiles.append(low <= 0.85 <= high)
    assert np.mean(held) >= 0.93
    assert np.mean(percentiles) < plain


def test_four_groups_have_no_interval_nor_has_a_class_in_four_of_many():
    values = np.random.default_rng(0).random((60, 2))
    values[4:, 1] = np.nan
    every, rare = intervals(mean_of(values), [f"g{k:02}" for k in range(60)], SPEC)
    assert every.low is not None
    assert rare.low is None
    (four,) = intervals(mean_of(values[:, :1]), [f"g{k % 4}" for k in range(60)], SPEC)
    assert four.low is None


@given(right=st.lists(st.integers(0, 8), min_size=5, max_size=12))
def test_intervals_of_few_groups_end_where_the_scores_do(right):
    cells = np.concatenate([np.arange(8) < hits for hits in right]).astype(float)[:, None]
    names = [f"g{k:02}" for k in range(len(right)) for _ in range(8)]
    (accuracy,) = intervals(mean_of(cells), names, SPEC)
    (contrast,) = intervals(mean_of(cells), names, SPEC, lowest=-1.0)
    assert 0 <= accuracy.low <= accuracy.high <= 1
    assert contrast.low <= accuracy.low
    assert contrast.high == accuracy.high


CHANCES = np.array([0.55, 0.28, 0.14, 0.03])
RIGHT = np.array([0.9, 0.9, 0.8, 0.5])


def rare_class(rng, images=300):
    """Draw images of which one class is rare, and read worse than the others."""
    true = rng.choice(4, images, p=CHANCES)
    predicted = np.where(rng.random(images) < RIGHT[true], true, (true + 1) % 4)
    return TypePredictions(tuple("abcd"), true, predicted, np.full(images, 0.9))


@pytest.mark.slow
def test_a_rare_class_does_not_make_balanced_accuracy_and_macro_f1_surer_than_they_are():
    rng, held = np.random.default_rng(0), []
    names = [f"g{k:03}" for k in range(300)]
    hits = CHANCES * RIGHT
    f1 = 2 * hits / (CHANCES + hits + np.roll(CHANCES - hits, 1))
    for _ in range(150):
        types = rare_class(rng)
        averaged = averaged_labels(types, names)
        found = intervals(type_scores(types, averaged), names, SPEC)[1:3]
        truth = (RIGHT[averaged].mean(), f1[averaged].mean())
        held.append([one.low <= true <= one.high for one, true in zip(found, truth, strict=True)])
    assert np.mean(held, axis=0).min() >= 0.91


def test_a_class_counts_from_ten_groups_on_and_no_resample_averages_others():
    true = np.array([0] * 30 + [1] * 30 + [2])
    types = TypePredictions(("a", "b", "c"), true, np.where(np.arange(61) % 3, true, 0), np.full(61, 0.9))
    names = [f"g{k:02}" for k in range(61)]
    assert averaged_labels(types, names).tolist() == [True, True, False]
    assert averaged_labels(types, ["g"] * 61).tolist() == [True, True, True], "no class has ten groups: all count"
    without = np.ones((1, 61))
    without[0, true == 1] = 0
    assert np.isnan(type_scores(types, averaged_labels(types, names))(without)[0, 1:3]).all()


@pytest.mark.parametrize(("images", "expected"), [(44, 0.107), (200, 0.053), (1000, 0.024)])
def test_the_calibration_error_of_a_perfect_model_is_stated(images, expected):
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, images)
    types = TypePredictions(("a", "b"), np.zeros(images, int), np.zeros(images, int), confidence)
    stated = calibration_by_chance(types, 15)
    assert stated == pytest.approx(expected, abs=0.03)
    right = rng.random((200, images)) < confidence
    shown = [
        calibration_error(TypePredictions(("a", "b"), np.zeros(images, int), (~one).astype(int), confidence), 15)
        for one in right
    ]
    assert stated == pytest.approx(np.mean([error(np.ones((1, images)))[0, 0] for error in shown]), rel=0.1)
