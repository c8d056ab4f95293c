import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from sgcldff.core.errors import InputError, LabelError
from sgcldff.core.labels import WBC6
from sgcldff.counting.differential import Differential, from_counts
from sgcldff.counting.stopping import Goal

PAIR = ("blast", "other")
FIRST, STEP = 100, 20


def counted(blasts, total):
    return from_counts({"blast": blasts, "other": total - blasts}, PAIR)


def test_a_goal_is_read_from_what_is_typed():
    assert Goal.parse("blast:0.02").widths == {"blast": 0.02}
    assert Goal.parse(" Lymphoblasts : 0.02 , EOSI:.05", WBC6.classes).widths == {"blast": 0.02, "eosinophil": 0.05}


@pytest.mark.parametrize("text", ["", "blast", "blast:", ":0.02", "blast:wide", "blast:0.02,", "blast:0.02:1"])
def test_other_forms_are_refused_with_an_example(text):
    with pytest.raises(InputError, match=r"write monocyte:0\.05"):
        Goal.parse(text)


@pytest.mark.parametrize("text", ["blast:0", "blast:-0.1", "blast:2", "blast:0.009", "blast:nan"])
def test_widths_out_of_range_are_refused(text):
    with pytest.raises(InputError, match=r"give a width of 0\.01 to 0\.3"):
        Goal.parse(text)


def test_unknown_and_repeated_types_are_refused():
    with pytest.raises(LabelError, match=r"goal for martian.*the classes are neutrophil"):
        Goal.parse("martian:0.02", WBC6.classes)
    with pytest.raises(LabelError, match="no type 'martian'"):
        Goal.parse("martian:0.02").reached(counted(1, 200))
    with pytest.raises(InputError, match="names a type twice"):
        Goal.parse("blast:0.02,lymphoblast:0.05")


@given(st.integers(0, 99), st.data())
def test_counting_never_stops_before_100_cells(total, data):
    assert not Goal.parse("blast:0.3").reached(counted(data.draw(st.integers(0, total)), total))


def test_counting_stops_when_the_interval_of_96_5_percent_is_narrow_enough():
    for total in range(185, 230):
        width = beta.ppf(0.9825, 1, total)
        assert Goal.parse("blast:0.02").reached(counted(0, total)) == (width <= 0.02)


def test_of_several_goals_all_have_to_be_reached():
    found = from_counts({"blast": 2, "monocyte": 30, "neutrophil": 368}, WBC6.classes)
    assert Goal.parse("blast:0.02").reached(found)
    assert not Goal.parse("blast:0.02,monocyte:0.05").reached(found)
    assert Goal.parse("blast:0.02,monocyte:0.07").reached(found)


def test_intervals_are_widened_and_it_is_said_why():
    plain = counted(0, 250)
    settled = Goal.parse("blast:0.02").settled(plain)
    for wide, narrow in zip(settled.shares, plain.shares, strict=True):
        assert wide.low <= narrow.low <= narrow.share == wide.share <= narrow.high <= wide.high
    assert settled["blast"].high == pytest.approx(beta.ppf(0.9825, 1, 250))
    assert settled.flags[:-1] == plain.flags
    told = "counting stopped after 250 cells, when the interval of blast was at most 0.02 wide; "
    assert settled.flags[-1].startswith(told + "intervals are taken at 96.5 % to hold 95 % of the time")
    assert "did not reach" in Goal.parse("blast:0.01").settled(plain).flags[-1]
    assert Differential.from_dict(settled.to_dict()) == settled


def coverage(truth, reached, interval):
    """Compute exactly how often an interval holds the truth when counting stops as soon as `reached(k, n)`."""
    going, total, covered = binom.pmf(np.arange(FIRST + 1), FIRST, truth), FIRST, 0.0
    while going.sum() > 1e-6:
        for k in np.flatnonzero(going > 1e-9):
            if reached(int(k), total):
                low, high = interval(int(k), total)
                covered += going[k] * (low <= truth <= high)
                going[k] = 0
            going[k] = going[k] if going[k] > 1e-9 else 0
        going[going <= 1e-9] = 0
        going, total = np.convolve(going, binom.pmf(np.arange(STEP + 1), STEP, truth)), total + STEP
    return covered


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.03, 0.1275])
def test_intervals_hold_the_truth_as_often_as_promised_although_they_decide_when_to_stop(truth):
    goal = Goal.parse("blast:0.1")

    def interval(k, total):
        share = goal.settled(counted(k, total))["blast"]
        return share.low, share.high

    assert coverage(truth, lambda k, total: goal.reached(counted(k, total)), interval) >= 0.95


@pytest.mark.slow
def test_plain_intervals_would_not():
    def interval(k, total):
        share = counted(k, total)["blast"]
        return share.low, share.high

    def narrow(k, total):
        low, high = interval(k, total)
        return high - low <= 0.1

    assert coverage(0.1275, narrow, interval) < 0.947
