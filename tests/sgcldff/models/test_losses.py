"""Losses on sets of allowed classes, compared with torch's losses, and with 0 for missing targets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, one_hot

from sgcldff.core.labels import WBC5, WBC6
from sgcldff.core.settings import LossSpec
from sgcldff.models.nets import Prediction
from sgcldff.models.training.losses import (
    SmearLoss,
    alignment,
    allowed_from_bits,
    class_weights,
    set_cross_entropy,
    soft_dice,
)


def prediction(batch=2, classes=6, side=16, seed=0):
    make = torch.Generator().manual_seed(seed)
    return Prediction(
        torch.randn(batch, 3, side, side, generator=make, requires_grad=True),
        torch.randn(batch, classes, generator=make, requires_grad=True),
        torch.rand(batch, 1, side // 4, side // 4, generator=make, requires_grad=True),
        torch.randn(batch, 8, generator=make, requires_grad=True),
    )


@given(st.integers(0, 2**31), st.integers(2, 7))
def test_one_allowed_class_is_the_usual_weighted_cross_entropy(seed, classes):
    make = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, classes, generator=make)
    labels = torch.randint(classes, (9,), generator=make)
    weights = torch.rand(classes, generator=make) + 0.1
    ours = set_cross_entropy(logits, one_hot(labels, classes).bool(), weights)
    torch.testing.assert_close(ours, cross_entropy(logits, labels, weights))


@given(st.integers(0, 2**31))
def test_a_coarse_label_costs_the_probability_of_its_classes(seed):
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(seed))
    allowed = torch.from_numpy(WBC6.allowed("non-blast"))[None]
    expected = -torch.log(logits.softmax(1)[0, :5].sum())
    torch.testing.assert_close(set_cross_entropy(logits, allowed, torch.ones(6)), expected)


def test_missing_targets_have_no_loss_and_no_gradient():
    spec = LossSpec(alignment=0)
    output = prediction()
    loss = SmearLoss(spec, torch.ones(6), 8)
    unknown = torch.full((2, 16, 16), 7, dtype=torch.uint8)
    terms = loss(output, torch.rand(2, 1, 16, 16), unknown, torch.ones(2, 6, dtype=torch.bool))
    assert terms.total.item() == 0
    terms.total.backward()
    for tensor in (output.segmentation, output.cell_type, output.embedding):
        assert tensor.grad is None or not tensor.grad.any()


def test_masks_without_types_train_segmentation_only():
    output = prediction()
    target = torch.randint(0, 3, (2, 16, 16)).pow(1)
    bits = (2**target).to(torch.uint8)
    loss = SmearLoss(LossSpec(alignment=0), torch.ones(6), 8)
    loss(output, torch.rand(2, 1, 16, 16), bits, torch.ones(2, 6, dtype=torch.bool)).total.backward()
    assert output.segmentation.grad.abs().sum() > 0
    assert not output.cell_type.grad.any()


def test_bits_unpack():
    bits = torch.tensor([[[1, 2, 4, 6, 7]]], dtype=torch.uint8)
    rows = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]]
    assert allowed_from_bits(bits)[0, :, 0].T.int().tolist() == rows


def test_dice_is_zero_for_a_perfect_answer_and_grows_with_error():
    allowed = allowed_from_bits((2 ** torch.randint(0, 3, (1, 8, 8))).to(torch.uint8))
    sure = allowed.float() * 50
    assert soft_dice(sure, allowed) < 1e-3
    assert soft_dice(-sure, allowed) > 0.5


def test_dice_of_a_whole_cell_counts_the_cell_and_leaves_its_nucleus_open():
    bits = torch.full((1, 8, 8), 1, dtype=torch.uint8)
    bits[:, 2:6, 2:6] = 6
    allowed, inside = allowed_from_bits(bits), bits == 6

    def cost(part, of_cell):
        labels = torch.zeros(1, 8, 8, dtype=torch.long)
        labels[inside & of_cell] = part
        return soft_dice(50 * one_hot(labels, 3).permute(0, 3, 1, 2).float(), allowed)

    everywhere, half = torch.ones(1, 8, 8, dtype=torch.bool), torch.arange(8).expand(1, 8, 8) < 4
    assert cost(1, everywhere) == cost(2, everywhere)
    assert cost(1, everywhere) < 1e-3
    assert cost(1, half) > cost(1, everywhere) + 0.02, "half of the cell is called background"


def test_dice_of_fully_known_pixels_is_the_usual_dice():
    make = torch.Generator().manual_seed(4)
    logits, labels = torch.randn(3, 3, 8, 8, generator=make), torch.randint(0, 3, (3, 8, 8), generator=make)
    p, t = logits.softmax(1), one_hot(labels, 3).permute(0, 3, 1, 2)
    dice = (2 * (p * t).sum((2, 3)) + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1)
    torch.testing.assert_close(soft_dice(logits, t.bool()), (1 - dice).mean())


def test_alignment_prefers_evidence_on_the_prior_to_evidence_on_background():
    prior = torch.zeros(1, 1, 32, 32)
    prior[..., :16] = 1
    target = torch.full((1, 32, 32), 1, dtype=torch.uint8)
    target[..., :16] = 2
    on = torch.zeros(1, 1, 8, 8)
    on[..., :4] = 1
    assert alignment(on, prior, target) < 0.05
    assert alignment(1 - on, prior, target) > 1.5


def test_an_image_without_a_prior_is_aligned_with_nothing():
    evidence, prior, target = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 32, 32), torch.ones(2, 32, 32, dtype=torch.uint8)
    prior[1] = 0
    assert alignment(evidence[1:], prior[1:], target[1:]) == 0
    torch.testing.assert_close(alignment(evidence, prior, target), alignment(evidence[:1], prior[:1], target[:1]))


def test_switched_off_terms_are_zero():
    spec = LossSpec(segmentation=0, cell_type=0, alignment=0, centre=0)
    terms = SmearLoss(spec, torch.ones(6), 8)(
        prediction(), torch.rand(2, 1, 16, 16), torch.ones(2, 16, 16, dtype=torch.uint8), torch.eye(6)[:2].bool()
    )
    assert terms.total == 0


def test_a_term_that_is_off_has_no_parameters():
    assert not list(SmearLoss(LossSpec(centre=0), torch.ones(6), 8).parameters())
    assert list(SmearLoss(LossSpec(centre=0.02), torch.ones(6), 8).parameters())


def test_rare_classes_weigh_more_and_weights_average_one():
    weights = class_weights(["neutrophil"] * 500 + ["basophil"] * 5 + [None] * 9, WBC5)
    assert weights[2] > 20 * weights[0]
    assert weights[[0, 2]].mean() == pytest.approx(1)
    assert weights[[1, 3, 4]].tolist() == [1, 1, 1]
    assert class_weights(["non-blast"] * 10, WBC6)[:5].tolist() == pytest.approx([1] * 5)
