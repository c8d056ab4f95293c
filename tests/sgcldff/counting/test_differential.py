import json
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

from sgcldff.core.errors import InputError, LabelError
from sgcldff.core.labels import (
    BROADER,
    ERYTHROBLAST,
    FIVE_TYPES,
    IMMATURE_GRANULOCYTE,
    NEUTROPHIL,
    NO_WHITE_CELL,
    WBC11,
)
from sgcldff.core.records import UNIDENTIFIED, Lineage
from sgcldff.counting.confusion import Confusion
from sgcldff.counting.differential import Differential, differential, from_counts, read_differential, write_differential

COARSE = (*FIVE_TYPES, IMMATURE_GRANULOCYTE)
LINEAGE = Lineage("ab" * 32, "sgcldff", "3", "cd" * 8, "ef" * 8, "0.1.0")
counts_of_types = st.lists(st.integers(0, 300), min_size=5, max_size=5)


def labels_of(counts, rejected=0):
    named = [label for label, count in zip(FIVE_TYPES, counts, strict=True) for _ in range(count)]
    return named + [UNIDENTIFIED] * rejected


@settings(deadline=None)
@given(counts_of_types, st.sampled_from([0.9, 0.95, 0.99]))
def test_intervals_are_the_quantiles_of_beta_distributions(counts, confidence):
    total = sum(counts)
    for share, k in zip(differential(labels_of(counts), FIVE_TYPES, confidence).shares, counts, strict=True):
        tail = (1 - confidence) / 2
        low = beta.ppf(tail, k, total - k + 1) if k else 0.0
        high = beta.ppf(1 - tail, k + 1, total - k) if k < total else 1.0
        assert (share.count, share.low, share.high) == (k, pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
        assert share.low <= share.share <= share.high


@pytest.mark.slow
@given(st.integers(1, 50), st.floats(0.01, 0.99))
def test_intervals_hold_the_truth_as_often_as_they_promise(total, truth):
    covered = 0.0
    for k in range(total + 1):
        share = differential(["a"] * k + ["b"] * (total - k), ("a", "b"))["a"]
        covered += binom.pmf(k, total, truth) * (share.low <= truth <= share.high)
    assert covered >= 0.95 - 1e-9


@settings(deadline=None)
@given(counts_of_types, st.integers(0, 50), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_nothing_is_lost(counts, rejected, random):
    labels = labels_of(counts, rejected)
    found = differential(labels, FIVE_TYPES)
    random.shuffle(labels)
    assert found == differential(labels, FIVE_TYPES)
    assert found.counted + found.rejected == len(labels)
    assert found.rejected == rejected
    if found.counted:
        assert math.fsum(share.share for share in found.shares) == pytest.approx(1)


@settings(deadline=None)
@given(counts_of_types, st.integers(0, 50), st.integers(0, 900))
def test_json_gives_the_same_differential_back(counts, rejected, excluded):
    found = differential(labels_of(counts, rejected), FIVE_TYPES, excluded=excluded)
    assert Differential.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_counts_give_the_same_differential_as_labels():
    labels = labels_of([50, 3, 0, 30, 6], 4)
    assert from_counts(Counter(labels), FIVE_TYPES, excluded=7) == differential(labels, FIVE_TYPES, excluded=7)


def test_files_of_the_first_version_are_still_read():
    former = differential(labels_of([50, 3, 0, 30, 6], 4), FIVE_TYPES)
    content = former.to_dict() | {"version": 1}
    del content["excluded"], content["interval"]
    assert Differential.from_dict(content) == former
    with pytest.raises(InputError, match="version is 4, known are up to 3: update"):
        Differential.from_dict(content | {"version": 4})


def test_cells_outside_the_usable_area_are_told_but_enter_no_share():
    labels = labels_of([300, 3, 1, 90, 6])
    inside, both = differential(labels, FIVE_TYPES), differential(labels, FIVE_TYPES, excluded=401)
    assert (both.excluded, both.counted, both.shares) == (401, 400, inside.shares)
    assert inside.flags == differential(labels, FIVE_TYPES, excluded=400).flags == ()
    assert both.flags == ("50% of the cells found lie outside the usable area and were not counted: check the smear",)


def test_none_stands_for_unidentified():
    assert differential([None, "basophil"], FIVE_TYPES) == differential([UNIDENTIFIED, "basophil"], FIVE_TYPES)


@pytest.mark.parametrize(("count", "limit"), [(0, 100), (99, 100), (100, 200), (199, 200), (200, 400), (399, 400)])
def test_too_few_cells_are_flagged_by_the_strictest_limit(count, limit):
    (flag,) = differential(["monocyte"] * count, FIVE_TYPES).flags
    assert f"fewer than {limit} " in flag


def test_enough_cells_carry_no_flag_until_many_are_unidentified():
    assert differential(["monocyte"] * 400, FIVE_TYPES).flags == ()
    assert differential(["monocyte"] * 400 + [None] * 44, FIVE_TYPES).flags == ()
    (flag,) = differential(["monocyte"] * 400 + [None] * 45, FIVE_TYPES).flags
    assert "unidentified" in flag


def test_no_cells_leave_every_share_open():
    found = differential([], FIVE_TYPES)
    assert {(share.low, share.high) for share in found.shares} == {(0.0, 1.0)}


def test_labels_of_no_class_are_refused_by_name():
    with pytest.raises(LabelError, match=r"martian.*the classes are neutrophil"):
        differential(["martian"], FIVE_TYPES)
    with pytest.raises(InputError, match="confidence is 95"):
        differential(["monocyte"], FIVE_TYPES, 95)


def test_a_written_differential_says_where_it_comes_from(tmp_path):
    found = differential(labels_of([50, 3, 1, 30, 6], 4), FIVE_TYPES)
    path = write_differential(tmp_path / "differential.json", found, "slide-7", LINEAGE)
    assert read_differential(path) == found
    content = json.loads(path.read_text())
    assert content["lineage"]["model_version"] == "3"
    assert content["slide_id"] == "slide-7"
    assert content["orientation"] == 1
    write_differential(path, found, "slide-7", LINEAGE, orientation=6)
    assert json.loads(path.read_text())["orientation"] == 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["differential.json"]


@pytest.mark.parametrize("content", ["", "[1]", '{"shares": []}', '{"shares": 3, "counted": 1}'])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "differential.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"differential\.json"):
        read_differential(path)


@given(st.lists(st.sampled_from([*WBC11.classes, UNIDENTIFIED]), max_size=60))
def test_cells_that_are_not_white_are_counted_beside_and_broader_types_are_sums(labels):
    found = differential(labels, WBC11.classes)
    assert found.classes == WBC11.classes
    beside = [ERYTHROBLAST, NO_WHITE_CELL]
    assert [one.label for one in found.beside] == beside
    assert found.counted == sum(label not in (*beside, UNIDENTIFIED) for label in labels)
    assert sum(share.share for share in found.shares) == pytest.approx(float(found.counted > 0))
    assert [group.label for group in found.groups] == [NEUTROPHIL, IMMATURE_GRANULOCYTE]
    coarse = differential([BROADER.get(label, label) for label in labels if label not in beside], COARSE)
    assert list(found.groups) == [coarse[group.label] for group in found.groups]
    for one in found.beside:
        if found.counted:
            chance = binomtest(labels.count(one.label), labels.count(one.label) + found.counted)
            low, high = (end / (1 - end) for end in chance.proportion_ci(0.95, method="exact"))
            assert (one.per_100, one.low, one.high) == pytest.approx(
                (100 * labels.count(one.label) / found.counted, 100 * low, 100 * high)
            )
    assert Differential.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_shares_are_adjusted_among_white_cells_alone():
    size = len(WBC11.classes)
    faultless = Confusion(WBC11.classes, tuple(range(size)) * 50, tuple(range(size)) * 50, (1.0,) * 50 * size)
    counts = {label: 10 + number for number, label in enumerate(WBC11.classes)}
    found = from_counts(counts, WBC11.classes).adjusted_for(faultless)
    assert [share.adjusted.share for share in found.shares] == pytest.approx(
        [share.share for share in found.shares], abs=0.01
    )
