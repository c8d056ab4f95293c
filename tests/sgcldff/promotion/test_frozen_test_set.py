"""The frozen test set: what is in it, and what a model was trained on."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgcldff.core.errors import InputError, StoreError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import Split
from sgcldff.data.adapters import Source, detect
from sgcldff.data.catalog import Catalog, ingest
from sgcldff.data.synthetic import write_dataset
from sgcldff.promotion import FrozenTest
from sgcldff.promotion.leakage import TrainingRecord, champion_leak_finding, find_leaks, known_images, leak_finding
from sgcldff.slides.images import sha256_of


def frozen_of(catalog: Catalog) -> FrozenTest:
    return FrozenTest.of(catalog.select(Split.TEST))


def test_a_frozen_test_set_is_told_by_content_not_by_path(lab: tuple[Path, Catalog], tmp_path: Path) -> None:
    data, catalog = lab
    frozen = frozen_of(catalog)
    again = FrozenTest.open(frozen.save(tmp_path / "frozen.parquet"))
    assert (again, again.digest) == (frozen, frozen.digest)
    assert FrozenTest.of(reversed(catalog.select(Split.TEST))).digest == frozen.digest
    moved = shutil.move(data, tmp_path / "moved")
    located = frozen.locate(ingest(detect(moved), tmp_path / "catalog").samples)
    assert located.finding().passed
    assert all(Path(item.image).is_relative_to(moved) for item in located.samples)
    assert FrozenTest.of(located.samples).digest == frozen.digest


def test_new_images_do_not_change_it(lab: tuple[Path, Catalog], tmp_path: Path) -> None:
    data, catalog = lab
    frozen = frozen_of(catalog)
    more = write_dataset(tmp_path / "more", 30, 0, seed=9)
    grown = ingest([*detect(data), *detect(more)], tmp_path / "catalog")
    assert len(grown.select(Split.TEST)) > len(frozen.samples)
    located = frozen.locate(grown.samples)
    assert located.finding().passed
    assert [item.id for item in located.samples] == [item.id for item in frozen.samples]


def test_what_is_gone_or_changed_is_named_with_the_remedy(lab: tuple[Path, Catalog]) -> None:
    _, catalog = lab
    frozen = frozen_of(catalog)
    first, second = frozen.samples[:2]
    Path(first.image).unlink()
    assert second.mask is not None
    mask = np.asarray(Image.open(second.mask))
    Image.fromarray(np.roll(mask, 3)).save(second.mask)
    finding = frozen.locate(catalog.samples).finding()
    assert not finding.passed
    assert finding.figure == 2
    assert f"{first.id} no longer has its image ({first.image})" in finding.text
    assert f"{second.id} has another mask" in finding.text
    assert "sgcldff registry freeze" in finding.text


def test_a_label_that_was_corrected_is_a_changed_test_set(lab: tuple[Path, Catalog]) -> None:
    _, catalog = lab
    frozen = frozen_of(catalog)
    first = frozen.samples[0]
    other = next(name for name in FIVE_TYPES if name != first.label)
    relabelled = [replace(item, label=other) if item.id == first.id else item for item in catalog.samples]
    finding = frozen.locate(relabelled).finding()
    assert f"{first.id} was {first.label} and is {other}" in finding.text


def test_nothing_and_damaged_files_are_no_test_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="test split"):
        FrozenTest.of([])
    (tmp_path / "x.parquet").write_text("no table")
    with pytest.raises(StoreError, match="freeze one again"):
        FrozenTest.open(tmp_path / "x.parquet")


def training_of(catalog: Catalog) -> TrainingRecord:
    images = frozenset(item.sha256 for item in catalog.samples if item.split is not Split.TEST)
    return TrainingRecord(images, catalog.digest)


def test_a_split_of_the_catalog_does_not_leak(lab: tuple[Path, Catalog]) -> None:
    _, catalog = lab
    training = training_of(catalog)
    leaks = find_leaks(training, catalog.select(Split.TEST), known_images(catalog.folder))
    finding = leak_finding(leaks)
    assert finding.passed
    assert (leaks.images, leaks.compared) == (len(training.images), len(training.images))
    assert "by digest only" not in finding.text


def test_the_same_image_leaks(lab: tuple[Path, Catalog]) -> None:
    _, catalog = lab
    test = catalog.select(Split.TEST)
    training = replace(training_of(catalog), images=training_of(catalog).images | {test[0].sha256})
    finding = leak_finding(find_leaks(training, test, known_images(catalog.folder)))
    assert not finding.passed
    assert f"trained on {test[0].id}" in finding.text
    unfair = champion_leak_finding(training, test)
    assert unfair is not None
    assert not unfair.passed
    assert champion_leak_finding(training_of(catalog), test) is None
    assert champion_leak_finding(None, test) is None


@pytest.mark.parametrize("turn", ["as JPEG", "mirrored", "brighter"])
def test_a_near_duplicate_leaks(lab: tuple[Path, Catalog], tmp_path: Path, turn: str) -> None:
    """An image that was learned from under another name, and looks like a test image."""
    _, catalog = lab
    test = catalog.select(Split.TEST)
    image = Image.open(test[0].image).convert("RGB")
    copy = tmp_path / "copies" / ("neutrophil/copy.jpg" if turn == "as JPEG" else "neutrophil/copy.png")
    copy.parent.mkdir(parents=True)
    {
        "as JPEG": lambda: image.save(copy, quality=80),
        "mirrored": lambda: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy),
        "brighter": lambda: image.point(lambda value: min(255, value * 1.1)).save(copy),
    }[turn]()
    other = ingest([Source("folder", str(copy.parents[1]), 0.2)], tmp_path / "other")
    training = replace(training_of(catalog), images=training_of(catalog).images | {sha256_of(copy)})
    known = known_images(catalog.folder) | known_images(other.folder)
    finding = leak_finding(find_leaks(training, test, known))
    assert not finding.passed
    assert f"near-duplicate of {test[0].id}" in finding.text
    blind = leak_finding(find_leaks(training, test, known_images(catalog.folder)))
    assert blind.passed
    assert "1 of them, which are not in the catalog, were compared by digest only" in blind.text


def test_who_does_not_say_what_was_learned_from_cannot_be_cleared(tmp_path: Path) -> None:
    assert TrainingRecord.read(tmp_path / "trained_on.json") is None
    (tmp_path / "half.json").write_text('{"sha256": ["ab"], "data": "d", "complete": false}')
    half = TrainingRecord.read(tmp_path / "half.json")
    assert half == TrainingRecord(frozenset(["ab"]), "d", complete=False)
    for leaks in (None, find_leaks(half, (), {})):
        finding = leak_finding(leaks)
        assert not finding.passed
        assert "not recorded" in finding.text
