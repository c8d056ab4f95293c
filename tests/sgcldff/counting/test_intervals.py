"""How often intervals hold the truth, by simulation: unlike shards, a model that errs, unidentified cells."""

import json

import numpy as np
import pytest

from sgcldff.core.errors import InputError
from sgcldff.core.labels import FIVE_TYPES, WBC12
from sgcldff.core.proportions import clustering, exact_interval
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.counting.confusion import Confusion, adjusted_shares
from sgcldff.counting.differential import Differential, from_counts, from_parts
from sgcldff.counting.stopping import Goal

SHARES = np.array([0.6, 0.03, 0.005, 0.3, 0.065])
ERRING = np.full((5, 5), 0.03 / 4) + np.eye(5) * (0.97 - 0.03 / 4)
"""A model that is right in 97 % of the cells."""


def named(counts):
    return dict(zip(FIVE_TYPES, map(int, counts), strict=True))


def shards(rng, number, cells, icc, shares=SHARES):
    """Draw counts by shard whose types are as alike, within a shard, as the intraclass correlation says."""
    local = rng.dirichlet(shares * (1 / icc - 1), number) if icc else np.tile(shares, (number, 1))
    return np.array([rng.multinomial(size, own) for size, own in zip(rng.poisson(cells, number), local, strict=True)])


def held(found, truth, ends=lambda share: (share.low, share.high)):
    return np.array([low <= true <= high for true, (low, high) in zip(truth, map(ends, found.shares), strict=True)])


@pytest.mark.parametrize(("number", "cells"), [(8, 60), (16, 60), (64, 15)])
def test_intervals_of_unlike_shards_hold_the_truth(number, cells):
    rng, together, apart = np.random.default_rng(0), [], []
    for _ in range(300):
        counts = shards(rng, number, cells, 0.02)
        together.append(held(from_counts(named(counts.sum(axis=0)), FIVE_TYPES), SHARES))
        apart.append(held(from_parts([named(part) for part in counts], FIVE_TYPES), SHARES))
    assert np.mean(apart, axis=0).min() >= 0.93
    assert np.mean(together, axis=0).min() < 0.92


def test_counting_that_stops_by_itself_allows_for_unlike_shards():
    rng, truth, holds = np.random.default_rng(0), np.array([0.1, 0.9]), []
    for _ in range(200):
        parts = [{"monocyte": int(a), "other": int(b)} for a, b in shards(rng, 320, 60, 0.02, truth)]
        for read in range(8, 321, 8):
            found = from_parts(parts[:read], ("monocyte", "other"))
            if (goal := Goal({"monocyte": 0.06})).reached(found):
                break
        holds.append(held(goal.settled(found), truth)[0])
    assert np.mean(holds) >= 0.93


def test_independent_cells_pay_little_for_the_design_effect():
    rng = np.random.default_rng(0)
    effects = [clustering(shards(rng, 32, 30, 0)).design_effect for _ in range(200)]
    assert 1 <= np.median(effects) <= np.mean(effects) < 1.1
    assert clustering(np.array([[5, 3]])) is None
    assert clustering(np.array([[5, 0], [7, 0], [0, 0]])) is None


def test_an_uneven_smear_is_flagged_and_an_even_one_is_not():
    rng = np.random.default_rng(0)

    def flagged(icc):
        drawn = (from_parts([named(part) for part in shards(rng, 16, 60, icc)], FIVE_TYPES) for _ in range(100))
        return sum("unevenly" in flag for found in drawn for flag in found.flags)

    assert flagged(0) <= 1
    assert flagged(0.05) >= 95


def labelled(rng, number):
    """Draw labelled cells with what the model of `ERRING` predicts for them."""
    true = rng.permutation(np.repeat(range(5), np.maximum(8, rng.multinomial(number, SHARES))))
    predicted = (rng.random(len(true))[:, None] > ERRING.cumsum(axis=1)[true]).sum(axis=1)
    return Confusion(FIVE_TYPES, tuple(map(int, true)), tuple(map(int, predicted)), (1.0,) * len(true))


@pytest.mark.slow
@pytest.mark.parametrize("cells", [200, 1000, 5000])
def test_adjusted_shares_hold_the_truth_however_many_cells_are_counted(cells):
    rng, raw, adjusted = np.random.default_rng(1), [], []
    for _ in range(200):
        found = from_counts(named(rng.multinomial(cells, SHARES @ ERRING)), FIVE_TYPES).adjusted_for(labelled(rng, 600))
        raw.append(held(found, SHARES))
        adjusted.append(held(found, SHARES, lambda share: (share.adjusted.low, share.adjusted.high)))
    assert np.mean(adjusted, axis=0).min() >= 0.93
    assert np.mean(raw, axis=0).min() < 0.9
    assert all(share.adjusted.low <= share.adjusted.share <= share.adjusted.high for share in found.shares)


def test_types_on_which_the_model_abstains_are_not_lost_from_the_adjusted_share():
    """Abstaining on monocytes takes them from the raw share below every flag."""
    left_out = np.array([0.02, 0.05, 0.3, 0.02, 0.25])
    true = np.repeat(range(5), 400)
    sure = np.concatenate([np.arange(400) >= 400 * part for part in left_out]).astype(float)
    confusion = Confusion(FIVE_TYPES, tuple(map(int, true)), tuple(map(int, true)), tuple(sure))
    counted = np.rint(100_000 * SHARES * (1 - left_out))
    found = from_counts(named(counted) | {UNIDENTIFIED: int(100_000 - counted.sum())}, FIVE_TYPES)
    monocyte = found.adjusted_for(confusion, 0.5)["monocyte"]
    assert not [flag for flag in found.flags if "unidentified" in flag]
    assert monocyte.share < 0.052
    assert monocyte.adjusted.share == pytest.approx(0.065, abs=1e-3)
    assert monocyte.lowest < monocyte.low < monocyte.high < 0.065 < monocyte.highest


def test_bounds_for_unidentified_cells_are_those_of_all_and_of_none():
    share = from_counts({"monocyte": 20, "neutrophil": 170, UNIDENTIFIED: 10}, FIVE_TYPES)["monocyte"]
    assert (share.lowest, share.highest) == (exact_interval(20, 200, 0.95)[0], exact_interval(30, 200, 0.95)[1])


def test_a_confusion_is_kept_with_the_model_and_says_nothing_of_a_class_without_cells(tmp_path):
    confusion = labelled(np.random.default_rng(0), 300)
    path = tmp_path / "confusion.json"
    confusion.write(path)
    assert Confusion.read(path) == confusion
    assert Confusion.read(tmp_path / "other") is None
    few = Confusion(FIVE_TYPES, (0,) * 9, (0,) * 9, (1.0,) * 9)
    assert adjusted_shares({"neutrophil": 100}, few, 0, 0.95) == {}
    assert from_counts({"a": 3}, "ab").adjusted_for(confusion)["a"].adjusted is None
    path.write_text("[]")
    with pytest.raises(InputError, match=r"confusion\.json: not a model's confusion"):
        Confusion.read(path)


def test_the_json_says_how_intervals_were_taken_and_what_they_leave_out():
    parts = [{"blast": 2, "other": 50}, {"blast": 5, "other": 60}]
    found = Goal({"blast": 0.3}).settled(from_parts(parts, ("blast", "other")))
    content = json.loads(json.dumps(found.to_dict()))
    assert content["interval"]["method"].startswith("exact binomial (Clopper-Pearson)")
    assert (content["interval"]["level"], content["interval"]["goal"]) == (0.965, {"blast": 0.3})
    assert content["interval"]["clusters"]["parts"] == 2
    assert "errors of the model" in content["interval"]["not_covered"]
    assert content["purpose"] == "research use only, not for diagnosis"
    assert content["cannot_tell"] == ["immature granulocyte", "band neutrophil", "erythroblast"]
    assert from_counts({}, WBC12.classes).cannot_tell == ()
    assert Differential.from_dict(content) == found
