"""What can be scored of images whose labels or outlines are not all known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from sgcldff.core.errors import LabelError
from sgcldff.core.label_codes import MAY_BE_ANYTHING, MAY_BE_BACKGROUND, MAY_BE_CELL, MAY_BE_CYTOPLASM, MAY_BE_NUCLEUS
from sgcldff.core.labels import FIVE_TYPES, WBC5, WBC11
from sgcldff.core.records import MaskCode, Sample
from sgcldff.evaluation.evaluate import evaluate
from sgcldff.evaluation.report import EvalReport, UnknownLabel
from sgcldff.evaluation.scorable import scorable
from sgcldff.models.nets.base import Prediction
from sgcldff.models.training.examples import Example, read_scene
from sgcldff.models.training.trainer import validation_counts
from sgcldff.promotion.frozen_test_set import FrozenTest
from tests.sgcldff.evaluation.painted import QUICK, model_of, paint, sample_of


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sample_of(paint(tmp_path, "cell", 0), "neutrophil")


def test_of_images_with_unknown_labels_those_with_masks_keep_their_outlines(sample):
    blast = replace(sample, id="blast", label="blast")
    bare = replace(blast, id="bare", mask=None, mask_code=None)
    found = scorable(WBC5, [sample, blast, replace(blast, id="other"), bare])
    assert [(one.id, one.label) for one in found.samples] == [
        (sample.id, "neutrophil"),
        ("blast", None),
        ("other", None),
    ]
    assert found.unknown_labels == (UnknownLabel("blast", 2),)
    assert [one.id for one in found.skipped] == ["bare"]
    assert "labelled blast, which the model does not predict; it predicts neutrophil" in found.skipped[0].reason
    with pytest.raises(LabelError, match="but not blast"):
        scorable(WBC5, [bare])


def test_a_report_names_the_labels_that_were_not_scored(sample):
    report = evaluate(model_of(), [replace(sample, label=None)], QUICK)
    told = replace(report, unknown_labels=(UnknownLabel("blast", 108), UnknownLabel("non-blast", 107)))
    assert "108 images labelled blast, 107 images labelled non-blast" in told.to_markdown()
    assert EvalReport.from_json(told.to_json()) == replace(told, predictions=None)


def test_a_model_of_five_types_is_scored_on_finer_labels_by_its_own(tmp_path):
    names = ("segmented neutrophil", "band neutrophil", *FIVE_TYPES[1:])
    inks = (0, 1, 1, 2, 3, 4)
    samples = [sample_of(paint(tmp_path, name, ink), name) for name, ink in zip(names, inks, strict=True)]
    scores = evaluate(model_of(), samples, QUICK).pooled
    assert [one.label for one in scores.classes] == list(FIVE_TYPES)
    assert scores.confusion[0] == (1, 1, 0, 0, 0)
    assert scores.accuracy.value == pytest.approx(5 / 6)
    assert scores.classes[1].precision.value == pytest.approx(1 / 2)


def test_rivals_are_compared_at_the_depth_that_the_champion_knows(sample):
    fine = replace(sample, label="band neutrophil")
    foreign = replace(sample, id="x", label="myelocyte")
    located = replace(FrozenTest.of([fine]).locate([]), samples=(fine, foreign))
    (common,) = located.labelled_for(WBC5).samples
    assert common == replace(fine, label="neutrophil")
    assert WBC11.members(common.label) == ("segmented neutrophil", "band neutrophil")
    assert located.labelled_for(WBC11).samples == located.samples


def test_masks_of_whole_cells_score_cells_and_no_nuclei(sample):
    whole = replace(sample, mask_code=MaskCode(127, None))
    assert set(np.unique(read_scene(whole, 0.2).target)) == {MAY_BE_BACKGROUND, MAY_BE_CELL}
    scores = evaluate(model_of(), [whole], QUICK).pooled
    assert scores.cell_iou.value == 1
    assert scores.cell_boundary_f1.value == 1
    assert (scores.nucleus_iou, scores.nucleus_dice, scores.nucleus_boundary_f1) == (None, None, None)


def counts(target: list[list[int]], told: list[list[int]]) -> dict[str, int]:
    """Count for images of one row of pixels each; what is told is 0 background, 1 cytoplasm, 2 nucleus."""
    truth, logits = torch.tensor(target, dtype=torch.uint8)[:, None], one_hot(torch.tensor(told), 3)
    images, free = len(target), torch.ones(len(target), 2, dtype=torch.bool)
    prediction = Prediction(logits.permute(0, 2, 1)[:, :, None].float(), torch.zeros(images, 2), None, None)
    return {name: int(value) for name, value in validation_counts(prediction, Example(None, None, truth, free)).items()}


def test_validation_counts_whole_cells_as_cells_alone():
    found = counts([[MAY_BE_BACKGROUND, MAY_BE_BACKGROUND, MAY_BE_CELL, MAY_BE_CELL]], [[0, 2, 2, 1]])
    assert found == {"cell_both": 2, "cell_any": 3, "nucleus_both": 0, "nucleus_any": 0, "right": 0, "typed": 0}


def test_validation_counts_pixels_where_the_target_is_known():
    mask, boxed = (
        [MAY_BE_BACKGROUND, MAY_BE_CYTOPLASM, MAY_BE_NUCLEUS, MAY_BE_ANYTHING],
        [MAY_BE_BACKGROUND, MAY_BE_BACKGROUND, MAY_BE_ANYTHING, MAY_BE_ANYTHING],
    )
    found = counts([mask, boxed], [[1, 2, 2, 2], [1, 2, 2, 2]])
    assert (found["cell_both"], found["cell_any"]) == (2, 3)
    assert (found["nucleus_both"], found["nucleus_any"]) == (1, 2)
