"""Distances against SciPy's; halves of one data set are alike, and a copy with another stain is not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import energy_distance, ks_2samp

from sgcldff.core.settings import DriftSpec
from sgcldff.evaluation.drift import DriftReport, Observations, measure_drift
from sgcldff.evaluation.drift.distances import energy_coefficients, random_parts, share_distances


def halves(n, seed=0):
    return np.random.default_rng(seed).permutation(n)[None] < n // 3


@given(seed=st.integers(0, 2**32), n=st.integers(4, 60), shift=st.floats(0, 5))
def test_in_one_dimension_the_energy_is_that_of_scipy(seed, n, shift):
    first = halves(n, seed)
    points = np.random.default_rng(seed).normal(0, 1, n) + shift * first[0]
    across = np.abs(points[first[0], None] - points[~first[0]][None]).mean()
    expected = energy_distance(points[first[0]], points[~first[0]]) ** 2 / (2 * across)
    assert energy_coefficients(points[:, None].astype(np.float32), first)[0] == pytest.approx(expected, abs=1e-4)


def test_the_scale_is_as_documented():
    rng = np.random.default_rng(0)
    for shift, expected in ((0.5, 0.06), (1, 0.19), (2, 0.48)):
        points = np.concatenate((rng.normal(0, 1, 2000), rng.normal(shift, 1, 2000)))[:, None]
        told = energy_coefficients(points.astype(np.float32), np.arange(4000)[None] < 2000)[0]
        assert told == pytest.approx(expected, abs=0.025)


def psi(one, other):
    return float(((one - other) * np.log(one / other)).sum())


def test_shares_are_as_far_as_the_stability_index_says():
    """Known shares: the documented translation of the index to the distance."""
    for index, expected in ((0.1, 0.13), (0.25, 0.21)):
        base = np.array([0.55, 0.25, 0.12, 0.08])
        tilted = next(
            shares / shares.sum()
            for shares in (base ** (1 - step) for step in np.linspace(0, 1, 2000))
            if psi(base, shares / shares.sum()) >= index
        )
        counts = [np.round(shares * 20_000).astype(int) for shares in (base, tilted)]
        labels = np.concatenate([np.repeat(list("abcd"), count) for count in counts])
        told = share_distances(labels, (np.arange(len(labels)) < counts[0].sum())[None])[0]
        assert told == pytest.approx(expected, abs=0.01)
    apart = np.repeat(["a", "b"], 10)
    assert share_distances(apart, (apart == "a")[None])[0] == pytest.approx(1)


@given(seed=st.integers(0, 2**32), groups=st.integers(2, 30), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_parts_are_of_as_many_patients_as_are_new_and_the_rest_are_others(seed, groups, sizes):
    rng = np.random.default_rng(seed)
    codes = np.append(np.arange(groups), rng.integers(0, groups, 60))
    first, second = random_parts(codes, sizes, 20, rng)
    assert first.shape == second.shape == (20, 60 + groups)
    for part, rest in zip(first, second, strict=True):
        drawn, others = set(codes[part]), set(codes[rest])
        assert len(drawn) == min(len(sizes), groups // 2)
        assert drawn.isdisjoint(others)
        assert drawn | others == set(codes)
        assert rest.sum() == np.isin(codes, list(others)).sum()
        taken = sorted(np.unique(codes[part], return_counts=True)[1], reverse=True)
        assert all(own <= new for own, new in zip(taken, sorted(sizes, reverse=True), strict=False))


def images(n, seed, shift=0.0, groups=12, shares=(0.6, 0.3, 0.1), spread=0.5):
    """Draw images of patients, each with a stain, coverage and embedding of its own."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % groups)
    patient = rng.normal(0, 1, (groups, 6))
    stain = (spread * patient[codes] + rng.normal(0, 1, (n, 6)) + shift).astype(np.float32)
    coverage = rng.beta(2, 5, (n, 1)).astype(np.float32)
    labels = tuple(rng.choice(list("abc"), n, p=shares))
    embedding = rng.normal(0, 1, (n, 16)).astype(np.float32) + shift
    return Observations(codes, labels, stain, coverage, np.arange(n), labels, embedding.astype(np.float32))


def test_patients_of_one_source_seldom_drift_and_a_shift_always_does():
    drifted = [
        bool(measure_drift(images(300, 2 * at), images(80, 2 * at + 1), DriftSpec()).exceeding) for at in range(12)
    ]
    assert sum(drifted) <= 1
    report = measure_drift(images(300, 0), images(80, 1, shift=1.0), DriftSpec())
    assert {figure.name for figure in report.exceeding} == {"stain", "embedding"}
    mixed = measure_drift(images(300, 0), images(80, 1, shares=(0.1, 0.3, 0.6)), DriftSpec())
    assert [figure.name for figure in mixed.exceeding] == ["class mix"]
    assert mixed.shares["c"][1] > 0.4


@pytest.mark.parametrize(("patients", "each", "reference"), [(5, 20, 10), (5, 20, 1), (8, 2, 10)])
def test_new_patients_like_the_old_ones_seldom_raise_an_alarm(patients, each, reference):
    """Patients differ in stain: few new ones are never in the middle of many old ones, and that is no drift."""
    alarms, spec = 0, DriftSpec(min_images=10, resamples=60)
    number = 150 if reference == 1 else 20
    for run in range(30):
        old = images(number * reference, 2 * run, groups=number, spread=1.0)
        new = images(patients * each, 2 * run + 1, groups=patients, spread=1.0)
        alarms += bool(measure_drift(old, new, spec).exceeding)
    assert alarms <= 0.05 * 30 + 1


def test_nothing_is_said_of_fewer_than_five_patients():
    report = measure_drift(images(300, 0), images(40, 1, groups=1), DriftSpec())
    assert report.figures == ()
    assert "40 new images of 1 patient or slide are too few" in report.to_markdown()


@pytest.mark.slow
def test_the_least_that_chance_gives_and_the_least_that_matters_both_count():
    """Many images make a trifle certain, few make a large distance chance: neither is drift."""
    trifle = measure_drift(images(1500, 0, groups=1500), images(1500, 1, shift=0.2, groups=1500), DriftSpec()).figures[
        0
    ]
    assert trifle.chance < trifle.value < trifle.limit
    assert not trifle.exceeds
    strict = DriftSpec(stain=0, prior=0, embedding=0, class_mix=1, min_images=5)
    few = [measure_drift(images(120, at, groups=120), images(8, at + 99, groups=8), strict) for at in range(30)]
    assert sum(len(report.exceeding) for report in few) <= 5, "90 distances, of which 1 % exceed by chance"
    assert np.mean([report.figures[0].chance for report in few]) > 5 * trifle.chance


def test_too_few_images_are_not_compared_and_reports_survive_json():
    assert measure_drift(images(300, 0), images(19, 1), DriftSpec()).figures == ()
    report = measure_drift(images(100, 0), images(40, 1), DriftSpec())
    assert DriftReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    assert "| stain |" in report.to_markdown()
    unlabelled = images(40, 1)
    object.__setattr__(unlabelled, "labels", ("",) * 40)
    assert [figure.name for figure in measure_drift(images(100, 0), unlabelled, DriftSpec()).figures] == [
        "stain",
        "prior coverage",
        "embedding",
    ]


def test_what_is_kept_of_many_images_is_a_fair_part():
    every = images(4000, 0)
    kept = every.sampled(seed=0)
    assert (len(kept), len(kept.owners)) == (1500, 1500)
    assert ks_2samp(kept.stain[:, 0], every.stain[:, 0]).pvalue > 0.01
    assert all(kept.labels[owner] == name for owner, name in zip(kept.owners, kept.types, strict=True))
