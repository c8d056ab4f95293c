"""The policy as a table."""

import re

import pytest

from sgcldff.core.errors import InputError
from sgcldff.core.settings import DriftSpec, RetrainPolicy
from sgcldff.evaluation.drift import DriftFigure, DriftReport
from sgcldff.promotion.retrain_policy import News, decide

POLICY = RetrainPolicy(new_cells=50, max_age_days=30)
CHAMPION = "models:/sgcldff/3"


def drift(value):
    return DriftReport(40, 40, (DriftFigure("stain", value, 0.05, 0.1),), {})


@pytest.mark.parametrize(
    ("news", "asked", "reason"),
    [
        (News(None), False, "no champion"),
        (News(CHAMPION, 10), False, None),
        (News(CHAMPION, 10), True, "requested by a person"),
        (News(CHAMPION, 10, 40, 49), False, None),
        (News(CHAMPION, 10, 40, 50), False, "50 new labelled cells"),
        (News(CHAMPION, 10, 40, 40, drift=drift(0.1)), False, None),
        (News(CHAMPION, 10, 40, 40, drift=drift(0.11)), False, r"drift of stain 0\.110"),
        (News(CHAMPION, 31), False, None),
        (News(CHAMPION, 31, 1, 0), False, "31 days old"),
        (News(CHAMPION, 29, 1, 0), False, None),
        (News(CHAMPION, 10, 1, 1, ("blast",)), False, "does not predict: blast"),
    ],
)
def test_the_policy(news, asked, reason):
    decision = decide(news, POLICY, force=asked)
    assert decision.retrain is (reason is not None)
    if reason:
        assert len(decision.reasons) == 1
        assert re.search(reason, decision.outcome)
        assert decision.to_markdown().startswith("# Retrain\n")
    else:
        assert decision.outcome.startswith("Nothing to do: ")
        assert f"{news.images} new images with {news.cells} labelled cells (limit 50)" in decision.outcome
        assert f"{CHAMPION} is {news.age_days} days old" in decision.outcome


def test_all_reasons_are_told_and_all_figures():
    decision = decide(News(CHAMPION, 40, 90, 60, ("blast",), drift(0.3)), POLICY, force=True)
    assert len(decision.reasons) == 5
    assert "stain 0.300 (limit 0.100)" in decision.to_markdown()
    assert "| stain | 0.300 | 0.050 | 0.100 | yes |" in decision.to_markdown()


def test_what_could_not_be_measured_is_told():
    assert "the champion has no reference" in decide(News(CHAMPION, 1, 5, 5), POLICY).outcome
    assert "too few new images" in decide(News(CHAMPION, 1, 5, 5, drift=DriftReport(5, 5, (), {})), POLICY).outcome


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        (RetrainPolicy, {"new_cells": 0}),
        (RetrainPolicy, {"max_age_days": -1}),
        (DriftSpec, {"stain": 1.5}),
        (DriftSpec, {"chance": 1}),
        (DriftSpec, {"resamples": 3}),
        (DriftSpec, {"min_images": 1}),
    ],
)
def test_values_that_make_no_sense_are_named(spec, given):
    ((name, value),) = given.items()
    with pytest.raises(InputError, match=rf"{spec.__name__}\.{name} is {value}"):
        spec(**given)
