"""Images to catalog and priors, and again: only what is new is touched."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from flows.prepare import prepare, resolved_sources
from sgcldff.core.errors import InputError
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import Catalog
from sgcldff.data.synthetic import write_dataset
from sgcldff.saliency.store import PriorStore


def garble(path: Path) -> None:
    """Make a file unreadable without a change of its size or time."""
    before = path.stat()
    path.write_bytes(b"\0" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture(scope="module")
def prepared(server, tmp_path_factory):
    """Prepare 8 crops and 2 fields of which one image is damaged."""
    root = tmp_path_factory.mktemp("prepare")
    data = write_dataset(root / "data", 8, 2, seed=2)
    (data / "images" / "crop-00003.png").write_bytes((data / "images" / "crop-00003.png").read_bytes()[:200])
    sources = [Source("auto", str(data))]
    return root, sources, prepare(sources, str(root / "ws"))


def test_catalog_and_priors_hold_every_good_image(prepared):
    _, _, done = prepared
    catalog, priors = Catalog.open(done.catalog), PriorStore.open(done.priors)
    assert (done.images, done.skipped) == (9, 1)
    assert catalog.digest == done.digest
    (bad,) = catalog.quarantine.to_pylist()
    assert "crop-00003.png" in bad["image"]
    for sample in catalog.samples:
        prior = priors.read(sample.sha256)
        assert prior.dtype == np.float32
        assert 0 <= prior.min() < prior.max() <= 1
    assert done.picture.stat().st_size > 10_000


def test_again_nothing_is_decoded(prepared):
    root, sources, done = prepared
    kept = root / "kept"
    shutil.copytree(root / "data", kept)
    images = [path for path in Path(sources[0].folder).rglob("*.png") if path.name != "crop-00003.png"]
    try:
        for image in images:
            garble(image)
        again = prepare(sources, str(root / "ws"))
    finally:
        for image in images:
            shutil.copy2(kept / image.relative_to(sources[0].folder), image)
    assert (again.digest, again.priors.digest) == (done.digest, done.priors.digest)


def test_new_images_are_added_and_the_splits_of_the_others_stay(prepared):
    root, sources, done = prepared
    before = {sample.id: sample.split for sample in Catalog.open(done.catalog).samples}
    more = write_dataset(root / "more", 5, 0, seed=8)
    grown = prepare([*sources, Source("table", str(more))], str(root / "ws"))
    after = {sample.id: sample.split for sample in Catalog.open(grown.catalog).samples}
    assert grown.images == done.images + 5
    assert before.items() <= after.items()
    store = PriorStore.open(grown.priors)
    assert all(sample.sha256 in store for sample in Catalog.open(grown.catalog).samples)


def test_auto_finds_what_is_known_below_a_folder(prepared):
    root, _, _ = prepared
    named = Source("folder", "elsewhere", 0.1)
    found = resolved_sources([Source("auto", str(root / "data")), named])
    assert [source.adapter for source in found] == ["table", "folder"]
    assert found[1] is named


def test_an_empty_folder_is_refused(server, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is empty"):
        prepare([Source("auto", str(tmp_path / "empty"))], str(tmp_path / "ws"))


def test_where_nothing_can_be_used_the_reasons_are_told(server, tmp_path):
    folder = tmp_path / "neutrophil"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"no image could be used: .*a\.jpg") as caught:
        prepare([Source("folder", str(tmp_path), 0.2)], str(tmp_path / "ws"))
    assert "quarantine.parquet" in str(caught.value)
