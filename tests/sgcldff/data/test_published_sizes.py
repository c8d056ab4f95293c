"""Resized copies of data sets, whose scale is not the published one."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgcldff.core.records import Sample
from sgcldff.data.adapters import ADAPTERS, Source, detect
from sgcldff.data.catalog import ingest

FITTING = {
    "all_idb2": [(257, 257), (257, 193), (193, 257), (256, 256)],
    "bccd": [(640, 480)],
    "cellavision": [(300, 300)],
    "jtsc": [(120, 120), (88, 88), (120, 96)],
    "krd_wbc": [(512, 512)],
    "lisc": [(720, 576)],
    "pbc": [(360, 363), (366, 369), (360, 360)],
    "raabin": [(575, 575)],
}
RESIZED = {
    "all_idb2": [(128, 128), (224, 224), (512, 512), (257, 100)],
    "bccd": [(416, 416), (640, 640), (320, 240), (480, 640)],
    "cellavision": [(120, 120)],
    "jtsc": [(60, 60), (300, 300), (224, 224)],
    "krd_wbc": [(256, 256), (1024, 1024)],
    "lisc": [(360, 288)],
    "pbc": [(128, 128), (224, 224), (320, 320)],
    "raabin": [(224, 224), (300, 300)],
}


@pytest.mark.parametrize("name", FITTING)
def test_published_images_fit_and_resized_ones_do_not(name):
    size = ADAPTERS[name].published
    assert all(size.fits(*shape) for shape in FITTING[name])
    assert not any(size.fits(*shape) for shape in RESIZED[name])


def noise(path: Path, width: int, height: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), np.uint8)
    Image.fromarray(coarse).resize((width, height)).save(path, quality=95)


def test_shrunk_copies_of_pbc_are_quarantined_unless_their_scale_is_given(tmp_path):
    for number in range(4):
        width, height = (128, 128) if number == 3 else (360, 363)
        noise(tmp_path / f"pbc/basophil/BA_{number}.jpg", width, height, seed=number)
    catalog = ingest([Source("pbc", str(tmp_path / "pbc"))], tmp_path / "catalog")
    assert [sample.id[-1] for sample in catalog.samples] == ["0", "1", "2"]
    ((image, reason),) = [(row["image"], row["reason"]) for row in catalog.quarantine.to_pylist()]
    assert image.endswith("BA_3.jpg")
    assert "image is 128x128 px, but pbc is published at 360x363 px" in reason
    assert "0.09 um/px" in reason
    assert "--mpp" in reason
    given = ingest([Source("pbc", str(tmp_path / "pbc"), mpp=0.25)], tmp_path / "other")
    assert {sample.mpp for sample in given.samples} == {0.25}
    assert len(given.samples) == 4


@pytest.mark.real
def test_all_real_images_have_the_published_size():
    root = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))
    if not root.is_dir():
        pytest.skip("no real smears here")
    for source in detect(root):
        for sample in source.scan():
            assert isinstance(sample, Sample)
            with Image.open(sample.image) as image:
                assert source.published.fits(*image.size), sample.image
