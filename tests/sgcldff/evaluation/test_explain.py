from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from sgcldff.core.label_codes import MAY_BE_ANYTHING
from sgcldff.core.labels import WBC5
from sgcldff.core.records import Sample
from sgcldff.core.settings import ModelSpec
from sgcldff.evaluation.explain import (
    Explanation,
    cell_of,
    draw_explanations,
    energy_share,
    explain,
    grad_cam,
    occlusion,
    share_beyond_chance,
)
from sgcldff.evaluation.predict import Crop, ImagePrediction
from sgcldff.models.model import Model
from sgcldff.models.nets import build
from sgcldff.models.nets.base import Prediction
from sgcldff.models.nets.sgcldff import Branches
from sgcldff.models.training.examples import Scene
from tests.small import SMALL

pytestmark = pytest.mark.slow

SIDE = 64
SPEC = ModelSpec(net=SMALL, crop_px=SIDE)
seeds = st.integers(0, 2**32 - 1)


class Probe(nn.Module):
    """A net whose Grad-CAM can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 4, 4, stride=4)
        self.head = nn.Linear(4, 5)

    @property
    def cam_layer(self) -> nn.Module:
        return self.features

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        features = self.features(image)
        pooled = features.square().mean(dim=(2, 3))
        logits = torch.zeros(len(image), 3, *image.shape[2:])
        return Prediction(logits, self.head(pooled), features[:, :1].sigmoid(), pooled)


def model_of(net: nn.Module) -> Model:
    return Model(SPEC, net.eval(), torch.device("cpu"))


def inputs(count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return rgb, rng.random((count, 1, SIDE, SIDE), dtype=np.float32)


def reading(rgb: np.ndarray, prior: np.ndarray, label: str | None = "monocyte") -> ImagePrediction:
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[20:44, 20:44], labels[28:36, 28:36] = 1, 2
    target = np.where(labels == 0, 1, np.where(labels == 1, 2, 4)).astype(np.uint8)
    sample = Sample("set/one", "set", "g", "one.png", 0.2, "none", label)
    scene = Scene(rgb, target, ((32.0, 32.0),), True)
    probabilities = np.array([0.1, 0.1, 0.1, 0.1, 0.6], np.float32)
    return ImagePrediction(
        sample, scene, labels, True, Crop(rgb, prior, labels, target), probabilities, prior[0], probabilities
    )


def test_grad_cam_is_the_formula_of_the_paper() -> None:
    net, (rgb, prior) = Probe().eval(), inputs()
    told = np.array([0, 3, 4])
    maps = grad_cam(model_of(net), rgb, prior, told)
    for image, cell_type, found in zip(rgb, told, maps, strict=True):
        features = net.features(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255).detach()
        # the head is linear in the mean of squares: d logit / d A_k = 2 A_k w_k / (h w), averaged over the map
        weights = 2 * features.mean(dim=(2, 3)) * net.head.weight[int(cell_type)].detach()
        coarse = (weights[:, :, None, None] * features).sum(dim=1).relu()[0].numpy()
        fine = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(found, fine / fine.max(), atol=1e-4)


class Branched(nn.Module):
    """A net that classifies from the red light of each quarter of a pixel row and from the green of whole halves."""

    def __init__(self, fine: float, coarse: float) -> None:
        super().__init__()
        self.weights = fine, coarse
        self.branches = Branches()

    @property
    def cam_layer(self) -> nn.Module:
        return self.branches

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        fine, coarse = self.branches(avg_pool2d(image[:, :1], 4), avg_pool2d(image[:, 1:2], SIDE // 2))
        types = self.weights[0] * fine.mean(dim=(2, 3)) + self.weights[1] * coarse.mean(dim=(2, 3))
        return Prediction(torch.zeros(len(image), 3, SIDE, SIDE), types.expand(-1, 5), fine, types)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 3.0)])
def test_grad_cam_adds_up_what_every_branch_contributes(weights: tuple[float, float]) -> None:
    rgb = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    rgb[:, : SIDE // 2, :, 0], rgb[:, SIDE // 2 :, :, 1] = 200, 200
    (cam,) = grad_cam(model_of(Branched(*weights)), rgb, np.zeros((1, 1, SIDE, SIDE), np.float32), np.zeros(1, int))
    upper = np.zeros((SIDE, SIDE), bool)
    upper[: SIDE // 2] = True
    assert energy_share(cam, upper) == pytest.approx(weights[0] / sum(weights), abs=0.15)


def test_the_branches_of_the_network_explain_its_logit_together() -> None:
    torch.manual_seed(0)
    net, (rgb, prior) = build(SPEC), inputs(2)
    with_both = grad_cam(model_of(net), rgb, prior, np.array([1, 2]))
    width = SPEC.net.fusion_width
    with torch.no_grad():
        net.type_head.embed[1].weight[:, width:] = 0  # the head now ignores the deep features
    assert np.abs(grad_cam(model_of(net), rgb, prior, np.array([1, 2])) - with_both).max() > 0.05


def test_grad_cam_works_where_the_weights_are_frozen_and_leaves_no_gradients() -> None:
    net = Probe()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert grad_cam(model_of(net), *inputs(), np.zeros(3, int)).max() == 1
    assert all(parameter.grad is None for parameter in net.parameters())


def test_grad_cam_of_the_network_has_the_crops_size_and_range() -> None:
    torch.manual_seed(0)
    maps = grad_cam(model_of(build(SPEC)), *inputs(2), np.array([1, 2]))
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_nothing_in_favour_gives_an_empty_map() -> None:
    net = Probe()
    nn.init.zeros_(net.head.weight)
    maps = grad_cam(model_of(net), *inputs(), np.zeros(3, int))
    assert not maps.any()
    assert np.isnan(energy_share(maps[0], np.ones((SIDE, SIDE), bool)))


@given(seeds, st.floats(0.1, 10))
def test_energy_shares_of_a_partition_add_up_and_do_not_depend_on_scale(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    cam, cell = rng.random((9, 9)).astype(np.float32), rng.random((9, 9)) < 0.5
    cell[0, :2] = True, False
    share = energy_share(cam, cell)
    assert 0 <= share <= 1
    assert share + energy_share(cam, ~cell) == pytest.approx(1)
    assert energy_share((cam * scale).astype(np.float32), cell) == pytest.approx(share, rel=1e-5)


def test_a_share_is_corrected_for_the_size_of_the_cell() -> None:
    cell = np.zeros((10, 10), bool)
    cell[:2] = True
    assert share_beyond_chance(np.ones((10, 10), np.float32), cell) == pytest.approx(0, abs=1e-6)
    assert share_beyond_chance(cell.astype(np.float32), cell) == pytest.approx(1)
    assert share_beyond_chance((~cell).astype(np.float32), cell) == pytest.approx(-0.25)
    assert np.isnan(share_beyond_chance(np.ones((10, 10), np.float32), np.ones((10, 10), bool)))


class Looker(nn.Module):
    """A net whose first type is as probable as the pixels of its window are blue, or its prior is high."""

    def __init__(self, window: np.ndarray, prior_weight: float = 0) -> None:
        super().__init__()
        self.window, self.prior_weight = torch.from_numpy(window), prior_weight

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        seen = image[:, 2][:, self.window].mean(dim=1) + self.prior_weight * prior[:, 0][:, self.window].mean(dim=1)
        types = torch.stack([10 * seen, *[torch.zeros_like(seen)] * 4], dim=1)
        return Prediction(torch.zeros(len(image), 3, SIDE, SIDE), types, image[:, :1], types)


@pytest.mark.parametrize("prior_weight", [0.0, 1.0])
def test_occlusion_tells_a_type_read_from_the_cell_from_one_read_beside_it(prior_weight: float) -> None:
    (rgb,), (prior,) = inputs(1)
    crop = reading(rgb, prior).crop
    cell = np.zeros((SIDE, SIDE), bool)
    cell[18:46, 18:46] = True  # the cell of `reading` with its margin
    rgb[cell], rgb[~cell] = (0, 0, 200), (0, 0, 100)
    by_cell, by_surroundings, by_neither = (
        occlusion(model_of(Looker(window, prior_weight)), [crop], np.zeros(1, int))[0]
        for window in (cell, ~cell, np.zeros((SIDE, SIDE), bool) | True)
    )

    def probability(blue: float, seen_prior: float) -> float:
        return float(
            np.exp(10 * (blue / 255 + prior_weight * seen_prior))
            / (np.exp(10 * (blue / 255 + prior_weight * seen_prior)) + 4)
        )

    assert by_cell == pytest.approx(probability(200, prior[0][cell].mean()) - probability(100, 0), abs=1e-3)
    assert by_surroundings == pytest.approx(probability(100, 0) - probability(100, prior[0][~cell].mean()), abs=1e-3)
    assert by_surroundings - 1e-6 <= by_neither <= by_cell


@pytest.mark.parametrize("label", [0, 1])
def test_without_cell_or_background_there_is_nothing_to_cover(label: int) -> None:
    (rgb,), (prior,) = inputs(1)
    empty = np.full((SIDE, SIDE), label, np.uint8)
    crop = Crop(rgb, prior, empty, np.full((SIDE, SIDE), MAY_BE_ANYTHING, np.uint8))
    assert np.isnan(occlusion(model_of(Looker(empty == label)), [crop], np.zeros(1, int))[0])


def test_the_true_cell_counts_and_where_it_is_unknown_the_found_one() -> None:
    rgb, prior = inputs(1)
    crop = reading(rgb[0], prior[0]).crop
    moved = Crop(crop.rgb, crop.prior, np.roll(crop.labels, 5, axis=0), crop.target)
    np.testing.assert_array_equal(cell_of(moved), crop.labels > 0)
    unknown = Crop(crop.rgb, crop.prior, moved.labels, np.full_like(crop.target, 7))
    np.testing.assert_array_equal(cell_of(unknown), moved.labels > 0)


def test_explanations_come_in_order_and_nothing_comes_of_nothing() -> None:
    rgb, prior = inputs(2)
    readings = [reading(rgb[i], prior[i]) for i in range(2)]
    model = model_of(Probe())
    both = explain(model, readings)
    assert [one.prediction for one in both] == readings
    alone = explain(model, readings[1:])[0]
    np.testing.assert_allclose(both[1].cam, alone.cam, atol=1e-5)
    assert both[1].occlusion == pytest.approx(alone.occlusion, abs=1e-5)
    assert explain(model, []) == ()


@pytest.mark.parametrize("label", ["monocyte", None, r"a$b_{<x>\frac"])
def test_a_picture_has_a_row_an_image(tmp_path: Path, label: str | None) -> None:
    rgb, prior = inputs(3)
    cam = np.zeros((SIDE, SIDE), np.float32)
    rows = [Explanation(reading(rgb[i], prior[i], label), cam, float("nan"), 0.5) for i in range(3)]
    one = cv2.imread(str(draw_explanations(rows[:1], WBC5.classes, tmp_path / "one.png")))
    three = cv2.imread(str(draw_explanations(rows, WBC5.classes, tmp_path / "three.png")))
    assert one is not None
    assert three is not None
    assert three.shape[0] == pytest.approx(3 * one.shape[0], rel=0.02)
    assert three.shape[1] == one.shape[1]
    assert np.unique(three.reshape(-1, 3), axis=0).shape[0] > 100
