"""The benchmark's plan, comparisons, table and pictures, each against an oracle or a property that readers rely on."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter
from sklearn import metrics as oracle

from sgcldff.benchmark.common_start import common_start
from sgcldff.benchmark.markdown_page import markdown_page
from sgcldff.benchmark.plots import draw_plots, reliability_curve
from sgcldff.benchmark.protocols import (
    CORRUPTIONS,
    REFERENCE,
    Protocol,
)
from sgcldff.benchmark.robustness import SHARE, RobustnessComparison
from sgcldff.benchmark.scoring import (
    BOTH_PROTOCOLS,
    OVERALL,
    SCORE,
    TYPE_SCORE,
    Comparison,
    pooled_entries,
    scores_of_seed,
)
from sgcldff.benchmark.speed import ModelSize, rates, size_of
from sgcldff.benchmark.table import BenchmarkTable, TrainingEntry, image_counts
from sgcldff.core.errors import InputError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import Split
from sgcldff.core.settings import EvalSpec, ModelSpec, NetSpec, Pretrained
from sgcldff.evaluation.predictions import PIXEL_COUNTS, Predictions, schema
from sgcldff.models.model import Model, pick_device
from sgcldff.models.nets import build
from tests.sgcldff.benchmark.samples import sample
from tests.small import SMALL

QUICK = EvalSpec(resamples=100)
# So many groups that percentiles are taken as they are, and averages over all five types.
ROWS, GROUPS = {"a": 240, "b": 200}, {"a": 60, "b": 50}


def said(source: str, seed: int, skill: float) -> Predictions:
    """Answer the same images of a data set, right with a chance of `skill`."""
    rows, rng, true = ROWS[source], np.random.default_rng(seed), np.random.default_rng(0).integers(0, 5, ROWS[source])
    told = np.where(rng.random(rows) < skill, true, rng.integers(0, 5, rows))
    table: dict[str, object] = {name: [f"{source}{name}{i:05}" for i in range(rows)] for name in ("id", "sha256")}
    table |= {"source": [source] * rows, "group": [f"g{i % GROUPS[source]:02}" for i in range(rows)]}
    table |= {"mask_sha256": ["m"] * rows, "found": [True] * rows, "confidence": rng.uniform(0.3, 1, rows)}
    table |= {"label": [FIVE_TYPES[k] for k in true], "told": [FIVE_TYPES[k] for k in told]}
    table |= {start + name: [100] * rows for start, names in PIXEL_COUNTS.items() for name in names}
    table |= {f"{part}_intersection": rng.integers(0, 100, rows) for part in ("cell", "nucleus")}
    explained = np.random.default_rng((seed, 1)).uniform(-1, 1, (2, rows))
    table |= {"cam_on_cell": explained[0], "occlusion": explained[1], "typicality": [None] * rows}
    table |= {f"probability_{name}": [0.2] * rows for name in FIVE_TYPES}
    layout = schema(FIVE_TYPES, str(seed))
    return Predictions(FIVE_TYPES, str(seed), pa.table({name: table[name] for name in layout.names}, schema=layout))


def run(seed: int, skill: float = 0.7) -> dict[str, Predictions]:
    return {source: said(source, seed + k, skill) for k, source in enumerate(ROWS)}


def runs(*first: int, seeds: int = 2) -> dict[str, dict[int, dict[str, Predictions]]]:
    """Let the reference and others answer with so many seeds."""
    names = (REFERENCE, "unet", "no-prior", "resnet50")
    return {
        name: {seed: run(start + 10 * seed, 0.8 - 0.1 * k) for seed in range(seeds)}
        for k, (name, start) in enumerate(zip(names, first, strict=False))
    }


def found(contest: Comparison, protocol: Protocol = Protocol.WITHIN):
    return {(one.candidate, *one.column): one for one in contest.entries(protocol)}


def drawn(seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Repeat the images of drawn groups of all data sets, as one writes it down."""
    names = sorted(f"{source}/g{k:02}" for source in ROWS for k in range(GROUPS[source]))
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), QUICK.resamples)
    often = [dict(zip(names, row, strict=True)) for row in times]
    return [
        {
            source: np.repeat(np.arange(rows), [own[f"{source}/g{i % GROUPS[source]:02}"] for i in range(rows)])
            for source, rows in ROWS.items()
        }
        for own in often
    ]


def by_hand(said: Predictions, rows: np.ndarray) -> tuple[float, float, float, float]:
    """Give the four goals of one data set by the definitions and by sklearn."""
    true, told = (np.array(said.column(name))[rows] for name in ("label", "told"))
    ious = [
        np.mean(said.numbers(f"{part}_intersection")[rows] / said.numbers(f"{part}_union")[rows])
        for part in ("cell", "nucleus")
    ]
    seen = sorted(set(true))
    return *ious, oracle.accuracy_score(true, told), oracle.f1_score(true, told, labels=seen, average="macro")


@pytest.mark.slow
@given(st.integers(0, 2**16))
@settings(max_examples=1, deadline=None)
def test_leads_and_their_intervals_are_those_of_sklearn_on_drawn_groups(seed):
    answers = runs(seed, seed + 100)
    entries = found(Comparison(answers, QUICK))

    def mean_score(name, places):
        return np.mean([np.mean([by_hand(one[s], places[s]) for s in ROWS]) for one in answers[name].values()])

    everything = {source: np.arange(rows) for source, rows in ROWS.items()}
    whole = [mean_score(name, everything) for name in ("unet", REFERENCE)]
    leads = [mean_score("unet", places) - mean_score(REFERENCE, places) for places in drawn()]
    entry = entries["unet", OVERALL, SCORE]
    assert entry.score.value == pytest.approx(whole[0])
    assert entry.lead.value == pytest.approx(whole[0] - whole[1])
    assert (entry.lead.low, entry.lead.high) == pytest.approx(np.quantile(leads, (0.025, 0.975)))
    accuracy = entries["unet", "b", "accuracy"]
    single = [by_hand(one["b"], everything["b"])[2] for one in answers["unet"].values()]
    assert (accuracy.least, accuracy.most, accuracy.seeds) == pytest.approx((min(single), max(single), 2))


@pytest.mark.slow
@given(st.integers(0, 2**16))
@settings(max_examples=1, deadline=None)
def test_both_protocols_together_count_a_data_set_left_out_as_one_more(seed):
    apart, tested = runs(seed, seed + 100), {"a": 120, "b": 100}
    within = {
        name: {k: {s: replace(one, table=one.table[: tested[s]]) for s, one in own.items()} for k, own in seeds.items()}
        for name, seeds in runs(seed + 7, seed + 99).items()
    }

    def mean_score(name, places):
        tests = {source: rows[rows < tested[source]] for source, rows in places.items()}
        inside = [np.mean([by_hand(one[s], tests[s]) for one in within[name].values()], axis=0) for s in ROWS]
        outside = np.mean([[by_hand(one[s], places[s]) for s in ROWS] for one in apart[name].values()], axis=(0, 1))
        return np.mean([*inside, outside])

    everything = {source: np.arange(rows) for source, rows in ROWS.items()}
    leads = [mean_score("unet", places) - mean_score(REFERENCE, places) for places in drawn()]
    (entry,) = (e for e in pooled_entries(within, apart, QUICK) if (e.candidate, e.figure) == ("unet", SCORE))
    assert (entry.protocol, entry.data) == (Protocol.LEFT_OUT, BOTH_PROTOCOLS)
    assert entry.score.value == pytest.approx(mean_score("unet", everything))
    assert entry.lead.value == pytest.approx(mean_score("unet", everything) - mean_score(REFERENCE, everything))
    assert (entry.lead.low, entry.lead.high) == pytest.approx(np.quantile(leads, (0.025, 0.975)))


def test_who_was_scored_under_one_protocol_alone_is_not_counted_under_both():
    within, apart = runs(1, 2, 3), runs(4, 5, 6)
    del within["unet"], apart["no-prior"][1]
    told = {(one.candidate, one.figure): one.seeds for one in pooled_entries(within, apart, QUICK)}
    seeds = {REFERENCE: 2, "no-prior": 1}
    assert told == {(name, figure): count for name, count in seeds.items() for figure in (SCORE, TYPE_SCORE)}


@given(st.integers(0, 2**16))
@settings(max_examples=5, deadline=None)
def test_a_contender_that_says_the_same_leads_by_exactly_nothing(seed):
    answers = runs(seed)
    entries = found(Comparison({**answers, "unet": answers[REFERENCE]}, QUICK))
    leads = [entry.lead for (name, *_), entry in entries.items() if name == "unet"]
    assert len(leads) > 20
    assert {(lead.value, lead.low, lead.high) for lead in leads} <= {(0, 0, 0), (0, None, None)}
    assert entries["unet", OVERALL, SCORE].lead.low == 0
    assert all(entry.verdict == 0 for entry in entries.values())


def test_a_lead_is_told_where_it_is_large_and_lower_is_better_for_calibration():
    good, bad = run(1, 0.6), run(2, 0.0)
    entries = found(Comparison({REFERENCE: {0: bad}, "unet": {0: good}}, QUICK))
    assert entries["unet", OVERALL, TYPE_SCORE].verdict == 1
    assert entries["unet", "a", "calibration_error"].lead.high < 0
    assert entries["unet", "a", "calibration_error"].verdict == 1
    swapped = found(Comparison({REFERENCE: {0: good}, "unet": {0: bad}}, QUICK))
    assert swapped["unet", "a", "calibration_error"].verdict == swapped["unet", OVERALL, TYPE_SCORE].verdict == -1


def test_who_learns_no_outlines_has_no_scores_of_them():
    entries = found(Comparison(runs(1, 2, 3, 4), QUICK, frozenset({"resnet50"})))
    own = {place for name, *place in map(tuple, entries) if name == "resnet50" for place in [tuple(place)]}
    assert {figure for _, figure in own} == {
        "accuracy", "balanced_accuracy", "macro_f1", "calibration_error", "cam_on_cell", "occlusion", TYPE_SCORE,
    }  # fmt: skip
    assert entries["unet", OVERALL, SCORE]


def test_every_candidate_is_scored_by_where_it_reads_a_type_from():
    answers = runs(1, 2)
    entries = found(Comparison(answers, QUICK))
    for name, seeds in answers.items():
        for figure in ("cam_on_cell", "occlusion"):
            means = [seed["b"].numbers(figure).mean() for seed in seeds.values()]
            assert entries[name, "b", figure].score.value == pytest.approx(np.mean(means))


def test_what_is_not_finished_lacks_the_mean_over_data_sets_only():
    answers = runs(1, 2)
    answers["unet"] = {0: {"a": answers["unet"][0]["a"]}}
    entries = found(Comparison(answers, QUICK))
    assert entries["unet", "a", "accuracy"].seeds == 1
    assert ("unet", OVERALL, SCORE) not in entries
    assert ("unet", "b", "accuracy") not in entries
    assert found(Comparison({}, QUICK)) == {}


def test_figures_of_one_run_are_the_means_over_one_seed():
    answers = runs(5, seeds=1)
    entries, alone = found(Comparison(answers, QUICK)), scores_of_seed(answers[REFERENCE][0], QUICK.calibration_bins)
    assert alone == pytest.approx({place: entries[REFERENCE, *place].score.value for place in alone})
    assert (OVERALL, SCORE) in alone


def test_other_images_cannot_be_compared():
    answers = runs(1, 2)
    whole = answers["unet"][0]["a"]
    answers["unet"][0] = {**answers["unet"][0], "a": replace(whole, table=whole.table.slice(0, 50))}
    with pytest.raises(InputError, match=r"different images or labels of a"):
        found(Comparison(answers, QUICK))


@pytest.mark.slow
def test_unchanged_answers_keep_the_whole_score_and_worse_ones_less():
    clean = runs(1, 2)
    worse = {name: {seed: run(seed + 50, 0.2) for seed in seeds} for name, seeds in clean.items()}
    changed = {change: clean if change[1] < 3 else worse for change in CORRUPTIONS}
    entries = {
        (one.candidate, *one.column): one
        for one in RobustnessComparison(clean, dict.fromkeys(CORRUPTIONS, clean), QUICK).entries()
    }
    kept = [entries[name, OVERALL, SHARE].score for name in clean]
    assert [(share.value, share.low, share.high) for share in kept] == [pytest.approx((1, 1, 1))] * len(clean)
    told = {(one.candidate, *one.column): one for one in RobustnessComparison(clean, changed, QUICK).entries()}
    steps = [told["unet", "hue", f"{TYPE_SCORE}@{strength}"].score.value for strength in range(1, 6)]
    assert steps[0] == steps[1] == told["unet", OVERALL, f"clean_{TYPE_SCORE}"].score.value > steps[2]
    assert told["unet", "hue", TYPE_SCORE].score.value == pytest.approx(np.mean(steps))
    del changed[CORRUPTIONS[-1]]
    assert not list(RobustnessComparison(clean, changed, QUICK).entries())


@pytest.fixture(scope="module")
def table():
    """Give a table of four contenders of which one is not finished."""
    clean = runs(1, 2, 3, 4)
    lone = frozenset({"resnet50"})
    entries = [
        *Comparison(clean, QUICK, lone).entries(Protocol.WITHIN),
        *Comparison({REFERENCE: clean[REFERENCE]}, QUICK).entries(Protocol.LEFT_OUT),
        *pooled_entries(clean, clean, QUICK, lone),
        *RobustnessComparison(clean, dict.fromkeys(CORRUPTIONS, clean), QUICK, lone).entries(),
    ]
    samples = [sample("a1", "blast"), sample("a2", None, Split.TEST), sample("b1", None)]
    names = tuple(clean)
    done = [TrainingEntry(name, 0, "", training="training/x") for name in names]
    sizes = [ModelSize(name, 5_000_000 + k, 10**9, name != "resnet50", 50.0 * (k + 1)) for k, name in enumerate(names)]
    return BenchmarkTable(
        {"data": "0123"}, names, tuple(Protocol), ("a", "b"), 2, tuple(image_counts(samples)), tuple(sizes),
        tuple(entries), (*done, TrainingEntry("unet", 1, "a", "training")), 900.0, ("a note",),
    )  # fmt: skip


def test_the_table_is_read_back_as_it_was_written(table):
    assert TypeAdapter(BenchmarkTable).validate_json(table.to_json()) == table


def test_the_page_marks_the_best_what_differs_and_what_is_not_finished(table):
    text = markdown_page(table, ["plots/cost.png"])
    assert "**Unfinished:** 1 of 5" in text
    assert "- unet, seed 1, without a: training" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in rows if line.startswith("| unet |")}
    assert widths == {line.count("|") for line in rows if line.startswith(f"| {REFERENCE} |")}
    assert any(line.startswith("| unet … |") for line in rows), (
        "the left-out table has to say that unet is not finished"
    )
    best = max(table.of(Protocol.WITHIN, OVERALL, SCORE).values(), key=lambda entry: entry.score.value)
    assert any(line.startswith(f"| {best.candidate} | **{best.score.value:.3f}**") for line in rows)
    assert any(line.startswith("| resnet50 | - | - | - | 0.") for line in rows), "it has scores of types alone"
    assert "| Grad-CAM on the cell beyond chance | loss by covering the cell, less its surroundings |" in text
    assert text.index("## Both protocols") < text.index("## Within the data sets")
    assert "![plots/cost.png](plots/cost.png)" in text
    assert text.endswith("- a note\n")


@pytest.mark.slow
def test_pictures_are_drawn_of_whatever_there_is(table, tmp_path):
    pictures = draw_plots(table, {"unet": list(runs(1)[REFERENCE].values())}, tmp_path / "whole")
    assert {path.stem for path in pictures} == {
        "leads-together", "leads-within", "leads-robustness", "cost", "robustness", "reliability",
    }  # fmt: skip
    for path in pictures:
        with Image.open(path) as image:
            assert min(image.size) > 200
    assert draw_plots(replace(table, entries=()), {}, tmp_path / "empty") == ()


def test_reliability_is_that_of_counted_bins():
    one = said("a", 3, 0.6)
    confidence = one.numbers("confidence")
    right = np.array(one.column("label")) == np.array(one.column("told"))
    for mean, share, images in reliability_curve([one]):
        inside = (confidence > np.floor(mean * 10) / 10) & (confidence <= np.floor(mean * 10) / 10 + 0.1)
        assert (confidence[inside].mean(), right[inside].mean(), inside.sum()) == pytest.approx((mean, share, images))
    assert reliability_curve([one])[:, 2].sum() == len(right)


def test_all_start_alike():
    nets = [NetSpec(name=name) for name in ("unet", "resnet50")]
    assert common_start(nets, Pretrained.AUTO) is Pretrained.OFF, "there are no weights of a ResNet-50"
    assert common_start(nets, Pretrained.OFF) is Pretrained.OFF
    with pytest.raises(InputError, match="pretrained to auto or off"):
        common_start(nets, Pretrained.REQUIRED)
    assert common_start([], Pretrained.AUTO) is Pretrained.REQUIRED


def test_models_are_sized_and_timed_side_by_side():
    spec = ModelSpec(net=SMALL, crop_px=64)
    lone = replace(spec, net=replace(spec.net, name="efficientnet"))
    sizes = [size_of(name, own) for name, own in (("ours", spec), ("lone", lone))]
    assert [size.outlines for size in sizes] == [True, False]
    assert sizes[0].flops > sizes[1].flops > 1e6
    models = {name: Model(own, build(own).eval(), pick_device("cpu")) for name, own in (("ours", spec), ("lone", lone))}
    found = rates(models, 1)
    assert set(found) == {"ours", "lone", "prior"}
    assert all(rate > 0 for rate in found.values())
