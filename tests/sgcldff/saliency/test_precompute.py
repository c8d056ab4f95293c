"""Priors of many images: computed once, in parallel, and gone on with after a kill."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sgcldff.cluster import connect
from sgcldff.core.records import Sample, samples_to_table
from sgcldff.core.settings import PriorSpec
from sgcldff.saliency.priors import build
from sgcldff.saliency.priors.gallery import prior_gallery
from sgcldff.saliency.priors.precompute import compute_priors
from sgcldff.saliency.store import PriorStore
from sgcldff.slides.images import read_rgb, rescale, sha256_of
from tests.sgcldff.saliency.smears import smear


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

    reasons = {failure.image: failure.reason for failure in failures}
    assert set(reasons) == {sample.image for sample in samples[1:]}
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
        assert part in reasons[sample.image]
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


@pytest.mark.slow
def test_the_gallery_shows_images_beside_their_priors(tmp_path):
    samples = write_samples(tmp_path, 3)
    ref, _ = compute_priors(samples, tmp_path / "priors", PriorSpec(("ramf", "mbplus")))
    path = prior_gallery(samples, PriorStore.open(ref), tmp_path / "gallery" / "priors.png")
    picture = read_rgb(path)
    assert picture.shape[0] > 100
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
