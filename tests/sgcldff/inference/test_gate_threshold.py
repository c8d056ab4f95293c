"""Calibration of the gate: what counts as kept, who chooses the threshold, and who judges it."""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample
from sgcldff.core.settings import GateSpec
from sgcldff.data.adapters import Source
from sgcldff.data.synthetic import write_dataset
from sgcldff.inference.gate import Area, Recall, choose_threshold
from sgcldff.inference.gate.threshold import KEPT_SHARE, SAFETY, fit_gates, halves, keeping_scores, marked, share_read
from sgcldff.slides.images import read_grey

pytestmark = pytest.mark.slow

SPEC = GateSpec(threshold=0.25)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = write_dataset(tmp_path_factory.mktemp("smears"), n_crops=32, n_fields=32, seed=3)
    return tuple(Source("table", str(folder), 0.2).scan())


@pytest.fixture(scope="module")
def images(samples):
    return tuple(marked(sample, SPEC.mpp) for sample in samples)


def test_synthetic_smears_keep_nearly_all_cells_and_leave_nearly_all_else(samples):
    found = choose_threshold(samples, SPEC)
    assert found.held_out.of > 20
    assert found.held_out.share > 0.95
    assert found.chosen_on.share >= SPEC.recall
    assert found.read < 0.05
    assert (found.spec.kept, found.spec.calibrated_on) == (found.held_out.kept, found.held_out.of)
    kept = {"kept": SPEC.kept, "calibrated_on": SPEC.calibrated_on}
    assert replace(found.spec, threshold=SPEC.threshold, **kept) == SPEC
    report = json.loads(json.dumps(found.to_dict()))
    assert report["low"] < report["recall"] <= report["high"]
    assert found.held_out.of == sum(map(sum, found.held_out.groups)) > len(found.held_out.groups) > 1
    assert set(report["by_type"]) == {sample.label for sample in samples if sample.label} != set()
    assert all(one["low"] <= one["recall"] <= one["high"] for one in report["by_type"].values())
    assert choose_threshold(reversed(samples), SPEC) == found


def test_a_score_is_the_largest_threshold_that_keeps_its_cell(images):
    gates = fit_gates(images, SPEC)
    for image in [image for image in images if image.cells][:12]:
        scores = keeping_scores([image], gates)
        for cell, score in zip(image.cells, scores, strict=True):
            for threshold, kept in ((score, True), (np.nextafter(np.float32(score), np.float32(1)), False)):
                spec = replace(SPEC, threshold=float(threshold))
                places = replace(gates[image.sample.group], spec=spec).places(image.rgb)
                middle = tuple(round(float(axis.mean())) for axis in np.nonzero(cell))
                assert (places[cell].mean() >= KEPT_SHARE and places[middle]) == kept


@pytest.mark.parametrize("recall", [0.6, 0.9, 1.0])
def test_the_threshold_keeps_what_was_asked_for_and_is_lowered_by_the_safety(samples, images, recall):
    spec = replace(SPEC, recall=recall)
    judged = [image for image in images if image.cells]
    half, _ = halves(judged)
    scores = keeping_scores(half, fit_gates(judged, spec))
    threshold = choose_threshold(samples, spec).spec.threshold
    assert (scores >= threshold).mean() >= recall
    assert (scores >= threshold / SAFETY + 0.002).mean() < recall


def test_a_group_is_on_one_side(images):
    sides = halves(images)
    groups = [{image.sample.group for image in side} for side in sides]
    assert not groups[0] & groups[1]
    assert len(sides[0]) + len(sides[1]) == len(images)
    assert min(map(len, groups)) >= 0.4 * max(map(len, groups))


def test_one_group_cannot_choose_and_judge(samples):
    with pytest.raises(InputError, match="at least two"):
        choose_threshold([replace(sample, group="one") for sample in samples])
    with pytest.raises(InputError, match="marked in 0 groups"):
        choose_threshold([replace(sample, mask=None) for sample in samples])


@pytest.fixture
def blank(tmp_path):
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((400, 400, 3), 230, np.uint8))
    return Sample("a/b", "a", "a/b", str(tmp_path / "blank.png"), 0.1, "none")


def test_boxes_are_ellipses_and_points_are_discs(blank):
    image = marked(replace(blank, boxes=((100, 120, 240, 220), (300, 300, 300, 300))), 0.4)
    ellipse, disc = image.cells
    assert ellipse.sum() * 0.16 == pytest.approx(np.pi * 7 * 5, rel=0.05)
    assert disc.sum() * 0.16 == pytest.approx(np.pi * 6.75**2, rel=0.05)
    assert [round(float(axis.mean()) * 4) for axis in np.nonzero(ellipse)] == pytest.approx([170, 170], abs=4)


def test_cut_cells_and_specks_are_not_judged_but_known(blank):
    image = marked(replace(blank, boxes=((0, 100, 130, 240), (200, 200, 220, 220), (300, 100, 399, 240))), 0.4)
    assert image.cells == ()
    assert image.taken.sum() > 500
    assert image.taken[52, 52]


def test_masks_are_judged_cell_by_cell(samples, images):
    fields = [(image, sample) for image, sample in zip(images, samples, strict=True) if "field" in sample.id]
    for image, sample in fields[:8]:
        truth = read_grey(sample.mask) > 0
        assert abs(int(image.taken.sum()) * 16 - int(truth.sum())) <= 0.1 * truth.sum() + 100
        for cell in image.cells:
            assert cv2.connectedComponents(cell.astype(np.uint8))[0] == 2
            assert not cell[0].any()
            assert not cell[:, 0].any()


def test_what_is_read_for_nothing_is_measured(images):
    gates = fit_gates(images, SPEC)
    empty = [image for image in images if not image.taken.any()]
    assert share_read(empty, gates, replace(SPEC, threshold=0.0)) == 1.0
    assert share_read(empty, gates, SPEC) < 0.1
    assert share_read([], gates, SPEC) == 0.0
    full = [image for image in images if image.cells]
    assert share_read(full, gates, replace(SPEC, threshold=0.9, margin_um=0)) == 0.0


@given(st.integers(1, 2000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_interval_is_clopper_and_pearsons(counts):
    kept, of = counts
    low, high = Recall(kept, of).interval(0.9)
    assert low == pytest.approx(beta.ppf(0.05, kept, of - kept + 1) if kept else 0, abs=1e-9)
    assert high == pytest.approx(beta.ppf(0.95, kept + 1, of - kept) if kept < of else 1, abs=1e-9)


def test_the_interval_allows_for_slides_that_lose_more_cells_than_others():
    """35 slides of 20 cells, of which some lose many and most none."""
    rng, apart, together = np.random.default_rng(0), [], []
    for _ in range(300):
        kept = rng.binomial(20, rng.beta(0.97 * 4, 0.03 * 4, 35))
        groups = tuple((int(one), 20 - int(one)) for one in kept)
        for held, recall in ((apart, Recall(int(kept.sum()), 700, groups)), (together, Recall(int(kept.sum()), 700))):
            low, high = recall.interval()
            held.append(low <= 0.97 <= high)
    assert np.mean(apart) >= 0.93
    assert np.mean(together) < 0.7


def test_no_cells_tell_nothing():
    assert Recall(0, 0).interval() == (0.0, 1.0)


@pytest.mark.real
def test_real_fields_keep_their_cells_and_are_usable():
    root = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))
    folder = root / "bccd"
    if not folder.is_dir():
        pytest.skip("no BCCD below SGCLDFF_DATA")
    fields = [marked(sample, SPEC.mpp) for sample in Source("bccd", str(folder)).scan() if isinstance(sample, Sample)]
    gates = fit_gates(fields, SPEC)
    scores = keeping_scores(fields, gates)
    assert len(scores) > 150
    assert (scores >= SPEC.threshold).mean() >= 0.995
    assert share_read(fields, gates, SPEC) < 0.01
    areas = np.concatenate([gates[field.sample.group].areas(field.rgb).ravel() for field in fields])
    assert (areas == Area.MONOLAYER).mean() >= 0.99
