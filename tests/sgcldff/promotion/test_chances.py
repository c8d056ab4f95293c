"""What the rules of promotion let pass, by simulation: few patients, rare classes, many small losses."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import EvalSpec, PromotionSpec
from sgcldff.evaluation.predictions import PIXEL_COUNTS, Predictions, schema
from sgcldff.promotion import Attribution, Basis, Decision, Finding, Outcome, compare_models
from sgcldff.promotion.decision_record import best_champion
from sgcldff.promotion.rules import mean_score

SPEC = EvalSpec(resamples=500)
RULES = PromotionSpec(evaluation=SPEC)


def answers(true, told, groups, overlap=None):
    """Make the table of a model's predictions: overlaps are out of 1,000 pixels."""
    rows = len(true)
    table = {name: [f"{name}{i:05}" for i in range(rows)] for name in ("id", "sha256", "mask_sha256")}
    table |= {"source": ["s"] * rows, "group": [f"g{one}" for one in groups], "found": [True] * rows}
    table |= {"label": [FIVE_TYPES[k] for k in true], "told": [FIVE_TYPES[k] for k in told], "confidence": [0.9] * rows}
    table |= {start + name: [None] * rows for start, names in PIXEL_COUNTS.items() for name in names}
    if overlap is not None:
        table |= {"cell_intersection": overlap.round().astype(int), "cell_union": [1000] * rows, "label": [None] * rows}
    table |= {name: [None] * rows for name in ("cam_on_cell", "occlusion", "typicality")}
    table |= {f"probability_{name}": [0.2] * rows for name in FIVE_TYPES}
    return Predictions(FIVE_TYPES, "m", pa.table(table, schema=schema(FIVE_TYPES, "m")))


def outlined(overlap, groups):
    nothing = np.zeros(len(overlap), int)
    return answers(nothing, nothing, groups, overlap)


@pytest.mark.parametrize(("groups", "most"), [(3, 0), (5, 0.05), (12, 0.05)])
def test_a_model_worse_by_the_whole_margin_seldom_passes_on_few_patients(groups, most):
    rng, passed = np.random.default_rng(1), []
    owners = np.repeat(range(groups), 8)
    for _ in range(200):
        base = 850 + rng.normal(0, 30, 8 * groups)
        worse = base - 10 + np.repeat(rng.normal(0, 10, groups), 8) + rng.normal(0, 5, 8 * groups)
        finding = mean_score(outlined(base, owners), outlined(worse, owners), "score", 0.01, SPEC)
        passed.append(finding.passed)
    assert np.mean(passed) <= most
    assert ("test on at least 5 patients" in finding.text) == (groups < 5)


@pytest.mark.slow
def test_the_chance_of_an_equal_model_is_how_often_one_passes():
    rng, owners = np.random.default_rng(0), np.arange(60)
    passed, stated = [], []
    for _ in range(200):
        base = 850 + rng.normal(0, 30, 60)
        finding = mean_score(
            outlined(base, owners), outlined(base + rng.normal(0, 35, 60), owners), "score", 0.01, SPEC
        )
        passed.append(finding.passed)
        stated.append(finding.chance)
    assert np.mean(stated) == pytest.approx(np.mean(passed), abs=0.08)
    assert 0.4 < np.mean(stated) < 0.8
    assert "an equal model passes" in finding.text


@pytest.mark.slow
def test_a_loss_of_a_rare_class_asks_for_a_person():
    rng, asked = np.random.default_rng(0), []
    for _ in range(20):
        true = rng.choice(5, 300, p=[0.58, 0.03, 0.02, 0.3, 0.07])
        told = np.where((true == 2) & (rng.random(300) < 0.2), 0, true)
        verdict = compare_models(answers(true, true, range(300)), answers(true, told, range(300)), RULES)
        asked.append(f"recall of {FIVE_TYPES[2]}" in verdict.rare)
        assert f"recall of {FIVE_TYPES[0]}" not in verdict.rare
    assert all(asked)


def judged(old, new, scores, outcome=Outcome.PROMOTED, test_set="t"):
    """Record the comparison of two versions."""
    finding = Finding("score", True, "", *scores, limit=-0.01)
    evidence = Basis(test_set, 1, 1, "", {}, "", "")
    champion = ModelRef("m", str(old), str(old)) if old else None
    signed = Attribution("a", f"2026-01-{new:02}T00:00:00+00:00")
    return Decision(outcome, signed, ModelRef("m", str(new), str(new)), champion, evidence, (finding,) if old else ())


def test_many_small_losses_are_held_against_the_best_champion():
    """Twenty retrainings, each half a margin worse than the one before."""
    rng, owners = np.random.default_rng(0), np.arange(100)
    base, records = 900 + rng.normal(0, 20, 100), [judged(None, 1, ())]
    champion, models = 1, {1: outlined(base, owners)}
    for version in range(2, 22):
        models[version] = outlined(base - 5 * (version - 1) + rng.normal(0, 5, 100), owners)
        opponent = best_champion(records, ModelRef("m", str(champion), str(champion)), "t")
        opponents = {champion} | ({int(opponent.version)} if opponent else set())
        findings = [mean_score(models[one], models[version], "score", 0.01, SPEC) for one in opponents]
        held = mean_score(models[champion], models[version], "score", 0.01, SPEC)
        outcome = Outcome.PROMOTED if all(one.passed for one in findings) else Outcome.REFUSED
        records.append(judged(champion, version, (held.champion, held.challenger), outcome))
        champion = version if outcome is Outcome.PROMOTED else champion
    lost = mean_score(models[1], models[champion], "score", 1, SPEC)
    assert champion > 1
    assert lost.figure >= -0.01


def test_the_best_champion_is_of_the_same_test_set_and_was_not_withdrawn():
    records = [judged(None, 1, ()), judged(1, 2, (0.9, 0.8)), judged(2, 3, (0.8, 0.7))]
    third = ModelRef("m", "3", "3")
    assert best_champion(records, third, "t").version == "1"
    assert best_champion(records, third, "other") is None
    withdrawn = replace(judged(3, 1, (), Outcome.WITHDRAWN), signed=Attribution("a", "2026-02-01T00:00:00+00:00"))
    assert best_champion([*records, replace(withdrawn, findings=())], third, "t").version == "2"
    assert best_champion(records[:2], ModelRef("m", "1", "1"), "t") is None, "the champion is the best"


def test_the_record_says_how_much_the_verdict_is_worth():
    rare = Finding("recall of basophil", True, "within", rare=True, chance=0.28)
    record = replace(judged(1, 2, (0.9, 0.9)), findings=(rare,))
    text = Decision.from_json(record.to_json()).to_markdown()
    assert "a model as good as the champion passes at most 28% of the time" in text
    assert "too few cases to judge without a person: recall of basophil" in text
