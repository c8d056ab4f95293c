"""Two models scored on the same images: which is better, and what cannot be compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sgcldff.core.errors import InputError
from sgcldff.core.labels import FIVE_TYPES, WBC5
from sgcldff.core.records import Sample
from sgcldff.core.settings import PromotionSpec
from sgcldff.evaluation import EvalReport, Predictions
from sgcldff.evaluation.evaluate import evaluate
from sgcldff.evaluation.report import score
from sgcldff.promotion import compare_models
from tests.sgcldff.evaluation.painted import QUICK, model_of, predictions_of

RULES = PromotionSpec(evaluation=QUICK)


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
    assert compare_models(blind, report.predictions, replace(RULES, margin=0.02)).promote, "15 groups prove no less"
    refused = compare_models(report.predictions, blind, RULES)
    assert not refused.promote
    assert any("recall of monocyte 0.0000, champion 1.0000" in reason for reason in refused.reasons)
