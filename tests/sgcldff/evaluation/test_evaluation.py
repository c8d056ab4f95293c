"""Evaluation on painted cells: a net that knows the paint answers exactly, so every expected score is known."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as oracle
from torch import Tensor

from sgcldff.core.errors import InputError, LabelError, MissingInputError
from sgcldff.core.labels import BLAST, BLAST_OR_NOT, FIVE_TYPES, NON_BLAST, WBC5, WBC6
from sgcldff.core.records import Sample
from sgcldff.core.settings import EvalSpec
from sgcldff.data.adapters import detect
from sgcldff.evaluation import EvalReport, Predictions
from sgcldff.evaluation.evaluate import evaluate, explain_examples
from sgcldff.evaluation.metrics import Interval
from sgcldff.evaluation.predict import centred_view
from sgcldff.evaluation.predictions import AnswerLabels, schema
from sgcldff.evaluation.report import METRICS, SkippedImage, score
from sgcldff.evaluation.scorable import scorable
from sgcldff.models.nets.base import Prediction
from sgcldff.models.out_of_distribution import fit
from tests.sgcldff.evaluation.painted import (
    INKS,
    QUICK,
    SIDE,
    Painter,
    disc,
    model_of,
    paint,
    predictions_of,
    sample_of,
)


class Broken(Painter):
    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        answer = super().forward(image, prior)
        return replace(answer, cell_type=answer.cell_type * float("nan"))


def test_a_model_that_knows_the_paint_is_perfect(report: EvalReport) -> None:
    for part in (report.pooled, *report.sources):
        names = [name for name in METRICS if name not in ("calibration_error", "cam_on_cell", "occlusion")]
        few = dict.fromkeys(("macro_f1", "balanced_accuracy"), Interval(1.0))  # each class is in three groups
        assert {name: getattr(part, name) for name in names} == dict.fromkeys(names, Interval(1.0, 1.0, 1.0)) | few
        assert part.confusion == tuple(map(tuple, (3 * np.eye(5, dtype=int)).tolist()))
        assert [one.label for one in part.classes] == list(FIVE_TYPES)
        assert (part.images, part.groups, part.typed, part.outlined) == (15, 15, 15, 15)
    assert report.pooled.cam_on_cell is not None
    assert report.pooled.cam_on_cell.value > 0.95
    assert report.predictions is not None
    assert all(report.predictions.column("found"))


def test_overlaps_are_those_of_the_masks(tmp_path: Path) -> None:
    image, mask = paint(tmp_path, "shifted", 0)
    moved = np.roll(np.asarray(Image.open(mask)), 7, axis=1)
    Image.fromarray(moved).save(mask)
    scores = evaluate(model_of(), [sample_of((image, mask), FIVE_TYPES[0])], QUICK).pooled
    cell, nucleus = disc((48, 48), 30, (SIDE, SIDE)), disc((48, 48), 15, (SIDE, SIDE))
    for found, true, iou, dice in (
        (cell, moved >= 64, scores.cell_iou, scores.cell_dice),
        (nucleus, moved >= 200, scores.nucleus_iou, scores.nucleus_dice),
    ):
        assert iou == Interval(pytest.approx(oracle.jaccard_score(true.ravel(), found.ravel())))
        assert dice == Interval(pytest.approx(oracle.f1_score(true.ravel(), found.ravel())))


def test_boundaries_are_measured_in_um_and_kept_row_by_row(tmp_path: Path) -> None:
    image, mask = paint(tmp_path, "near", 0)
    Image.fromarray(np.roll(np.asarray(Image.open(mask)), 2, axis=1)).save(mask)
    near = evaluate(model_of(), [sample_of((image, mask), FIVE_TYPES[0])], QUICK)
    assert (near.pooled.cell_boundary_f1, near.pooled.nucleus_boundary_f1) == (Interval(1.0), Interval(1.0))
    Image.fromarray(np.roll(np.asarray(Image.open(mask)), 5, axis=1)).save(mask)
    far = evaluate(model_of(), [sample_of((image, mask), FIVE_TYPES[0])], QUICK)
    assert far.predictions is not None
    assert far.pooled.cell_boundary_f1 is not None
    found, found_matched, true, true_matched = (float(count[0]) for count in far.predictions.counts("cell_boundary_"))
    precision, recall = found_matched / found, true_matched / true
    assert far.pooled.cell_boundary_f1.value == pytest.approx(2 * precision * recall / (precision + recall))
    assert 0.05 < far.pooled.cell_boundary_f1.value < 0.4


def test_the_crop_is_placed_on_what_was_found_and_the_truth_has_no_say(tmp_path: Path) -> None:
    image, mask = paint(tmp_path, "aside", 3, [(40, 110, 26)], side=160)
    elsewhere = np.zeros((160, 160), np.uint8)
    elsewhere[100:150, 10:60], elsewhere[120:130, 30:40] = 128, 255
    Image.fromarray(elsewhere).save(mask)
    scores = evaluate(model_of(), [sample_of((image, mask), FIVE_TYPES[3])], QUICK).pooled
    assert scores.accuracy == Interval(1.0)
    assert scores.cell_iou == Interval(0.0)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([(40, 40, 30), (120, 120, 20)], "first"),
        ([(40, 40, 20), (120, 120, 30)], "second"),
        ([(40, 40, 28), (90, 100, 27)], "second"),
    ],
    ids=["largest", "largest again", "alike, nearer to the centre"],
)
def test_of_several_cells_the_largest_is_typed_or_the_most_central_of_equals(
    tmp_path: Path, cells: list[tuple[int, int, int]], told: str
) -> None:
    paths = paint(tmp_path, "field", 0, cells, side=160)
    predictions = evaluate(model_of(), [sample_of(paths, None)], QUICK).predictions
    assert predictions is not None
    assert predictions.column("told") == [FIVE_TYPES[0 if told == "first" else 1]]


def test_where_no_cell_is_found_the_centre_is_typed_and_said_so(tmp_path: Path) -> None:
    predictions = evaluate(model_of(), [sample_of(paint(tmp_path, "empty", 0, []), "monocyte")], QUICK).predictions
    assert predictions is not None
    assert predictions.column("found") == [False]


def test_images_of_all_sizes_are_read_and_their_order_does_not_matter(tmp_path: Path) -> None:
    samples = [
        sample_of(paint(tmp_path, f"s{i}", i % 5, [(side // 2, side // 2, 24)], side), FIVE_TYPES[i % 5])
        for i, side in enumerate((50, 75, 96, 96, 131, 200))
    ]
    forward, backward = (evaluate(model_of(), order, QUICK) for order in (samples, samples[::-1]))
    assert forward == backward
    assert forward.pooled.cell_iou == Interval(1.0, 1.0, 1.0)
    assert forward.pooled.accuracy == Interval(1.0, 1.0, 1.0)


def test_the_window_takes_pixels_as_they_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    np.testing.assert_array_equal(centred_view((44.5, 39.5), 64).cut(image), image[13:77, 8:72])


def test_bad_images_are_set_aside_and_the_rest_is_scored(painted: tuple[Sample, ...], tmp_path: Path) -> None:
    image, mask = paint(tmp_path, "good", 0)
    cut = tmp_path / "truncated.png"
    cut.write_bytes(image.read_bytes()[:100])
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "small_mask.png")
    bad = [
        sample_of((cut, mask), None),
        sample_of((tmp_path / "gone.png", mask), None),
        replace(sample_of((image, tmp_path / "small_mask.png"), None), id="painted/mask"),
    ]
    seen: list[tuple[int, int]] = []
    report = evaluate(model_of(), [*painted, *bad], QUICK, lambda done, total: seen.append((done, total)))
    assert report.pooled.images == len(painted)
    assert [item.id for item in report.skipped] == ["painted/truncated", "painted/gone", "painted/mask"]
    for item, name in zip(report.skipped, ("truncated.png", "gone.png", "small_mask.png"), strict=True):
        assert name in item.reason
    assert seen[-1] == (18, 18)


def test_images_that_the_model_learned_from_are_set_aside(painted: tuple[Sample, ...]) -> None:
    predictions = evaluate(model_of(), painted[:3], QUICK).predictions
    assert predictions is not None
    known = frozenset(predictions.column("sha256")[:1])
    report = evaluate(model_of(), painted[:3], QUICK, trained_on=known)
    assert report.pooled.images == 2
    assert "trained on this image" in report.skipped[0].reason
    with pytest.raises(InputError, match=r"none of 1 images can be scored.*trained on this image"):
        evaluate(model_of(), painted[:1], QUICK, trained_on=known)


def test_another_label_space_is_refused_before_any_work() -> None:
    nowhere = sample_of((Path("/nowhere.png"), Path("/nowhere_mask.png")), "neutrophil")
    with pytest.raises(LabelError, match="labelled neutrophil, the model predicts non-blast, blast"):
        evaluate(model_of(BLAST_OR_NOT), [nowhere], QUICK)


def test_nothing_to_score_two_of_a_name_and_broken_models_are_refused(painted: tuple[Sample, ...]) -> None:
    with pytest.raises(InputError, match="none of 0 images"):
        evaluate(model_of(), [], QUICK)
    with pytest.raises(InputError, match=r"'painted/neutrophil0' occurs twice"):
        evaluate(model_of(), [painted[0], painted[0]], QUICK)
    with pytest.raises(InputError, match="not finite"):
        evaluate(model_of(kind=Broken), painted[:1], QUICK)


def test_coarse_labels_are_told_by_the_sum_of_their_classes(tmp_path: Path) -> None:
    leukaemia = [sample_of(paint(tmp_path, f"b{i}", 5), BLAST, "idb") for i in range(2)]
    healthy = [sample_of(paint(tmp_path, f"h{i}", i), NON_BLAST, "idb") for i in range(5)]
    fine = [sample_of(paint(tmp_path, f"f{i}", i), FIVE_TYPES[i], "fine") for i in range(5)]
    for sample in leukaemia:  # `paint` stops at five inks
        image = np.asarray(Image.open(sample.image)).copy()
        image[disc((48, 48), 15, (SIDE, SIDE))] = INKS[5]
        Image.fromarray(image).save(sample.image)
    report = evaluate(model_of(WBC6), [*leukaemia, *healthy, *fine], QUICK)
    by_name = {part.source: part for part in (*report.sources, report.pooled)}
    assert [one.label for one in by_name["idb"].classes] == [BLAST, NON_BLAST]
    assert by_name["idb"].confusion == ((2, 0), (0, 5))
    assert [one.label for one in by_name["all"].classes] == [*FIVE_TYPES, BLAST, NON_BLAST]
    for part in by_name.values():
        assert part.accuracy is not None
        assert part.auroc is not None
        assert (part.accuracy.value, part.auroc.value) == (1, 1)
    predictions = report.predictions
    assert predictions is not None
    idb = predictions.of("idb")
    healthy_rows = np.array(idb.column("label")) == NON_BLAST
    np.testing.assert_allclose(
        idb.numbers("confidence")[healthy_rows], idb.probabilities[healthy_rows, :5].sum(axis=1), rtol=1e-6
    )


def test_classes_that_a_data_set_does_not_use_stay_wrong_answers() -> None:
    choice = AnswerLabels.for_labels(["neutrophil", "monocyte", None], WBC6)
    assert choice.names == WBC6.classes
    assert choice.predict(np.eye(6)[5], "neutrophil", WBC6) == (BLAST, 1.0)


def test_a_coarse_label_beside_a_fine_one_is_right_with_any_of_its_classes() -> None:
    choice = AnswerLabels.for_labels([NON_BLAST, "neutrophil"], WBC6)
    assert choice.names == WBC6.classes
    assert choice.predict(np.eye(6)[4], NON_BLAST, WBC6)[0] == NON_BLAST
    assert choice.predict(np.eye(6)[4], "neutrophil", WBC6)[0] == "monocyte"
    assert choice.predict(np.eye(6)[5], NON_BLAST, WBC6)[0] == BLAST


def test_a_report_shows_by_class_how_often_a_model_with_a_limit_abstains() -> None:
    predictions = predictions_of(80, 1)
    limit = float(np.median(predictions.numbers("confidence")))
    report = score(predictions, WBC5, QUICK, limit)
    assert report.abstention is not None
    assert report.abstention.kept == pytest.approx(0.5, abs=0.02)
    assert set(report.abstention.rejected) == set(predictions.column("label"))
    assert EvalReport.from_json(report.to_json()) == report
    assert f"{report.abstention.rejected['monocyte']:.1%}" in report.to_markdown().partition("## Abstention")[2]
    assert score(predictions, WBC5, QUICK).abstention is None


def test_a_report_shows_by_class_how_many_cells_a_limit_of_typicality_rejects(painted, tmp_path) -> None:
    """One type of five is unlike the cells that typicality was fitted to: all of it is rejected, and only that."""
    likeness = np.repeat(np.eye(5)[:4], 40, axis=0) + np.random.default_rng(0).normal(0, 0.01, (160, 5))
    typicality = fit(likeness.astype(np.float32), [str(at // 40) for at in range(160)], likeness.astype(np.float32))
    spread = [replace(sample, group=f"{sample.label}{at % 3}") for at, sample in enumerate(painted)]
    report = evaluate(model_of(), spread, QUICK, typicality=typicality)
    assert {one.label: (one.images, one.share.value) for one in report.atypical} == {
        name: (3, float(name == FIVE_TYPES[4])) for name in FIVE_TYPES
    }
    assert EvalReport.from_json(report.to_json()).atypical == report.atypical
    row = next(line for line in report.to_markdown().partition("## Typicality")[2].split("\n") if FIVE_TYPES[4] in line)
    assert "1.000" in row
    assert not evaluate(model_of(), spread, QUICK).atypical


@given(st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_reported_scores_are_those_of_sklearn(seed: int) -> None:
    predictions = predictions_of(80, seed)
    scores = score(predictions, WBC5, EvalSpec(resamples=100)).pooled
    true, told = predictions.column("label"), predictions.column("told")
    values = {name: interval.value for name in METRICS if (interval := getattr(scores, name)) is not None}
    assert values["accuracy"] == pytest.approx(oracle.accuracy_score(true, told))
    assert values["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(true, told))
    assert values["macro_f1"] == pytest.approx(oracle.f1_score(true, told, average="macro"))
    ordered = predictions.probabilities[:, np.argsort(FIVE_TYPES)]
    assert values["auroc"] == pytest.approx(oracle.roc_auc_score(true, ordered, multi_class="ovr"))
    assert scores.confusion == tuple(map(tuple, oracle.confusion_matrix(true, told, labels=list(FIVE_TYPES)).tolist()))
    ious = predictions.numbers("cell_intersection") / predictions.numbers("cell_union")
    assert values["cell_iou"] == pytest.approx(ious.mean())
    assert scores.occlusion is None
    for interval in (scores.accuracy, scores.macro_f1, scores.auroc, scores.cell_iou):
        assert interval is not None
        assert interval.low < interval.value < interval.high  # type: ignore[operator]


def test_a_report_comes_back_from_json_and_from_its_folder(report: EvalReport, tmp_path: Path) -> None:
    full = replace(report, skipped=(SkippedImage("a/b", "why"),))
    assert EvalReport.from_json(full.to_json()) == full
    again = EvalReport.open(full.save(tmp_path / "out"))
    assert again == full
    assert again.predictions is not None
    assert full.predictions is not None
    assert again.predictions.table.equals(full.predictions.table)
    assert again.predictions.truth == full.predictions.truth
    assert (tmp_path / "out" / "report.md").read_text() == full.to_markdown()


def test_files_that_are_no_reports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"report\.json"):
        EvalReport.open(tmp_path)
    for text in ("", "{}", "[]", '{"version": 1}'):
        with pytest.raises(InputError, match="not an evaluation report"):
            EvalReport.from_json(text)
    with pytest.raises(MissingInputError, match="gone"):
        Predictions.open(tmp_path / "gone.parquet")
    former = schema(FIVE_TYPES).with_metadata({"sgcldff.layout": "predictions/2", "sgcldff.model": "m"})
    pq.write_table(former.empty_table(), tmp_path / "former.parquet")
    with pytest.raises(InputError, match=r"former\.parquet: not a table of layout predictions/3"):
        Predictions.open(tmp_path / "former.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(InputError, match=r"text\.parquet"):
        Predictions.open(tmp_path / "text.parquet")


def test_a_report_from_before_boundaries_were_scored_is_refused(report: EvalReport) -> None:
    plain = json.loads(report.to_json())
    for scores in (plain["pooled"], *plain["sources"]):
        del scores["cell_boundary_f1"], scores["nucleus_boundary_f1"]
    with pytest.raises(InputError, match="evaluate the model again"):
        EvalReport.from_json(json.dumps(plain))


def test_the_markdown_names_every_class_and_survives_odd_names(report: EvalReport) -> None:
    text = replace(report, skipped=(SkippedImage("a|b<script>", "two\nlines"),)).to_markdown()
    assert all(name in text for name in (*FIVE_TYPES, *METRICS.values(), "1.000 (1.000 to 1.000)"))
    assert "a\\|b&lt;script> | two lines |" in text
    tables = [line for line in text.splitlines() if line.startswith("| a")]
    assert len(tables) == 2  # accuracy and what was set aside


def test_boxes_without_masks_type_but_do_not_score_outlines(painted: tuple[Sample, ...]) -> None:
    boxed = [replace(sample, mask=None, mask_code=None, boxes=((10, 10, 90, 90),)) for sample in painted]
    scores = evaluate(model_of(), boxed, QUICK).pooled
    assert (scores.cell_iou, scores.nucleus_dice, scores.outlined) == (None, None, 0)
    assert (scores.cell_boundary_f1, scores.nucleus_boundary_f1) == (None, None)
    assert scores.accuracy == Interval(1.0, 1.0, 1.0)


def test_unlabelled_images_score_outlines_only(painted: tuple[Sample, ...]) -> None:
    scores = evaluate(model_of(), [replace(sample, label=None) for sample in painted], QUICK).pooled
    assert (scores.accuracy, scores.auroc, scores.classes, scores.typed) == (None, None, (), 0)
    assert scores.cell_iou == Interval(1.0, 1.0, 1.0)


def test_examples_are_spread_over_the_images(painted: tuple[Sample, ...]) -> None:
    shown = explain_examples(model_of(), painted, 5)
    assert [one.prediction.sample.label for one in shown] == list(FIVE_TYPES)
    assert len(explain_examples(model_of(), painted[:2], 5)) == 2
    assert explain_examples(model_of(), [], 5) == ()


@pytest.mark.real
def test_real_smears_are_read_and_scored_as_far_as_their_truth_goes() -> None:
    root = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))
    if not root.is_dir():
        pytest.skip(f"{root}: no real smears")
    found = [[item for item in source.scan() if isinstance(item, Sample)] for source in detect(root)]
    samples = [sample for part in found for sample in part[:: max(1, len(part) // 4)][:4]]
    asked = scorable(WBC6, samples).samples
    assert len(asked) > len(samples) / 2
    report = evaluate(model_of(WBC6), asked, QUICK)
    assert report.skipped == ()
    assert report.pooled.images == len(asked)
    for part in report.sources:
        assert (part.cell_iou is None) == (part.outlined == 0)
        assert part.outlined in (0, part.images)
