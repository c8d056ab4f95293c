"""Training examples: image, prior and target move together; sampling is balanced, complete and reproducible."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sgcldff.core.errors import InputError
from sgcldff.core.label_codes import MAY_BE_ANYTHING, MAY_BE_BACKGROUND, MAY_BE_CELL, MAY_BE_NUCLEUS
from sgcldff.core.labels import WBC5, WBC11
from sgcldff.core.records import MaskCode, Sample, Split
from sgcldff.core.settings import ModelSpec, TrainSpec
from sgcldff.models.training.batches import EpochSampler, SmearDataModule, balanced_weights
from sgcldff.models.training.examples import (
    ExampleOptions,
    SampleKey,
    SmearDataset,
    centre_view,
    pseudo_target,
    random_view,
    read_scene,
)


def sample_of(tmp_path, grey, name="a", **known):
    rgb = np.repeat(255 - grey[..., None], 3, axis=2).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / f"{name}.png")
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / f"{name}_mask.png")
    given = {"mask": str(tmp_path / f"{name}_mask.png"), "mask_code": MaskCode(64, 200)} | known
    return Sample(f"t/{name}", "t", name, str(tmp_path / f"{name}.png"), 0.2, "none", **given)


def disc(side=120, centre=(60, 60), radius=30):
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.select([distance < radius / 2, distance < radius], [255, 128], 0)


def test_masks_become_bits_and_centres(tmp_path):
    scene = read_scene(sample_of(tmp_path, disc(centre=(50, 70))), 0.2)
    assert set(np.unique(scene.target)) == {1, 2, 4}
    assert scene.centres == (pytest.approx((50, 70), abs=0.5),)
    assert scene.label_is_first


def test_a_mask_without_nucleus_leaves_it_open(tmp_path):
    scene = read_scene(sample_of(tmp_path, disc(), mask_code=MaskCode(1, None)), 0.2)
    assert set(np.unique(scene.target)) == {1, 6}


def test_boxes_define_background_only_outside(tmp_path):
    boxed = sample_of(tmp_path, disc(), mask=None, mask_code=None, boxes=((30, 20, 90, 100),))
    scene = read_scene(boxed, 0.2)
    assert (scene.target[20:100, 30:90] == 7).all()
    assert (scene.target == 7).sum() == 80 * 60
    assert scene.centres == ((60.0, 60.0),)


def test_points_and_no_annotation_leave_all_pixels_open(tmp_path):
    for boxes, centres in ((((40, 30, 40, 30),), ((30.0, 40.0),)), (None, ((59.5, 59.5),))):
        scene = read_scene(sample_of(tmp_path, disc(), mask=None, mask_code=None, boxes=boxes), 0.2)
        assert (scene.target == 7).all()
        assert scene.centres == centres


def test_a_label_does_not_apply_to_one_of_several_cells_in_a_field(tmp_path):
    two = np.maximum(disc(200, (50, 50), 20), disc(200, (150, 150), 20))
    boxes = ((30, 30, 70, 70), (130, 130, 170, 170))
    assert not read_scene(sample_of(tmp_path, two, boxes=boxes), 0.2).label_is_first
    off_centre = np.maximum(disc(200, (95, 105), 20), disc(200, (20, 20), 15))
    crop = read_scene(sample_of(tmp_path, off_centre, "b"), 0.2)
    assert crop.label_is_first
    assert crop.centres[0] == pytest.approx((95, 105), abs=1)


def test_a_scene_has_the_models_scale(tmp_path):
    scene = read_scene(replace(sample_of(tmp_path, disc()), mpp=0.1), 0.2)
    assert scene.rgb.shape == (60, 60, 3)
    assert scene.target.shape == (60, 60)


def test_mask_of_another_size_names_both(tmp_path):
    bad = sample_of(tmp_path, disc())
    Image.fromarray(np.zeros((50, 40), np.uint8)).save(bad.mask)
    with pytest.raises(InputError, match=r"\(50, 40\).*\(120, 120\)"):
        read_scene(bad, 0.2)


@given(st.integers(0, 2**32))
def test_image_and_target_are_transformed_alike(seed):
    grey = disc(120, (70, 45), 25)
    target = np.select([grey == 255, grey == 128], [4, 2], 1).astype(np.uint8)
    rgb = np.repeat(np.select([target == 4, target == 2], [0, 120], 255)[..., None], 3, axis=2).astype(np.uint8)
    from sgcldff.models.training.examples import Scene

    view = random_view(Scene(rgb, target, ((70.0, 45.0),), label_is_first=True), True, 64, np.random.default_rng(seed))
    seen, cut = view.cut(rgb)[..., 0], view.cut_target(target)
    known = cut != 7
    agree = (((seen < 60) == (cut == 4)) & ((seen > 190) == (cut == 1)))[known]
    assert agree.mean() > 0.93


def test_examples_are_repeatable_and_differ_between_epochs(smears):
    catalog, priors = smears
    data = SmearDataset(catalog.samples, priors, ModelSpec(labels=WBC5, crop_px=64), ExampleOptions(1.0))
    first, again, later = data[SampleKey(3, (0, 1, 3))], data[SampleKey(3, (0, 1, 3))], data[SampleKey(3, (0, 2, 3))]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.image, later.image)
    assert first.image.shape == (3, 64, 64)
    assert first.image.min() >= 0
    assert first.image.max() <= 1


@given(st.floats(0, 1), st.floats(0, 1))
def test_pseudo_targets_are_monotonic_in_the_prior(low, high):
    less, more = sorted((low, high))
    target = pseudo_target(np.array([[[less, more]]], np.float32))[0]
    order = [MAY_BE_BACKGROUND, MAY_BE_ANYTHING, MAY_BE_CELL, MAY_BE_NUCLEUS]
    assert set(target) <= set(order)
    assert order.index(target[0]) <= order.index(target[1])


def test_pseudo_targets_apply_only_without_mask_and_boxes(smears):
    catalog, priors = smears
    masked = catalog.samples[0]
    bare = replace(masked, mask=None, mask_sha256="", boxes=None)
    empty = replace(bare, boxes=())
    spec, keys = ModelSpec(labels=WBC5, crop_px=64), [SampleKey(index, None) for index in range(3)]

    def targets(options):
        data = SmearDataset([masked, bare, empty], priors, spec, options)
        return [data[key].target.numpy() for key in keys]

    taught, untaught = targets(ExampleOptions(from_prior=True)), targets(ExampleOptions())
    assert np.array_equal(taught[0], untaught[0])
    assert np.array_equal(taught[2], untaught[2])
    assert (untaught[1] == MAY_BE_ANYTHING).all()
    assert (taught[1] == MAY_BE_NUCLEUS).any()
    known = (taught[1] != MAY_BE_ANYTHING) & (taught[0] != MAY_BE_ANYTHING)
    assert ((taught[1] & taught[0])[known] > 0).mean() > 0.95


def test_warm_up_examples_use_only_the_prior_as_target_and_hide_it(smears):
    catalog, priors = smears
    data = SmearDataset(
        catalog.samples, priors, ModelSpec(labels=WBC5, crop_px=64), ExampleOptions(from_prior=True, prior_epochs=2)
    )
    for place in range(len(catalog.samples)):
        warm, later = data[SampleKey(place, (0, 1, place))], data[SampleKey(place, (0, 2, place))]
        assert not warm.prior.any()
        assert warm.allowed.all()
        assert later.prior.any()
    assert data[SampleKey(0, None)].prior.any()


class NoPrior:
    """A store whose priors are high everywhere."""

    def __init__(self, shape):
        self.prior = np.ones((1, *shape), np.float32)

    def read(self, sha256):
        return self.prior


def crops(sample, labels, n=60, from_prior=False, shape=(400, 400)):
    data = SmearDataset([sample], NoPrior(shape), ModelSpec(labels=labels), ExampleOptions(from_prior=from_prior))
    return [data[SampleKey(0, (1, 0, k))] for k in range(n)]


def test_a_crop_off_the_cells_of_a_mask_shows_no_white_cell(tmp_path):
    field = sample_of(tmp_path, disc(side=400, centre=(80, 80)), label="monocyte")
    none, monocyte = (WBC11.allowed(name).tolist() for name in ("no white cell", "monocyte"))
    found = Counter()
    for item in crops(field, WBC11, n=150):
        at_centre = (item.target[30:98, 30:98] == MAY_BE_BACKGROUND).all()
        found[str(item.allowed.tolist() == none), bool(at_centre)] += 1
        assert item.allowed.tolist() in (none, monocyte, [True] * 11)
    assert found["True", True] >= 3
    assert found["True", False] == found["False", True] == 0
    assert all(item.allowed.tolist() in ([True] * 5, WBC5.allowed("monocyte").tolist()) for item in crops(field, WBC5))
    unmasked = replace(field, mask=None, mask_code=None)
    assert all(item.allowed.tolist() in (monocyte, [True] * 11) for item in crops(unmasked, WBC11, from_prior=True))


@pytest.mark.parametrize("label", ["no white cell", "platelet"])
def test_an_image_without_a_white_cell_is_background_whatever_the_prior_shows(tmp_path, label):
    clump = sample_of(tmp_path, disc(side=400), label=label, mask=None, mask_code=None)
    shown = crops(clump, WBC11, n=10, from_prior=True)
    assert all(set(item.target.unique().tolist()) <= {MAY_BE_BACKGROUND, MAY_BE_ANYTHING} for item in shown)
    assert any((item.target == MAY_BE_BACKGROUND).all() for item in shown)
    cell = replace(clump, label="erythroblast")
    assert any((item.target == MAY_BE_NUCLEUS).any() for item in crops(cell, WBC11, n=10, from_prior=True))


def test_the_centre_view_is_centred_on_the_cell(tmp_path):
    scene = read_scene(sample_of(tmp_path, disc(centre=(40, 75))), 0.2)
    ys, xs = np.nonzero(centre_view(scene, 64).cut_target(scene.target) == 4)
    assert (ys.mean(), xs.mean()) == pytest.approx((31.5, 31.5), abs=1)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 99), st.integers(0, 5))
def test_unbalanced_epochs_show_every_sample(n, batch, seed, epoch):
    sampler = EpochSampler(np.full(n, 1 / n), batch, seed)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    assert len(keys) % batch == 0
    assert {key.index for key in keys} == set(range(n))
    assert [key.seed for key in keys] == [(seed, epoch, position) for position in range(len(keys))]


def test_an_interrupted_epoch_resumes_where_it_stopped():
    sampler = EpochSampler(np.full(20, 1 / 20), 4, 0)
    epoch = list(sampler)
    sampler.resume_at(2)
    assert list(sampler) == epoch[8:]
    assert list(sampler) == epoch


def test_balance_evens_out_classes(tmp_path):
    samples = [replace(sample_of(tmp_path, disc()), label=label) for label in ["neutrophil"] * 90 + ["basophil"] * 10]
    drawn = EpochSampler(balanced_weights(samples, 1.0), 100, 0).indices()
    counts = Counter(samples[index].label for index in drawn)
    assert counts["basophil"] == pytest.approx(50, abs=1)


def test_no_training_split_is_an_error(smears):
    catalog, priors = smears
    tests = [replace(sample, split=Split.TEST) for sample in catalog.samples]
    with pytest.raises(InputError, match="training split"):
        SmearDataModule(tests, priors, ModelSpec(), TrainSpec())
