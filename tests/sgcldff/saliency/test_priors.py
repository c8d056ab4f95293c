"""Saliency priors: values, robustness, oracles; and computing them for many images, killed or not."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from sklearn.metrics import roc_auc_score

from sgcldff.cluster import connect
from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample, samples_to_table
from sgcldff.core.settings import PriorSpec
from sgcldff.saliency.priors import PRIORS, build, register
from sgcldff.saliency.priors.frequency_tuned import FrequencyTuned, lab
from sgcldff.saliency.priors.gallery import prior_gallery
from sgcldff.saliency.priors.minimum_barrier import minimum_barrier
from sgcldff.saliency.priors.precompute import compute_priors
from sgcldff.saliency.priors.ramf import Ramf, fit_statistics
from sgcldff.saliency.priors.resize import decimate, enlarge
from sgcldff.saliency.store import PriorStore
from sgcldff.slides.images import read_rgb, rescale, sha256_of

ALL = tuple(sorted(PRIORS))
PLASMA, RED_CELL, CYTOPLASM, NUCLEUS = (236, 228, 224), (214, 150, 148), (168, 142, 196), (92, 48, 130)


def smear(shape=(200, 260), cells=((70, 80), (130, 190)), seed=0):
    """Draw red cells everywhere and white cells 64 px wide; gives the image, the cells' and the nuclei's mask."""
    rng = np.random.default_rng(seed)
    image = np.full((*shape, 3), PLASMA, np.uint8)
    for y, x in rng.integers(0, shape, (25, 2)):
        cv2.circle(image, (int(x), int(y)), 15, RED_CELL, -1, cv2.LINE_AA)
    cell, nucleus = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for y, x in cells:
        for canvas, inner, outer in ((image, NUCLEUS, CYTOPLASM), (cell, 1, 1), (nucleus, 1, 0)):
            cv2.circle(canvas, (x, y), 32, outer, -1)
            cv2.circle(canvas, (x + 4, y), 20, inner, -1)
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), cell.astype(bool), nucleus.astype(bool)


@st.composite
def images(draw):
    height, width = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    seed, kind = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(["noise", "uniform", "two", "black", "white"]))
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    colours = {"black": np.zeros((2, 3)), "white": np.full((2, 3), 255)}.get(kind, rng.integers(0, 256, (2, 3)))
    pattern = rng.integers(0, 2, (height, width)) if kind == "two" else np.zeros((height, width), int)
    return colours.astype(np.uint8)[pattern]


@settings(max_examples=60, deadline=None)
@given(image=images(), overview=images(), mpp=st.sampled_from([0.03, 0.07, 0.2, 1.0, 8.0]))
@pytest.mark.parametrize("name", ALL)
def test_every_image_gets_finite_values_in_0_to_1(name, image, overview, mpp):
    stack = build(PriorSpec((name,), mpp=mpp))
    for prior in (stack, stack.fit(overview)):
        saliency = prior(image)
        assert saliency.dtype == np.float32
        assert saliency.shape == (1, *image.shape[:2])
        assert np.isfinite(saliency).all()
        assert saliency.min() >= 0
        assert saliency.max() <= 1


@pytest.mark.parametrize("name", ALL)
def test_priors_are_deterministic_and_leave_the_image_unchanged(name):
    image, _, _ = smear()
    before, prior = image.copy(), build(PriorSpec((name,)))
    np.testing.assert_array_equal(prior(image), prior(image))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("name", "cells", "nuclei"),
    [("ramf", 0.99, 0.99), ("mbplus", 0.97, 0.97), ("frequency_tuned", 0.85, 0.97), ("spectral_residual", 0.6, 0.6)],
)
def test_white_cells_stand_out_from_red_ones(name, cells, nuclei):
    image, cell, nucleus = smear()
    saliency = build(PriorSpec((name,)))(image)[0]
    assert roc_auc_score(cell.ravel(), saliency.ravel()) >= cells
    assert roc_auc_score(nucleus.ravel(), saliency.ravel()) >= nuclei


@pytest.mark.parametrize("name", ["ramf", "frequency_tuned", "mbplus"])
def test_cells_are_found_at_any_scale_of_the_image(name):
    image, cell, _ = smear()
    for factor in (0.5, 2, 3):
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        truth = cv2.resize(cell.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        saliency = build(PriorSpec((name,), mpp=0.2 / factor))(scaled)[0]
        assert roc_auc_score(truth.ravel(), saliency.ravel()) > 0.85


def test_a_stack_gives_its_priors_in_the_order_of_the_spec():
    image, _, _ = smear()
    both = build(PriorSpec(("mbplus", "ramf")))(image)
    np.testing.assert_array_equal(both[0], build(PriorSpec(("mbplus",)))(image)[0])
    np.testing.assert_array_equal(both[1], build(PriorSpec(("ramf",)))(image)[0])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_than_rgb_images_are_refused(image):
    stack = build(PriorSpec())
    for use in (stack, stack.fit):
        with pytest.raises(InputError, match="uint8 images of shape"):
            use(image)


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(InputError, match=r"'rmaf' is unknown: name one of .*ramf"):
        build(PriorSpec(("rmaf",)))
    with pytest.raises(InputError, match="registered twice"):
        register("ramf")(Ramf)


def test_a_new_prior_needs_only_the_decorator(monkeypatch):
    class Half:
        def __init__(self, cell_px):
            self.cell_px = cell_px

        def __call__(self, rgb):
            return np.full(rgb.shape[:2], 0.5, np.float32)

        def fit(self, overview):
            return self

    monkeypatch.setattr("sgcldff.saliency.priors.registry.PRIORS", dict(PRIORS))
    register("half")(Half)

    saliency = build(PriorSpec(("half", "ramf")))(smear()[0])
    np.testing.assert_array_equal(saliency[0], np.full((200, 260), 0.5, np.float32))


# RAMF


def ramf_by_the_book(image, cell_px):
    """Follow the six steps in plain floating point, one pixel at a time where it matters."""
    pixels = image.reshape(-1, 3).astype(float)
    density = np.log((np.percentile(pixels, 97, axis=0) + 1) / (pixels + 1))
    red, green, blue = density.T
    contrast = green - (blue + red) / 2
    background = density[contrast <= np.quantile(contrast, 0.75, method="lower")]
    centred = background - background.mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred / len(centred) + 5e-4 * np.eye(3))
    signature = np.array([0.4, 0.7, 0.0])
    weights = inverse @ signature / (signature @ inverse @ signature)
    response = np.maximum(0, (density - background.mean(axis=0)) @ weights).reshape(image.shape[:2])
    core = response**2 / (response**2 + 0.25)
    return (core + ndimage.gaussian_filter(core, 0.2 * cell_px, mode="mirror")) / 2


def test_ramf_follows_its_description():
    image, _, _ = smear()
    small = decimate(image, 2)
    saliency = Ramf(32.0)(small)
    np.testing.assert_allclose(saliency, ramf_by_the_book(small, 32.0), atol=3e-3)


def test_ramf_shrinks_by_an_integer_and_never_enlarges():
    assert [Ramf(width).factor for width in (5, 32, 47, 49, 67, 180)] == [1, 1, 1, 2, 2, 6]


def test_frozen_statistics_do_not_depend_on_what_else_is_in_a_tile():
    image, _, _ = smear()
    fitted = Ramf(64.0).fit(image)
    whole, part = fitted(image), fitted(image[:, :180])
    np.testing.assert_allclose(part[:, :120], whole[:, :120], atol=1e-6)
    assert np.abs(Ramf(64.0)(image[:, :180])[:, :120] - Ramf(64.0)(image)[:, :120]).max() > 1e-3


def test_statistics_of_an_overview_serve_at_full_scale():
    image, cell, _ = smear()
    overview = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    saliency = Ramf(64.0).fit(overview)(image)
    assert roc_auc_score(cell.ravel(), saliency.ravel()) > 0.98
    assert saliency[~cell].mean() < 0.1 < saliency[cell].mean()


def test_a_field_without_white_cells_stays_dark_with_the_slides_statistics():
    image, cell, _ = smear()
    empty, _, _ = smear(cells=(), seed=3)
    fitted = Ramf(64.0).fit(image)
    assert fitted(empty).max() < 0.15 < fitted(image)[cell].mean()


def test_statistics_of_a_large_overview_are_sampled_alike():
    image, _, _ = smear((900, 1100), [(200, 300), (500, 700)])
    large, small = fit_statistics(image), fit_statistics(image[::2, ::2])
    np.testing.assert_allclose(large.mean, small.mean, atol=0.01)
    np.testing.assert_allclose(large.weights, small.weights, atol=0.15)


# Others


def test_frequency_tuned_is_the_distance_to_the_mean_colour():
    image, _, _ = smear()
    colours = rgb2lab(image)
    smooth = cv2.GaussianBlur(colours, (5, 5), 0)
    distance = np.linalg.norm(smooth - colours.mean(axis=(0, 1)), axis=2)
    saliency = FrequencyTuned(32.0)(image)
    np.testing.assert_allclose(saliency / (1 - saliency) * 30, distance, atol=0.5)
    np.testing.assert_allclose(lab(image), colours, atol=0.3)


def exact_barrier(image):
    """Try every lower bound: below the best path's highest value, the border is reached through values in between."""
    levels, best = np.unique(image), np.full(image.shape, np.inf)
    for low in levels:
        for high in levels[levels >= low]:
            regions, _ = ndimage.label((image >= low) & (image <= high))
            rim = np.ones(image.shape, bool)
            rim[1:-1, 1:-1] = False
            reached = (regions > 0) & np.isin(regions, regions[rim & (regions > 0)])
            best[reached] = np.minimum(best[reached], high - low)
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_minimum_barrier_is_that_of_a_real_path(seed, height, width):
    image = np.random.default_rng(seed).integers(0, 6, (height, width)).astype(np.float32)
    found = minimum_barrier(image[None])[0]
    exact = exact_barrier(image)
    assert (found >= exact).all()
    assert (found - exact).mean() <= 1


def test_minimum_barrier_of_a_disc_is_its_contrast():
    image = np.zeros((1, 40, 40), np.float32)
    cv2.circle(image[0], (20, 20), 10, 7, -1)
    np.testing.assert_array_equal(minimum_barrier(image), image)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 5))
def test_decimation_averages_whole_blocks_and_enlargement_keeps_the_size(height, width, factor):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = decimate(image, factor)
    assert small.shape == (-(-height // factor), -(-width // factor), 3)
    if height >= factor and width >= factor:
        block = image[:factor, :factor].astype(float).mean(axis=(0, 1))
        assert np.abs(small[0, 0] - block).max() <= 0.51
    back = enlarge(np.full(small.shape[:2], 0.25, np.float32), factor, (height, width))
    np.testing.assert_array_equal(back, np.full((height, width), 0.25, np.float32))


# Many images


def write_samples(folder, count=8, seed=0):
    rng, samples = np.random.default_rng(seed), []
    for number in range(count):
        height, width = (int(side) for side in rng.integers(60, 200, 2))
        path = folder / f"{seed}-{number}.png"
        Image.fromarray(smear((height, width), ((30, 30),), seed=100 * seed + number)[0]).save(path)
        samples.append(sample_of(path))
    return samples


def sample_of(path, mpp=0.15):
    width, height = Image.open(path).size
    known = {"id": f"t/{path.stem}", "source": "t", "group": path.stem, "image": str(path), "licence": "CC0-1.0"}
    return Sample(**known, mpp=mpp, sha256=sha256_of(path), height=height, width=width)


def test_computed_priors_are_those_of_the_rescaled_image(tmp_path):
    samples = write_samples(tmp_path)
    spec, seen = PriorSpec(("ramf", "frequency_tuned")), []
    ref, failures = compute_priors(samples, tmp_path / "priors", spec, progress=lambda *counts: seen.append(counts))

    store = PriorStore.open(ref)
    for sample in samples:
        expected = build(spec)(rescale(read_rgb(sample.image), sample.mpp, spec.mpp))
        np.testing.assert_allclose(store.read(sample.sha256), expected, atol=0.5 / 255 + 1e-6)
    assert failures == ()
    assert seen[-1] == (len(samples), len(samples))


def test_only_missing_priors_are_computed(tmp_path, monkeypatch):
    samples = write_samples(tmp_path, 4)
    first, _ = compute_priors(samples, tmp_path / "priors", PriorSpec())
    monkeypatch.setattr(
        "sgcldff.saliency.priors.precompute.read_rgb", lambda path: pytest.fail(f"{path} was read again")
    )
    again, _ = compute_priors([*samples, samples[0]], tmp_path / "priors", PriorSpec())
    assert again == first

    monkeypatch.undo()
    more = write_samples(tmp_path, 2, seed=1)
    grown, _ = compute_priors([*samples, *more], tmp_path / "priors", PriorSpec())
    assert grown.digest != first.digest
    assert len(PriorStore.open(grown)) == 6


def test_unusable_images_are_skipped_and_the_rest_continues(tmp_path):
    good, cut, changed, gone, resized, blank, scaleless = write_samples(tmp_path, 7)
    whole = Path(cut.image).read_bytes()
    Path(cut.image).write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (changed.width, changed.height)).save(changed.image)
    Path(gone.image).unlink()
    samples = [
        good,
        cut,
        changed,
        gone,
        replace(resized, height=resized.height + 1),
        replace(blank, sha256=""),
        replace(scaleless, mpp=0.0),
    ]
    ref, failures = compute_priors(samples, tmp_path / "priors", PriorSpec())

    reasons = {failure.sample_id: failure.reason for failure in failures}
    assert set(reasons) == {sample.id for sample in samples[1:]}
    assert all(failure.image for failure in failures)
    for sample, part in zip(
        samples[1:],
        [
            "not a readable image",
            "changed since",
            "no such file",
            "manifest says",
            "ingest the image first",
            "mpp is 0",
        ],
        strict=True,
    ):
        assert part in reasons[sample.id]
    assert PriorStore.open(ref).missing(sample.sha256 for sample in samples) == tuple(
        sample.sha256 for sample in samples[1:]
    )


@pytest.mark.slow
def test_dask_computes_the_same_as_a_single_process(tmp_path):
    samples = write_samples(tmp_path, 10)
    Path(samples[3].image).write_bytes(b"")
    alone, failed_alone = compute_priors(samples, tmp_path / "alone", PriorSpec())
    with connect(workers=2) as client:
        shared, failed = compute_priors(samples, tmp_path / "shared", PriorSpec(), client)

    assert shared.digest == alone.digest
    assert failed == failed_alone
    one, two = PriorStore.open(alone), PriorStore.open(shared)
    for sample in samples[:3] + samples[4:]:
        np.testing.assert_array_equal(one.read(sample.sha256), two.read(sample.sha256))


RUN = """
import sys, time
from pathlib import Path
import pyarrow.parquet as pq
import sgcldff.saliency.store
from sgcldff.saliency.priors import precompute
from sgcldff.core.records import samples_from_table
from sgcldff.core.settings import PriorSpec

folder, manifest, log = map(Path, sys.argv[1:])
sgcldff.saliency.store.SHARD_IMAGES = 2
compute = precompute._image_priors

def logged(stack, sample, spec):
    with log.open("a") as file:
        file.write(sample.sha256 + "\\n")
    time.sleep(0.02)
    return compute(stack, sample, spec)

precompute._image_priors = logged
precompute.compute_priors(samples_from_table(pq.read_table(manifest)), folder, PriorSpec())
"""


@pytest.mark.slow
def test_a_killed_run_resumes_without_recomputing_committed_priors(tmp_path):
    samples = write_samples(tmp_path, 24)
    pq.write_table(samples_to_table(samples), tmp_path / "manifest.parquet")
    log = tmp_path / "log"
    log.touch()
    command = [sys.executable, "-c", RUN, tmp_path / "priors", tmp_path / "manifest.parquet", log]

    for wanted in (5, 11):
        log.write_text("")
        run = subprocess.Popen(command)
        while len(log.read_text().split()) < wanted - 2:
            assert run.poll() is None
            time.sleep(0.002)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        committed = set(PriorStore.create_or_open(tmp_path / "priors", PriorSpec()).entries)
        assert 0 < len(committed) < len(samples)

    files = {path: path.read_bytes() for path in (tmp_path / "priors").rglob("c/*/0/0/0")}
    log.write_text("")
    subprocess.run(command, check=True)
    assert set(log.read_text().split()) == {sample.sha256 for sample in samples} - committed

    resumed = PriorStore.create_or_open(tmp_path / "priors", PriorSpec())
    undisturbed = PriorStore.open(compute_priors(samples, tmp_path / "undisturbed", PriorSpec())[0])
    assert resumed.ref.digest == undisturbed.ref.digest
    assert all(path.read_bytes() == content for path, content in files.items())
    for sample in samples:
        np.testing.assert_array_equal(resumed.read(sample.sha256), undisturbed.read(sample.sha256))


def test_the_gallery_shows_images_beside_their_priors(tmp_path):
    samples = write_samples(tmp_path, 3)
    ref, _ = compute_priors(samples, tmp_path / "priors", PriorSpec(("ramf", "mbplus")))
    path = prior_gallery(samples, PriorStore.open(ref), tmp_path / "gallery" / "priors.png")
    picture = read_rgb(path)
    assert picture.shape[0] > 100
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
