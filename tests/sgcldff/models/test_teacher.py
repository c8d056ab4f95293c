"""A teacher outlines what masks leave open: what it rules out, what it may not change, and when it is not asked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.core.label_codes import (
    MAY_BE_ANYTHING,
    MAY_BE_BACKGROUND,
    MAY_BE_CELL,
    MAY_BE_CYTOPLASM,
    MAY_BE_NUCLEUS,
)
from sgcldff.core.labels import WBC5, WBC11
from sgcldff.core.records import Sample
from sgcldff.core.settings import ModelSpec, PriorSpec
from sgcldff.models.model import Model
from sgcldff.models.nets.base import Prediction
from sgcldff.models.training.examples import ExampleOptions, SampleKey, SmearDataset
from sgcldff.models.training.teacher import RULED_OUT, Teacher

SPEC = ModelSpec(labels=WBC5, crop_px=64)
SIDE = 96


class ByColour(nn.Module):
    """A net that is sure of what it sees by red light: none is nucleus, half cytoplasm, full background."""

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        red = image[:, 0]
        segmentation = torch.stack([red, 0.75 - (red - 0.5).abs(), 1 - red], dim=1) * 100
        nothing = torch.zeros(len(image), 5)
        return Prediction(segmentation, nothing, prior[:, :1], nothing)


class Undecided(ByColour):
    """A net that gives every pixel the same probabilities."""

    def __init__(self, probabilities: tuple[float, float, float]) -> None:
        super().__init__()
        self.logits = torch.tensor(probabilities).log()[None, :, None, None]

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        seen = super().forward(image, prior)
        return replace(seen, segmentation=self.logits.expand(len(image), 3, *image.shape[2:]))


def teacher_of(net: nn.Module, **spec: object) -> Teacher:
    return Teacher(Model(replace(SPEC, **spec), net.eval(), torch.device("cpu")), SPEC)


def cell() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image of a cell, with its nucleus and its cytoplasm."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(y - 48, x - 48)
    rgb = np.repeat(np.select([distance < 10, distance < 34], [0, 128], 255)[..., None], 3, axis=2).astype(np.uint8)
    return rgb, distance < 10, (distance >= 10) & (distance < 34)


PLAIN = SampleKey(0, None)
PRIOR = np.zeros((1, SIDE, SIDE), np.float32)


def test_an_open_target_becomes_what_the_teacher_sees() -> None:
    rgb, nucleus, cytoplasm = cell()
    target = teacher_of(ByColour()).refine(rgb, PRIOR, np.full((SIDE, SIDE), MAY_BE_ANYTHING, np.uint8))
    assert target is not None
    assert (target[nucleus] == MAY_BE_NUCLEUS).all()
    assert (target[cytoplasm] == MAY_BE_CYTOPLASM).all()
    assert (target[~nucleus & ~cytoplasm] == MAY_BE_BACKGROUND).all()


def test_near_a_nucleus_cytoplasm_stays_possible() -> None:
    rgb, _, cytoplasm = cell()
    rgb[cytoplasm] = 255  # pale: the teacher takes it for background
    target = teacher_of(ByColour()).refine(rgb, PRIOR, np.full((SIDE, SIDE), MAY_BE_ANYTHING, np.uint8))
    assert target is not None
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(y - 48, x - 48)
    assert (target[(distance > 11) & (distance < 23)] == MAY_BE_BACKGROUND | MAY_BE_CYTOPLASM).all()
    assert (target[distance > 27] == MAY_BE_BACKGROUND).all()


def test_a_mask_is_never_contradicted() -> None:
    rgb, nucleus, _ = cell()
    target = np.where(nucleus, MAY_BE_BACKGROUND, MAY_BE_CELL).astype(np.uint8)
    refined = teacher_of(ByColour()).refine(rgb, PRIOR, target)
    assert refined is not None
    assert (refined[nucleus] == MAY_BE_BACKGROUND).all()
    assert (refined[0] == MAY_BE_CELL).all()  # the teacher sees background there, which the mask rules out


@given(st.tuples(*[st.floats(0.001, 1)] * 3), st.integers(1, 7))
def test_classes_below_the_limit_are_ruled_out_and_no_others(weights: tuple[float, ...], bits: int) -> None:
    total = sum(weights)
    probabilities = tuple(weight / total for weight in weights)
    if any(abs(p - RULED_OUT) < 1e-4 for p in probabilities):
        return
    possible = sum(1 << k for k, p in enumerate(probabilities) if p >= RULED_OUT)
    rgb = np.zeros((8, 8, 3), np.uint8)
    refined = teacher_of(Undecided(probabilities)).refine(rgb, PRIOR[:, :8, :8], np.full((8, 8), bits, np.uint8))
    if possible != MAY_BE_NUCLEUS:
        assert refined is None  # no pixel is surely a nucleus
    else:
        assert refined is not None
        assert set(np.unique(refined)) == {bits & possible or bits}


@pytest.mark.parametrize("difference", [{"mpp": 0.25}, {"prior": PriorSpec(names=("mbplus",))}])
def test_a_teacher_of_another_scale_or_prior_is_refused(difference: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"was trained with (scale 0\.25 um/px|prior mbplus).*name another teacher"):
        teacher_of(ByColour(), **difference)


class Priors:
    """A store with the same prior for every image."""

    def read(self, sha256: str) -> np.ndarray:
        return PRIOR


def test_examples_are_taught_where_nothing_else_says_more(tmp_path) -> None:
    rgb, nucleus, _ = cell()
    path = str(tmp_path / "cell.png")
    Image.fromarray(rgb).save(path)
    bare = Sample("t/a", "t", "a", path, 0.2, "none", label="monocyte")
    clump = replace(bare, id="t/b", label="platelet")

    def targets(sample: Sample, options: ExampleOptions, net: nn.Module, key: SampleKey = PLAIN) -> np.ndarray:
        spec = ModelSpec(labels=WBC11, crop_px=64)
        data = SmearDataset([sample], Priors(), spec, options, teacher_of(net))
        return data[key].target.numpy()

    asked = ExampleOptions(from_prior=True, prior_epochs=1)
    assert (targets(bare, asked, ByColour()) == MAY_BE_NUCLEUS).sum() == nucleus.sum()
    assert (targets(clump, asked, ByColour()) == MAY_BE_BACKGROUND).all()
    warm = targets(bare, asked, ByColour(), SampleKey(0, (0, 0, 0)))
    assert not (warm == MAY_BE_NUCLEUS).any()  # the prior, 0 everywhere, is what teaches at first
    blind = targets(bare, asked, Undecided((0.4, 0.3, 0.3)))
    assert (blind == MAY_BE_BACKGROUND).all()  # so is it where the teacher finds no nucleus
