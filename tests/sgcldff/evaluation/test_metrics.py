import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from skimage.segmentation import find_boundaries
from sklearn import metrics as oracle
from torchmetrics.functional.classification import multiclass_calibration_error

from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.bootstrap import intervals
from sgcldff.evaluation.metrics import (
    Boundary,
    Interval,
    Overlap,
    TypePredictions,
    auroc,
    bootstrap,
    boundary_f1,
    calibration_error,
    cell_boundary,
    cell_overlap,
    confusion,
    dice,
    iou,
    macro_auroc,
    mean_of,
    nucleus_boundary,
    nucleus_overlap,
    type_scores,
)

BACKGROUND, CYTOPLASM, NUCLEUS, CELL, UNKNOWN = 1, 2, 4, 6, 7
SPEC = EvalSpec(resamples=200)
seeds = st.integers(0, 2**32 - 1)


def typing_of(seed: int, n: int = 60, k: int = 4) -> TypePredictions:
    rng = np.random.default_rng(seed)
    true = np.append(np.arange(k), rng.integers(0, k, n - k))
    told = np.where(rng.random(n) < 0.6, true, rng.integers(0, k, n))
    return TypePredictions(tuple("abcdefgh"[:k]), true, told, rng.uniform(1 / k, 1, n))


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_overlap_agrees_with_sklearn_where_all_is_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (9, 11)).astype(np.uint8)
    truth = rng.integers(0, 3, (9, 11))
    target = (1 << truth).astype(np.uint8)
    for count, found, true in (
        (cell_overlap, labels > 0, truth > 0),
        (nucleus_overlap, labels == 2, truth == 2),
    ):
        seen = count(labels, target)
        assert seen is not None
        assert iou(seen.intersection, seen.union) == pytest.approx(oracle.jaccard_score(true.ravel(), found.ravel()))
        assert dice(seen.intersection, seen.union) == pytest.approx(oracle.f1_score(true.ravel(), found.ravel()))


def test_pixels_of_unknown_part_count_for_the_cell_and_not_for_the_nucleus() -> None:
    target = np.array([[BACKGROUND, CELL, CELL, NUCLEUS, UNKNOWN]], np.uint8)
    labels = np.array([[1, 1, 2, 2, 2]], np.uint8)
    assert cell_overlap(labels, target) == Overlap(3, 4)
    assert nucleus_overlap(labels, target) == Overlap(1, 1)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_what_stands_on_unknown_pixels_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.choice(np.array([1, 2, 4, 7], np.uint8), (8, 8))
    target[0, 0] = NUCLEUS
    first = rng.integers(0, 3, (8, 8)).astype(np.uint8)
    second = np.where(target == UNKNOWN, rng.integers(0, 3, (8, 8)), first).astype(np.uint8)
    assert cell_overlap(first, target) == cell_overlap(second, target)
    assert nucleus_overlap(first, target) == nucleus_overlap(second, target)


def test_boxes_alone_do_not_assess_an_outline_but_an_empty_field_does() -> None:
    labels = np.array([[0, 1, 2, 0]], np.uint8)
    boxed = np.array([[BACKGROUND, UNKNOWN, UNKNOWN, BACKGROUND]], np.uint8)
    assert cell_overlap(labels, boxed) is None
    assert nucleus_overlap(labels, np.full((1, 4), CELL, np.uint8)) is None
    assert cell_overlap(labels, np.full((1, 4), BACKGROUND, np.uint8)) == Overlap(0, 2)


def f1_of(seen: Boundary | None) -> float:
    assert seen is not None
    counts = (seen.found, seen.found_matched, seen.true, seen.true_matched)
    return float(boundary_f1(*(np.array(count, float) for count in counts)))


def disc(x: float, radius: float = 60, side: int = 200) -> np.ndarray:
    """Label a disc of cytoplasm about (side / 2, x) with a nucleus of half its width."""
    across = np.hypot(np.arange(side)[:, None] - side / 2, np.arange(side)[None, :] - x)
    return ((across <= radius).astype(np.uint8) + (across <= radius / 2)).astype(np.uint8)


def blobs(seed: int, side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height = gaussian_filter(rng.standard_normal((side, side)), 3)
    return np.digitize(height, np.quantile(height, (0.5, 0.8))).astype(np.uint8)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_boundaries_match_as_a_measuring_of_all_pairs_says(seed: int) -> None:
    """With unknown areas, and with cells that the image cuts."""
    found, truth, unknown = blobs(seed), blobs(seed + 1), blobs(seed + 2) == 2
    target = np.where(unknown, UNKNOWN, 1 << truth).astype(np.uint8)
    for count, ours, theirs in (
        (cell_boundary, found > 0, (truth > 0) & ~unknown),
        (nucleus_boundary, found == 2, (truth == 2) & ~unknown),
    ):
        lines = [find_boundaries(area, connectivity=1, mode="inner") & area for area in (ours, theirs)]
        places = [np.argwhere(line) for line in lines]
        away = [cdist(line, np.argwhere(unknown)).min(axis=1) > 3 for line in places]
        apart = cdist(*places)
        matched = [(apart <= 2).any(axis=1) & away[0], (apart <= 2).any(axis=0) & away[1]]
        sums = [int(part.sum()) for pair in zip(away, matched, strict=True) for part in pair]
        assert count(found, target, 0.2) == (Boundary(*sums) if sums[2] else None)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_boundaries_are_blind_to_what_stands_on_unknown_pixels(seed: int) -> None:
    rng, unknown = np.random.default_rng(seed), blobs(seed) == 2
    target = np.where(unknown, UNKNOWN, 1 << blobs(seed + 1)).astype(np.uint8)
    first = blobs(seed + 2)
    second = np.where(unknown, rng.integers(0, 3, first.shape), first).astype(np.uint8)
    assert cell_boundary(first, target, 0.2) == cell_boundary(second, target, 0.2)
    assert nucleus_boundary(first, target, 0.2) == nucleus_boundary(second, target, 0.2)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_boundary_f1_does_not_care_which_of_two_outlines_is_the_truth(seed: int) -> None:
    one, other = blobs(seed), blobs(seed + 1)
    for count in (cell_boundary, nucleus_boundary):
        forth, back = count(one, 1 << other, 0.2), count(other, 1 << one, 0.2)
        assert forth is not None
        assert back == Boundary(forth.true, forth.true_matched, forth.found, forth.found_matched)
        assert f1_of(forth) == f1_of(back)
        assert f1_of(count(one, 1 << one, 0.2)) == 1


@pytest.mark.parametrize(("shift", "mpp"), [(6, 0.2), (10, 0.2), (6, 0.1), (6, 0.4)])
def test_a_shifted_disc_matches_where_its_edge_runs_along_the_shift(shift: int, mpp: float) -> None:
    """Two circles lie |shift cos(angle)| apart, so that 2/pi asin(tolerance / shift) of the one matches the other.

    A grid moves their pixels by less than one px.
    """
    exact, coarse = (2 / np.pi * np.arcsin((0.4 / mpp + grid) / shift) for grid in (0, 1))
    found, target = disc(250, 200, 500), 1 << disc(250 + shift, 200, 500)
    assert exact - 0.02 < f1_of(cell_boundary(found, target, mpp)) < coarse


def test_within_the_tolerance_a_shift_costs_nothing() -> None:
    found = disc(100)
    assert f1_of(cell_boundary(found, 1 << disc(102), 0.2)) == 1
    assert f1_of(nucleus_boundary(found, 1 << disc(102), 0.2)) == 1
    assert f1_of(cell_boundary(found, 1 << disc(103), 0.2)) < 1
    assert f1_of(cell_boundary(found, 1 << disc(103), 0.1)) == 1


def test_boundaries_along_unknown_pixels_do_not_count() -> None:
    """The right half is not known; the left half of the outline matches, whatever is found on the right."""
    target = (1 << disc(100)).astype(np.uint8)
    target[:, 100:] = UNKNOWN
    whole, half = disc(100), disc(100)
    half[:, 100:] = 0
    seen = cell_boundary(whole, target, 0.2)
    assert seen is not None
    assert seen == cell_boundary(half, target, 0.2)
    assert f1_of(seen) == 1
    fully = cell_boundary(whole, 1 << whole, 0.2)
    assert fully is not None
    assert 0.4 * fully.true < seen.true < 0.5 * fully.true


def test_a_missed_or_invented_boundary_scores_zero_and_none_at_all_nothing() -> None:
    nothing, cell = np.zeros((200, 200), np.uint8), disc(100)
    assert f1_of(cell_boundary(nothing, 1 << cell, 0.2)) == 0
    assert f1_of(cell_boundary(cell, 1 << nothing, 0.2)) == 0
    assert np.isnan(f1_of(cell_boundary(nothing, 1 << nothing, 0.2)))
    assert cell_boundary(cell, np.full((200, 200), UNKNOWN, np.uint8), 0.2) is None
    assert nucleus_boundary(cell, np.where(cell > 0, CELL, BACKGROUND).astype(np.uint8), 0.2) is None
    boxed = np.where(cell > 0, UNKNOWN, BACKGROUND).astype(np.uint8)
    assert cell_boundary(cell, boxed, 0.2) is None


def test_the_end_of_an_image_is_no_boundary() -> None:
    inside = np.full((30, 30), 2, np.uint8)
    assert cell_boundary(inside, 1 << inside, 0.2) == Boundary(0, 0, 0, 0)


def test_nothing_found_where_nothing_is_has_no_iou() -> None:
    assert np.isnan(iou(np.array(0.0), np.array(0.0)))
    averages = mean_of(np.array([[0.5, np.nan], [np.nan, np.nan]]))(np.ones((1, 2)))
    np.testing.assert_equal(averages, [[0.5, np.nan]])


@given(seeds, st.integers(2, 6))
def test_type_scores_agree_with_sklearn(seed: int, k: int) -> None:
    typing = typing_of(seed, k=k)
    weights = np.random.default_rng(seed).integers(0, 4, len(typing.true))
    weights[:k] = 1
    rows = np.stack([np.ones_like(weights), weights]).astype(float)
    scores = type_scores(typing)(rows)
    for row, weight in zip(scores, rows, strict=True):
        options = {"sample_weight": weight}
        assert row[0] == pytest.approx(oracle.accuracy_score(typing.true, typing.predicted, **options))
        assert row[1] == pytest.approx(oracle.balanced_accuracy_score(typing.true, typing.predicted, **options))
        every = oracle.precision_recall_fscore_support(typing.true, typing.predicted, labels=range(k), **options)
        assert row[2] == pytest.approx(every[2].mean())
        np.testing.assert_allclose(row[3 : 3 + k], every[0 + 1])
        told = np.bincount(typing.predicted, weight, k) > 0
        np.testing.assert_allclose(row[3 + k : 3 + 2 * k][told], every[0][told])
        np.testing.assert_allclose(row[3 + 2 * k :], every[2])
    np.testing.assert_array_equal(
        confusion(typing, rows)[1], oracle.confusion_matrix(typing.true, typing.predicted, sample_weight=weights)
    )


def test_a_label_that_is_only_told_lowers_recall_but_has_no_f1_of_its_own() -> None:
    typing = TypePredictions(("a", "b", "c"), np.array([0, 0, 1]), np.array([0, 2, 1]), np.full(3, 0.9))
    accuracy, balanced, macro, *every = type_scores(typing)(np.ones((1, 3)))[0]
    assert (accuracy, balanced) == (pytest.approx(2 / 3), 0.75)
    assert macro == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(every[2])
    assert np.isnan(every[8])


def test_one_label_alone_has_accuracy_but_no_balanced_one() -> None:
    typing = TypePredictions(("a", "b"), np.array([0, 0]), np.array([0, 1]), np.full(2, 0.9))
    accuracy, balanced, macro, *_ = intervals(type_scores(typing), ["x", "y"], SPEC)
    assert accuracy is not None
    assert accuracy.value == 0.5
    assert balanced is None
    assert macro is None


@given(seeds, st.booleans())
def test_auroc_agrees_with_sklearn_with_weights_and_ties(seed: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    positive = np.append([True, False], rng.random(40) < 0.4)
    scores = rng.random(42) + positive * 0.3
    scores = np.round(scores, 1) if coarse else scores
    weights = np.append([1, 1], rng.integers(0, 3, 40)).astype(float)
    expected = oracle.roc_auc_score(positive, scores, sample_weight=weights)
    assert auroc(scores, positive, weights[None])[0] == pytest.approx(expected)


def test_auroc_leaves_out_what_is_neither_and_is_undefined_for_one_class() -> None:
    scores = np.array([[0.9], [0.5], [0.1], [0.99]])
    positive = np.array([[True], [False], [False], [False]])
    negative = np.array([[False], [True], [True], [False]])
    assert macro_auroc(scores, positive, negative)(np.ones((1, 4)))[0, 0] == 1
    everything = np.ones_like(positive)
    assert np.isnan(macro_auroc(scores, everything, ~everything)(np.ones((1, 4)))[0, 0])


@given(seeds, st.integers(2, 20))
def test_calibration_error_agrees_with_torchmetrics(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(4), 80)
    true = rng.integers(0, 4, 80)
    typing = TypePredictions(tuple("abcd"), true, probabilities.argmax(1), probabilities.max(1))
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(true), num_classes=4, n_bins=bins
    )
    assert calibration_error(typing, bins)(np.ones((1, 80)))[0, 0] == pytest.approx(float(expected), abs=1e-6)


def test_a_mean_has_the_interval_that_theory_gives() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, (400, 1))
    (interval,) = intervals(mean_of(values), [str(i) for i in range(400)], EvalSpec(resamples=4000))
    assert interval is not None
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.002)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.002)


def test_groups_are_drawn_whole() -> None:
    values = np.repeat([0.0, 1.0], 50)[:, None]
    groups = ["a"] * 50 + ["b"] * 50
    draws = bootstrap(mean_of(values), groups, SPEC)
    assert set(np.unique(draws)) == {0.0, 0.5, 1.0}
    (wide,) = intervals(mean_of(values), [str(i // 10) for i in range(100)], SPEC)
    (narrow,) = intervals(mean_of(values), [str(i) for i in range(100)], SPEC)
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)  # type: ignore[operator]


def test_draws_depend_on_the_seed_only() -> None:
    values = np.random.default_rng(1).random((20, 1))
    groups = [str(i % 7) for i in range(20)]
    np.testing.assert_array_equal(bootstrap(mean_of(values), groups, SPEC), bootstrap(mean_of(values), groups, SPEC))
    other = EvalSpec(resamples=200, seed=1)
    assert not np.array_equal(bootstrap(mean_of(values), groups, SPEC), bootstrap(mean_of(values), groups, other))


def test_bootstrap_in_chunks_is_the_bootstrap_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random((30, 2))
    groups = [str(i % 9) for i in range(30)]
    at_once = bootstrap(mean_of(values), groups, SPEC)
    monkeypatch.setattr("sgcldff.evaluation.metrics.WEIGHTS_AT_ONCE", 30 * 7)
    np.testing.assert_allclose(bootstrap(mean_of(values), groups, SPEC), at_once)


def test_too_few_groups_give_a_value_without_an_interval() -> None:
    typing = TypePredictions(("a", "b"), np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1]), np.full(4, 0.9))
    assert intervals(type_scores(typing), list("wxyz"), SPEC)[0] == Interval(0.75)
    typing = TypePredictions(("a", "b"), np.array([0] * 6 + [1]), np.array([0, 1, 0, 1, 0, 0, 1]), np.full(7, 0.9))
    accuracy, _, _, recall_a, recall_b, *_ = intervals(type_scores(typing), list("tuvwxyz"), SPEC)
    assert accuracy is not None
    assert accuracy.low is not None
    assert recall_a is not None
    assert recall_a.low is not None
    assert recall_b == Interval(1.0)
