"""Evaluation on painted cells: a net that knows the paint answers exactly, so every expected score is known."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as oracle
from torch import Tensor, nn

from sgcldff.core.errors import InputError, LabelError, MissingInputError
from sgcldff.core.labels import BLAST, BLAST_OR_NOT, FIVE_TYPES, NON_BLAST, WBC5, WBC6, LabelSpace
from sgcldff.core.records import MaskCode, Sample
from sgcldff.core.settings import EvalSpec, ModelSpec, PriorSpec, PromotionSpec
from sgcldff.data.adapters import detect
from sgcldff.evaluation import EvalReport, Predictions
from sgcldff.evaluation.evaluate import evaluate, examples
from sgcldff.evaluation.metrics import Interval
from sgcldff.evaluation.predict import centred_view
from sgcldff.evaluation.predictions import COUNTS, AnswerLabels, schema
from sgcldff.evaluation.report import METRICS, SkippedImage, score
from sgcldff.evaluation.scorable import scorable
from sgcldff.models.model import Model
from sgcldff.models.nets.base import Prediction
from sgcldff.promotion import compare_models

PAPER, PLASMA = (240, 235, 220), (190, 190, 225)
INKS = ((90, 40, 120), (40, 90, 120), (120, 40, 40), (40, 40, 160), (120, 90, 160), (40, 120, 60))
SIDE = 96
QUICK = EvalSpec(resamples=200)
RULES = PromotionSpec(evaluation=QUICK)
CODE = MaskCode(cytoplasm=64, nucleus=200)


class Painter(nn.Module):
    """Tells background, cytoplasm and nuclei of C types by their colours, pixel by pixel."""

    def __init__(self, classes: int, blind_to: Sequence[int] = ()) -> None:
        super().__init__()
        colours = torch.tensor([PAPER, PLASMA, *INKS[:classes]], dtype=torch.float32) / 255
        self.match = nn.Conv2d(3, len(colours), 1)
        self.match.weight = nn.Parameter(800 * colours[:, :, None, None])
        self.match.bias = nn.Parameter(-400 * (colours**2).sum(dim=1))
        self.share = nn.Softmax(dim=1)
        self.blind_to = list(blind_to)

    @property
    def cam_layer(self) -> nn.Module:
        return self.share

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        likeness = self.match(image)
        share = self.share(likeness)
        nucleus = likeness[:, 2:].logsumexp(dim=1, keepdim=True)
        half = image.shape[2] // 2
        centre = share[:, 2:, half - 8 : half + 8, half - 8 : half + 8].mean(dim=(2, 3))
        seen = centre.clone()
        seen[:, self.blind_to] = 0
        evidence = torch.nn.functional.avg_pool2d(share[:, 2:].sum(dim=1, keepdim=True), 4)
        return Prediction(torch.cat((likeness[:, :2], nucleus), dim=1), 6 * seen, evidence, centre)


class Broken(Painter):
    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        answer = super().forward(image, prior)
        return replace(answer, cell_type=answer.cell_type * float("nan"))


def model_of(space: LabelSpace = WBC5, blind_to: Sequence[int] = (), kind: type[Painter] = Painter) -> Model:
    spec = ModelSpec(labels=space, crop_px=64, prior=PriorSpec(names=("frequency_tuned",)))
    return Model(spec, kind(len(space.classes), blind_to).eval(), torch.device("cpu"))


def disc(centre: tuple[int, int], radius: int, shape: tuple[int, int]) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def paint(
    folder: Path, name: str, ink: int, cells: Iterable[tuple[int, int, int]] = ((48, 48, 30),), side: int = SIDE
) -> tuple[Path, Path]:
    """Paint cells (y, x, radius) and their mask; the first one in `ink`, the others in the next ink."""
    image, mask = np.full((side, side, 3), PAPER, np.uint8), np.zeros((side, side), np.uint8)
    for number, (y, x, radius) in enumerate(cells):
        cell, nucleus = (disc((y, x), r, mask.shape) for r in (radius, radius // 2))
        image[cell], mask[cell] = PLASMA, 128
        image[nucleus], mask[nucleus] = INKS[(ink + (number > 0)) % len(FIVE_TYPES)], 255
    paths = folder / f"{name}.png", folder / f"{name}_mask.png"
    Image.fromarray(image).save(paths[0])
    Image.fromarray(mask).save(paths[1])
    return paths


def sample_of(paths: tuple[Path, Path], label: str | None, source: str = "painted", group: str = "") -> Sample:
    image, mask = paths
    identity = {"id": f"{source}/{image.stem}", "source": source, "group": group or image.stem}
    return Sample(**identity, image=str(image), mpp=0.2, licence="none", label=label, mask=str(mask), mask_code=CODE)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    """Three cells of every one of five types, each in a group of its own."""
    folder = tmp_path_factory.mktemp("painted")
    return tuple(
        sample_of(paint(folder, f"{name}{i}", ink, [(48 + i, 46, 30)]), name)
        for ink, name in enumerate(FIVE_TYPES)
        for i in range(3)
    )


@pytest.fixture(scope="module")
def report(painted: tuple[Sample, ...]) -> EvalReport:
    return evaluate(model_of(), painted, QUICK)


def test_a_model_that_knows_the_paint_is_perfect(report: EvalReport) -> None:
    for part in (report.pooled, *report.sources):
        names = [name for name in METRICS if name not in ("calibration_error", "cam_on_cell", "saliency_consistency")]
        assert {name: getattr(part, name) for name in names} == dict.fromkeys(names, Interval(1.0, 1.0, 1.0))
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


def predictions_of(rows: int, seed: int, skill: float = 0.7, groups: int = 40, truth: int = 0) -> Predictions:
    """Made-up answers; `truth` seeds images and labels, `seed` the answers."""
    fixed, rng = np.random.default_rng(truth), np.random.default_rng(seed)
    labels = fixed.integers(0, 5, rows)
    unions = fixed.integers(800, 1000, rows)
    told = np.where(rng.random(rows) < skill, labels, rng.integers(0, 5, rows))
    chances = rng.dirichlet(np.ones(5), rows) * 0.4
    chances[np.arange(rows), told] += 0.6
    table = {
        "id": [f"s/{i:04}" for i in range(rows)],
        "source": ["s"] * rows,
        "group": [f"g{i % groups}" for i in range(rows)],
        "sha256": [f"{i:064x}" for i in range(rows)],
        "mask_sha256": [""] * rows,
        "label": [FIVE_TYPES[i] for i in labels],
        "told": [FIVE_TYPES[i] for i in told],
        "confidence": chances.max(axis=1),
        "found": [True] * rows,
        "cell_intersection": (unions * (0.8 + 0.2 * rng.random(rows))).astype(int),
        "cell_union": unions,
        "nucleus_intersection": (unions * 0.8).astype(int),
        "nucleus_union": unions,
        **{start + name: [90] * rows for start, names in COUNTS.items() if "boundary" in start for name in names},
        "cam_on_cell": rng.random(rows),
        "saliency_consistency": [None] * rows,
        **{f"probability_{name}": chances[:, k] for k, name in enumerate(FIVE_TYPES)},
    }
    return Predictions(FIVE_TYPES, f"model{seed}", pa.table(table, schema=schema(FIVE_TYPES, f"model{seed}")))


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
    assert scores.saliency_consistency is None
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
    former = schema(FIVE_TYPES).with_metadata({"sgcldff.layout": "predictions/1", "sgcldff.model": "m"})
    pq.write_table(former.empty_table(), tmp_path / "former.parquet")
    with pytest.raises(InputError, match=r"former\.parquet: not a table of layout predictions/2"):
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
    shown = examples(model_of(), painted, 5)
    assert [one.prediction.sample.label for one in shown] == list(FIVE_TYPES)
    assert len(examples(model_of(), painted[:2], 5)) == 2
    assert examples(model_of(), [], 5) == ()


def test_a_model_is_not_worse_than_itself() -> None:
    side = predictions_of(200, 1)
    verdict = compare_models(side, side, PromotionSpec(margin=0, class_margin=0, evaluation=QUICK))
    assert verdict.promote
    assert {(found.figure, found.low, found.high) for found in verdict.findings} == {(0, 0, 0)}


def test_the_better_one_is_promoted_and_the_worse_one_refused_with_figures() -> None:
    weak, strong = predictions_of(400, 1, skill=0.6), predictions_of(400, 2, skill=0.95)
    verdict = compare_models(weak, strong, RULES)
    (lead, *_), refused = verdict.findings, compare_models(strong, weak, RULES)
    assert all(found.passed for found in verdict.findings if found.rule != "calibration")
    assert lead.low is not None
    assert lead.low > 0
    assert not refused.promote
    assert f"{refused.findings[0].figure:+.4f}" in refused.reasons[0]
    assert "below the limit of -0.0100" in refused.reasons[0]
    assert refused.findings[0].figure == pytest.approx(-lead.figure)  # type: ignore[operator]
    assert refused.findings[0].low == pytest.approx(-lead.high)  # type: ignore[operator]


def test_the_comparison_is_paired() -> None:
    """Two models that miss the same images differ by little, however hard the images are."""
    base = predictions_of(300, 1, skill=0.6)
    told = base.column("told")
    wrong = next(i for i, (name, label) in enumerate(zip(told, base.column("label"), strict=True)) if name == label)
    told[wrong] = next(name for name in FIVE_TYPES if name != told[wrong])
    place = base.table.column_names.index("told")
    other = replace(
        base, table=base.table.set_column(place, base.table.schema.field("told"), pa.array([told])[0].values)
    )
    verdict = compare_models(base, other, RULES)
    assert verdict.promote
    assert verdict.findings[0].high - verdict.findings[0].low < 0.02  # type: ignore[operator]
    macro = score(base, WBC5, QUICK).pooled.macro_f1
    assert macro is not None
    assert macro.high - macro.low > 0.06  # type: ignore[operator]


def test_one_class_that_falls_is_enough_to_refuse() -> None:
    def with_recalls(monocytes: float) -> Predictions:
        base = predictions_of(400, 1, skill=1.0)
        labels = base.column("label")
        places = [i for i, label in enumerate(labels) if label == "monocyte"]
        for i in places[int(monocytes * len(places)) :]:
            labels[i] = "lymphocyte"
        place = base.table.column_names.index("told")
        return replace(base, table=base.table.set_column(place, base.table.schema.field("told"), pa.array(labels)))

    rules = PromotionSpec(margin=0.5, calibration_margin=1, evaluation=QUICK)
    refused = compare_models(with_recalls(1.0), with_recalls(0.9), rules)
    assert not refused.promote
    assert refused.reasons[0].startswith("recall of monocyte 0.8947, champion 1.0000: difference -0.1053")
    assert compare_models(with_recalls(1.0), with_recalls(0.98), rules).promote


def test_other_images_or_labels_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="different images or labels"):
        compare_models(predictions_of(50, 1), predictions_of(50, 1, truth=1), RULES)
    with pytest.raises(InputError, match="different images or labels"):
        compare_models(predictions_of(50, 1), predictions_of(51, 1), RULES)


def test_an_outline_that_was_redrawn_cannot_be_compared(painted: tuple[Sample, ...], tmp_path: Path) -> None:
    sample = painted[0]
    mask = np.asarray(Image.open(str(sample.mask)))
    Image.fromarray(np.roll(mask, 1)).save(tmp_path / "redrawn.png")
    sides = [
        evaluate(model_of(), [one], QUICK).predictions
        for one in (sample, replace(sample, mask=str(tmp_path / "redrawn.png")))
    ]
    with pytest.raises(InputError, match="evaluate both on the same test split"):
        compare_models(*sides, RULES)


def test_a_single_group_is_not_enough_to_promote() -> None:
    verdict = compare_models(predictions_of(50, 1, groups=1), predictions_of(50, 2, groups=1), RULES)
    assert not verdict.promote
    assert "all images are of 1 group, too few" in verdict.reasons[0]


def test_a_model_that_misses_a_type_is_refused_end_to_end(painted: tuple[Sample, ...], report: EvalReport) -> None:
    blind = evaluate(model_of(blind_to=[4]), painted, QUICK).predictions
    assert blind is not None
    assert report.predictions is not None
    assert compare_models(blind, report.predictions, RULES).promote
    refused = compare_models(report.predictions, blind, RULES)
    assert not refused.promote
    assert any("recall of monocyte 0.0000, champion 1.0000" in reason for reason in refused.reasons)


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
