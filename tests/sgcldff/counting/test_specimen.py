"""Absolute counts, the white count without nucleated red cells, and reference intervals."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.labels import FIVE_TYPES, WBC11
from sgcldff.core.proportions import Range
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.counting.confusion import Confusion
from sgcldff.counting.differential import Differential, from_counts
from sgcldff.counting.reference_intervals import Position, Unit, intervals_for, read_reference
from sgcldff.counting.specimen import Specimen
from sgcldff.slides.patient import Patient, Sex

USUAL = {"neutrophil": 600, "lymphocyte": 300, "monocyte": 70, "eosinophil": 25, "basophil": 5}
ADULTS = """
[[interval]]
type = "neutrophils"
unit = "%"
low = 40
high = 75

[[interval]]
type = "lymphocyte"
unit = "10^9/L"
low = 1.0
high = 4.0
age = [18, 130]

[[interval]]
type = "lymphocyte"
unit = "10^9/L"
low = 2
high = 9.5
age = [0.25, 18]

[[interval]]
type = "wbc"
unit = "10^9/L"
low = 4
high = 11
sex = "female"
"""


@pytest.fixture
def rows(tmp_path):
    """Read a laboratory's file."""
    (tmp_path / "lab.toml").write_text(ADULTS)
    return read_reference(tmp_path / "lab.toml")


def found(counts, classes=FIVE_TYPES, **specimen):
    return replace(from_counts(counts, classes), specimen=Specimen(**specimen))


@given(st.integers(1, 400), st.integers(0, 400), st.integers(0, 400), st.floats(0.01, 1000))
def test_absolute_counts_are_those_of_the_corrected_white_count(bands, segmented, red, wbc):
    counts = {"band neutrophil": bands, "segmented neutrophil": segmented, "erythroblast": red}
    figures = found(counts, WBC11.classes, wbc=wbc).laboratory
    white, by_type = figures.white_count, {one.label: one for one in figures.absolute}
    assert white.corrected.value == pytest.approx(wbc * 100 / (100 + white.per_100))
    assert by_type["neutrophil"].value == pytest.approx(white.corrected.value)
    assert by_type["band neutrophil"].value == pytest.approx(white.corrected.value * bands / (bands + segmented))
    exact = binomtest(bands, bands + segmented + red).proportion_ci(0.95)
    ends = (by_type["band neutrophil"].low, by_type["band neutrophil"].high)
    assert ends == pytest.approx((wbc * exact.low, wbc * exact.high), abs=1e-9)


def test_without_nucleated_red_cells_among_the_classes_nothing_is_corrected():
    figures = found(USUAL, wbc=8.0).laboratory
    assert (figures.white_count.per_100, figures.white_count.corrected) == (None, None)
    assert sum(one.value for one in figures.absolute) == pytest.approx(8.0)
    assert found({}, wbc=8.0).laboratory.absolute == ()
    assert found(USUAL).laboratory.white_count is None


def test_a_count_that_leaves_nucleated_red_cells_out_is_not_corrected_again():
    counts = {"segmented neutrophil": 75, "lymphocyte": 25, "erythroblast": 50}
    figures = found(counts, WBC11.classes, wbc=6.0, nrbc_excluded=True).laboratory
    white, by_type = figures.white_count, {one.label: one for one in figures.absolute}
    assert (white.per_100, white.corrected, white.nrbc_excluded) == (50.0, Range(6.0, 6.0, 6.0), True)
    assert by_type["segmented neutrophil"].value == pytest.approx(4.5)
    exact = binomtest(75, 100).proportion_ci(0.95)
    assert by_type["segmented neutrophil"].low == pytest.approx(6 * exact.low)
    assert found(counts, WBC11.classes, wbc=6.0).laboratory.white_count.corrected.value == pytest.approx(4.0)
    assert found(USUAL, wbc=6.0, nrbc_excluded=True).laboratory.white_count.per_100 is None


def test_adjusted_shares_and_unidentified_cells_widen_absolute_counts():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, 400)
    predicted = np.where(rng.random(400) < 0.9, true, (true + 1) % 5)
    confusion = Confusion(FIVE_TYPES, tuple(true.tolist()), tuple(predicted.tolist()), (1.0,) * 400)
    plain = from_counts(USUAL | {UNIDENTIFIED: 100}, FIVE_TYPES).adjusted_for(confusion)
    one = replace(plain, specimen=Specimen(5.0)).laboratory.absolute[0]
    share = plain["neutrophil"]
    assert (one.lowest, one.highest) == pytest.approx((5 * share.lowest, 5 * share.highest))
    assert one.adjusted == Range(*(5 * end for end in (share.adjusted.share, share.adjusted.low, share.adjusted.high)))


@given(st.lists(st.floats(0, 100), min_size=4, max_size=4, unique=True))
def test_only_what_lies_wholly_on_one_side_of_a_limit_is_judged(ends):
    low, high, *limits = (*sorted(ends[:2]), *sorted(ends[2:]))
    values = np.linspace(low, high, 50)
    sides = {Position.BELOW: values < limits[0], Position.ABOVE: values > limits[1]}
    sides[Position.WITHIN] = ~sides[Position.BELOW] & ~sides[Position.ABOVE]
    position = Position.of(low, high, tuple(limits))
    if position is Position.CANNOT_TELL:
        assert not any(side.all() for side in sides.values())
    else:
        assert sides[position].all()


def test_a_mark_follows_count_white_count_age_and_sex(rows):
    def reads(counts, patient, wbc=7.0):
        specimen = {"wbc": wbc, "intervals": intervals_for(patient, rows)}
        return {mark.label: mark.reads for mark in found(counts, **specimen).laboratory.marks}

    woman, girl = Patient(age=40, sex=Sex.FEMALE), Patient(age=3, sex=Sex.FEMALE)
    assert reads(USUAL, woman) == dict.fromkeys(("neutrophil", "lymphocyte", "white cells"), "within")
    low = {"neutrophil": 980, "lymphocyte": 20}
    assert reads(low, woman) == {"neutrophil": "above", "lymphocyte": "below", "white cells": "within"}
    assert reads({"neutrophil": 80, "lymphocyte": 20}, girl)["neutrophil"] == "cannot tell"
    many = {"neutrophil": 300, "lymphocyte": 700}
    assert (reads(many, woman)["lymphocyte"], reads(many, girl)["lymphocyte"]) == ("above", "within")
    unknown = reads(USUAL, Patient())
    assert unknown["lymphocyte"] == "cannot tell: age of the patient not given"
    assert unknown["white cells"] == "cannot tell: sex of the patient not given"
    assert reads(USUAL, Patient(age=0.1))["lymphocyte"] == "cannot tell: none for this age and sex"
    assert reads(USUAL, woman, wbc=None)["lymphocyte"] == "cannot tell: no white count was given"


def test_unidentified_cells_keep_a_mark_from_being_sure(rows):
    intervals = intervals_for(Patient(), rows)[:1]
    (sure,) = found({"neutrophil": 800, "lymphocyte": 200}, intervals=intervals).laboratory.marks
    (unsure,) = found({"neutrophil": 800, "lymphocyte": 200, UNIDENTIFIED: 300}, intervals=intervals).laboratory.marks
    assert (sure.outside, unsure.outside, unsure.reads) == (True, False, "cannot tell")


def test_the_json_holds_them_and_is_read_back(rows):
    ours = found(USUAL | {"neutrophil": 9000}, wbc=8.0, intervals=intervals_for(Patient(age=40), rows))
    told = json.loads(json.dumps(ours.to_dict()))
    assert Differential.from_dict(told) == ours
    assert [mark["reads"] for mark in told["reference"]][:1] == ["above"]
    assert told["white_count"]["given"] == 8.0
    assert len(told["absolute"]) == 5
    assert "imprecision" in told["white_count"]["not_covered"]
    assert not {"white_count", "absolute"} & from_counts(USUAL, FIVE_TYPES).to_dict().keys()


ROW = '[[interval]]\ntype = "{type}"\nunit = "{unit}"\nlow = {low}\nhigh = {high}\n{more}\n'
DEFAULT = {"type": "monocyte", "unit": "%", "low": 2, "high": 10, "more": ""}


def text(*changes):
    return "".join(ROW.format(**(DEFAULT | change)) for change in changes)


WRONG = {
    "no TOML": ("[[interval", r"lab\.toml: not a file of reference intervals"),
    "empty": ("", "holds no interval: write"),
    "key": (text({}) + "[other]\n", "unknown other"),
    "field": (text({"more": "median = 5"}), "interval 1: median is 5"),
    "type": (text({}, {"type": "martian"}), "interval 2: type 'martian' is unknown: name one of"),
    "unit": (text({"unit": "/µL"}), "interval 1: unit is '/µL'"),
    "order": (text({"low": 10, "high": 2}), "low 10 is not below high 2"),
    "percent": (text({"high": 101}), "high is 101 %: give at most 100"),
    "not a number": (text({"low": "nan"}), "low is nan"),
    "share of white cells": (text({"type": "wbc"}), "white cells are no share"),
    "age": (text({"more": "age = [65, 18]"}), r"age is \[65\.0, 18\.0\]: give two ages in order"),
    "sex": (text({"more": 'sex = "any"'}), "sex is 'any'"),
    "twice": (text({}, {"low": 1}), r"intervals 1 and 2: both hold .*monocyte, %, 2 to 10 and 1 to 10"),
    "general and special": (text({}, {"more": 'sex = "male"'}), "intervals 1 and 2: both hold"),
    "ages": (text({"more": "age = [0, 18]"}, {"more": "age = [17, 60]"}), "intervals 1 and 2: both hold"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_cannot_be_used_is_refused_with_its_row(tmp_path, what):
    content, told = WRONG[what]
    (tmp_path / "lab.toml").write_text(content)
    with pytest.raises(InputError, match=told) as caught:
        read_reference(tmp_path / "lab.toml")
    assert "lab.toml" in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(MissingInputError, match="no such file"):
        read_reference(tmp_path / "none.toml")


@given(
    st.lists(st.floats(0.01, 129), min_size=1, max_size=4, unique=True).map(sorted),
    st.floats(0, 129.9),
    st.sampled_from(Sex),
)
def test_whatever_the_bands_one_row_holds_for_each_patient(bands, age, sex):
    from sgcldff.counting.reference_intervals import ReferenceRow

    ages = list(pairwise([0.0, *bands, 130.0]))
    made = [
        ReferenceRow("monocyte", Unit.PERCENT, at, at + 1, span, one) for at, span in enumerate(ages) for one in Sex
    ]
    (chosen,) = intervals_for(Patient(age=age, sex=sex), made)
    expected = next(at for at, (first, last) in enumerate(ages) if first <= age < last)
    assert chosen.limits == (expected, expected + 1)
