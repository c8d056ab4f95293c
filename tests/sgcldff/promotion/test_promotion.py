"""The rules of promotion, each against an oracle or a property that a person relies on."""

import json
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from sgcldff.core.errors import PromotionRefusedError, StoreError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import EvalSpec, ModelSpec, PriorSpec, PromotionSpec
from sgcldff.evaluation.predictions import PIXEL_COUNTS, Predictions, schema
from sgcldff.models.model import Model
from sgcldff.models.nets.base import Prediction
from sgcldff.promotion import Attribution, Basis, Decision, Finding, Outcome, Verdict, compare_models
from sgcldff.promotion.cost import Cost, LiveTensors, cost_findings, costs, shortest_times
from sgcldff.promotion.decision_record import finding_cells, require_approvable, require_not_held
from sgcldff.promotion.rules import mean_score

QUICK = EvalSpec(resamples=100)
RULES = PromotionSpec(evaluation=QUICK)


def answers(true: np.ndarray, told: np.ndarray, confidence: np.ndarray, groups: int) -> Predictions:
    """Make the table of what a model said of images in so many groups."""
    rows = len(true)
    table = {name: [f"{name}{i:05}" for i in range(rows)] for name in ("id", "sha256", "mask_sha256")}
    table |= {"source": ["s"] * rows, "group": [f"g{i % groups}" for i in range(rows)], "found": [True] * rows}
    table |= {"label": [FIVE_TYPES[k] for k in true], "told": [FIVE_TYPES[k] for k in told], "confidence": confidence}
    table |= {start + name: [90] * rows for start, names in PIXEL_COUNTS.items() for name in names}
    table |= {name: [None] * rows for name in ("cam_on_cell", "occlusion", "typicality")}
    table |= {f"probability_{name}": [0.2] * rows for name in FIVE_TYPES}
    return Predictions(FIVE_TYPES, "m", pa.table(table, schema=schema(FIVE_TYPES, "m")))


def model_answers(seed: int, skill: float, rows: int = 300, groups: int = 60) -> Predictions:
    """Answer the same images, right with a chance of `skill`."""
    rng, true = np.random.default_rng(seed), np.random.default_rng(0).integers(0, 5, rows)
    told = np.where(rng.random(rows) < skill, true, rng.integers(0, 5, rows))
    return answers(true, told, rng.uniform(0.5, 1, rows), groups)


def draws(groups: int, rows: int, spec: EvalSpec) -> list[np.ndarray]:
    """Repeat the images of drawn groups, as one writes it down: the order of names is that of `np.unique`."""
    names = sorted(f"s/g{i}" for i in range(groups))
    chances = np.full(groups, 1 / groups)
    drawn = np.random.default_rng(spec.seed).multinomial(groups, chances, size=spec.resamples)
    members = [[i for i in range(rows) if f"s/g{i % groups}" == name] for name in names]
    return [
        np.concatenate([np.repeat(one, times) for one, times in zip(members, draw, strict=True)]).astype(int)
        for draw in drawn
    ]


@pytest.mark.slow
@given(st.integers(0, 2**16))
@settings(max_examples=3, deadline=None)
def test_recalls_and_their_intervals_are_those_of_sklearn_on_drawn_groups(seed: int) -> None:
    sides = [model_answers(seed + k, skill, 600, 100) for k, skill in enumerate((0.8, 0.7))]
    found = {item.rule: item for item in compare_models(*sides, RULES).findings}
    true, tolds = np.array(sides[0].column("label")), [np.array(side.column("told")) for side in sides]

    def recalls(places: np.ndarray) -> np.ndarray:
        before, after = (
            oracle.recall_score(true[places], told[places], labels=sorted(FIVE_TYPES), average=None) for told in tolds
        )
        return np.asarray(after - before)

    whole = recalls(np.arange(len(true)))
    spread = np.quantile([recalls(places) for places in draws(100, len(true), QUICK)], (0.025, 0.975), axis=0)
    for k, label in enumerate(sorted(FIVE_TYPES)):
        item = found[f"recall of {label}"]
        assert (item.figure, item.low, item.high) == pytest.approx((whole[k], *spread[:, k]))
        assert item.passed == (spread[0, k] >= -RULES.class_margin)


@given(st.integers(0, 2**16), st.floats(0, 0.3))
@settings(max_examples=10, deadline=None)
def test_a_wider_margin_never_refuses_what_a_narrower_one_lets_pass(seed: int, margin: float) -> None:
    sides = [model_answers(seed + k, 0.75, 120, 40) for k in range(2)]
    narrow, wide = (
        PromotionSpec(margin=m, class_margin=m, calibration_margin=m, evaluation=QUICK) for m in (margin, margin + 0.1)
    )
    for tight, loose in zip(
        compare_models(*sides, narrow).findings, compare_models(*sides, wide).findings, strict=True
    ):
        assert loose.passed or not tight.passed


def monocytes_missed(missed: int, cells: int, groups: int) -> Predictions:
    """Tell everything right but some monocytes, every one of which is in a group of its own."""
    true = np.array([2] * cells + [0] * (groups - cells))
    told = true.copy()
    told[:missed] = 0
    return answers(true, told, np.full(groups, 0.9), groups)


def test_a_class_of_few_groups_is_judged_without_an_interval_and_said_so() -> None:
    def judged(cells: int) -> Finding:
        sides = monocytes_missed(0, cells, 100), monocytes_missed(2, cells, 100)
        (item,) = [item for item in compare_models(*sides, RULES).findings if item.rule.endswith(FIVE_TYPES[2])]
        return item

    few, many = judged(29), judged(30)
    assert few.passed
    assert "judged without an interval in 29 groups (fewer than 30)" in few.text
    assert not many.passed, "2 of 30 lost: at the lower end more than a tenth"
    assert "lower end in 30 groups below the limit" in many.text


def test_a_class_of_few_groups_can_still_refuse() -> None:
    sides = monocytes_missed(0, 5, 100), monocytes_missed(1, 5, 100)
    assert any(f"recall of {FIVE_TYPES[2]}" in reason for reason in compare_models(*sides, RULES).reasons)


def test_calibration_is_held_against_what_the_challenger_is_sure_of() -> None:
    rng = np.random.default_rng(3)
    true = rng.integers(0, 5, 400)
    told = np.where(rng.random(400) < 0.8, true, (true + 1) % 5)
    modest, sure = (answers(true, told, np.full(400, confidence), 80) for confidence in (0.8, 0.99))

    def judged(champion: Predictions, challenger: Predictions) -> Finding:
        return next(item for item in compare_models(champion, challenger, RULES).findings if item.rule == "calibration")

    worse, better, same = judged(modest, sure), judged(sure, modest), judged(sure, sure)
    accuracy = float((told == true).mean())
    assert worse.challenger == pytest.approx(abs(0.99 - accuracy))
    assert worse.champion == pytest.approx(abs(0.8 - accuracy))
    assert (worse.passed, better.passed, same.passed) == (False, True, True)
    assert "calibration error" in worse.text


def test_images_without_labels_are_judged_by_outlines_alone() -> None:
    side = model_answers(1, 0.9)
    column = side.table.column_names.index("label")
    unlabelled = replace(side, table=side.table.set_column(column, "label", pa.nulls(300, pa.string())))
    verdict = compare_models(unlabelled, unlabelled, RULES)
    assert [item.rule for item in verdict.findings] == ["score"]
    assert verdict.promote


def test_no_findings_promote_nothing() -> None:
    assert not Verdict(()).promote


def test_the_mean_score_under_changes_has_a_limit_of_its_own() -> None:
    better, worse = model_answers(1, 0.95), model_answers(2, 0.8)
    strict = mean_score(better, worse, "score under blur", 0.03, QUICK)
    assert not strict.passed
    assert strict.rule == "score under blur"
    assert "below the limit of -0.0300" in strict.text
    assert mean_score(better, worse, "score under blur", 0.5, QUICK).passed


class Wide(nn.Module):
    """One convolution of so many channels, and answers of the right shapes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, width, 3, padding=1)

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        features = self.features(image)
        pooled = features.mean(dim=(2, 3))
        return Prediction(features[:, :3], pooled[:, :5], avg_pool2d(features[:, :1].sigmoid(), 4), pooled)


def network(width: int, mpp: float = 0.2) -> Model:
    spec = ModelSpec(prior=PriorSpec(names=("frequency_tuned",)), mpp=mpp)
    return Model(spec, Wide(width).eval(), torch.device("cpu"))


def test_memory_is_that_of_the_tensors_that_live() -> None:
    with torch.inference_mode(), LiveTensors() as live:
        first = torch.zeros(1000)
        second = first + 1
        view = second.view(10, 100)
        second += 1
        del first, second
        assert live.now == 4000
        view = view.relu()
        assert (live.now, live.peak) == (4000, 8000)
        del view
        assert live.now == 0
    assert live.peak == 8000


def test_a_wider_network_needs_more_memory_and_the_same_one_as_much() -> None:
    small, large = network(8), network(64)
    one, other = costs(small, large, 1)
    pixels = 4 * 256 * 256
    assert one.parameters == 8 * (27 + 1)
    assert other.memory - one.memory >= 4 * (64 - 8) * pixels, "all channels of all pixels are float32"
    assert one.memory >= 4 * (one.parameters + (8 + 3) * pixels)
    assert costs(small, small, 1)[1].memory == one.memory
    assert costs(network(8, 0.1), small, 1)[0].memory > 3 * one.memory, "the area is the same, not the pixels"


@given(st.lists(st.floats(0, 5), min_size=14, max_size=14))
def test_other_work_on_the_machine_only_delays_and_the_shortest_time_stays(noise: list[float]) -> None:
    """A clock that jumps by what else runs: as soon as one turn is undisturbed, the time is the true one."""
    now, true, calls = [0.0], (1.0, 2.0), iter([*noise[:6], 0.0, 0.0, *noise[8:]])

    def run(takes: float) -> Callable[[], None]:
        def advance() -> None:
            now[0] += takes + next(calls)

        return advance

    assert shortest_times([run(takes) for takes in true], 7, lambda: now[0]) == pytest.approx(true)


def test_costs_are_limited_as_multiples_of_the_champions() -> None:
    base = Cost(0.2, 100 * 2**20, 5_000_000)
    rules = PromotionSpec(max_time_ratio=1.5, max_memory_ratio=2)
    for seconds, memory, kept in ((0.3, 200, (True, True)), (0.31, 100, (False, True)), (0.1, 201, (True, False))):
        found = cost_findings(base, Cost(seconds, memory * 2**20, 5_000_000), rules)
        assert tuple(item.passed for item in found) == kept
    assert (
        "0.310 s, champion 0.200 s: 1.55 times, above the limit of 1.50"
        in cost_findings(base, Cost(0.31, 1, 1), rules)[0].text
    )


BASIS = Basis("testset", 9, 8, "catalog", {"margin": 0.01, "robustness": ["blur"]}, "0.1.0", "code")
PASSED = (Finding("score", True, "as good", 0.9, 0.91, 0.01, -0.005, 0.02, -0.01),)
WAITING = Decision(
    Outcome.WAITING,
    Attribution("ada", "2026-11-24T06:00:00.000000+00:00", "lab"),
    ModelRef("sgcldff", "2", "weights2"),
    ModelRef("sgcldff", "1", "weights1"),
    BASIS,
    PASSED,
)


def test_a_record_comes_back_from_json_and_says_everything() -> None:
    for decision in (WAITING, WAITING.rejected(WAITING.signed, "stains look odd"), replace(WAITING, champion=None)):
        assert Decision.from_json(decision.to_json()) == decision
    told = json.loads(WAITING.to_json())
    assert told["reasons"] == ["as good"]
    assert told["rules_digest"] == BASIS.rules_digest
    text = WAITING.to_markdown()
    for part in ("ada on lab", "2026-11-24T06", "testset", "weights1", "catalog", "-0.0050 to +0.0200", "Waiting for"):
        assert part in text, part
    for damaged in ("", "[]", "{}", '{"outcome": "maybe"}'):
        with pytest.raises(StoreError, match="not a decision record"):
            Decision.from_json(damaged)


def test_figures_of_a_table_are_short_whatever_their_unit() -> None:
    assert finding_cells(PASSED[0]) == ("score", "yes", "0.9000", "0.9100", "0.0100", "-0.0050 to +0.0200", "-0.01")
    assert finding_cells(Finding("memory", False, "", 2.0**27, 2.0**28, 2.0, limit=1.5))[1:5] == (
        "no", "134217728", "268435456", "2.0000",
    )  # fmt: skip


def test_what_a_person_writes_cannot_break_the_page() -> None:
    text = WAITING.rejected(Attribution("<b>|x", "now"), "a|b\n<script>").to_markdown()
    assert "<script>" not in text
    assert "<b>" not in text
    assert "a\\|b &lt;script>" in text


def test_a_name_of_its_own_or_the_accounts_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "service")
    assert Attribution.now().by == "service"
    assert Attribution.now("ada").by == "ada"
    assert Attribution.now().at.endswith("+00:00")


def test_an_account_without_a_name_signs_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 123456)
    assert Attribution.now().by == "uid 123456"


def test_approval_holds_only_while_nothing_has_changed() -> None:
    assert require_approvable(WAITING, "weights2", "1", "testset") == WAITING
    for state, words in {
        ("others", "1", "testset"): "the weights have changed",
        ("weights2", "3", "testset"): "the champion is now version 3, not 1",
        ("weights2", None, "testset"): "champion is now version None",
        ("weights2", "1", "refrozen"): "another test set",
    }.items():
        with pytest.raises(PromotionRefusedError, match=words):
            require_approvable(WAITING, *state)


def test_only_what_waits_can_be_approved() -> None:
    others = [replace(WAITING, outcome=outcome) for outcome in Outcome if outcome is not Outcome.WAITING]
    for decision in (None, *others):
        with pytest.raises(PromotionRefusedError, match="only a version that waits for approval"):
            require_approvable(decision, "weights2", "1", "testset")


def test_a_persons_no_holds_until_a_person_says_yes() -> None:
    for decision in (None, WAITING, WAITING.approved(WAITING.signed)):
        require_not_held(decision)
    rejected = WAITING.rejected(WAITING.signed, "stains look odd")
    with pytest.raises(PromotionRefusedError, match=r"rejected by ada at 2026.*stains look odd.*--overrule"):
        require_not_held(rejected)
    with pytest.raises(PromotionRefusedError, match="withdrawn by ada"):
        require_not_held(WAITING.withdrawn(WAITING.signed, "put back", ModelRef("sgcldff", "1", "weights1")))
