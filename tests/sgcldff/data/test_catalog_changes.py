"""Catalogs whose images come, change and go: nothing is read twice, and splits stay."""

import os
import shutil
import time
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest

from sgcldff.core.errors import StoreError
from sgcldff.core.records import Split
from sgcldff.core.settings import SplitSpec
from tests.sgcldff.data.labs import picture, reasons, save


def sides(catalog):
    return {sample.id: sample.split for sample in catalog.samples}


def test_patients_are_never_split(lab):
    for patient in range(6):
        lab.add_many(5, group=f"P{patient}")
    catalog = lab.ingest(split=SplitSpec(val=0.3, test=0.3))
    found = defaultdict(set)
    for sample in catalog.samples:
        found[sample.group].add(sample.split)
    assert len(found) == 6
    assert all(len(splits) == 1 for splits in found.values())
    assert {split for splits in found.values() for split in splits} == {Split.TRAIN, Split.VAL, Split.TEST}


def test_unchanged_files_are_not_read_again(lab, reads):
    save(lab.root / "mask.png", np.full((96, 96), 255, np.uint8))
    lab.add_many(3)
    lab.add("masked.png", mask="mask.png")
    lab.add("typo.png", label="neutrofil")
    first = lab.ingest()
    assert Counter(reads) == dict.fromkeys(("000.png", "001.png", "002.png", "masked.png", "mask.png", "typo.png"), 1)
    reads.clear()
    again = lab.ingest()
    assert reads == []
    assert (again.samples, again.digest) == (first.samples, first.digest)
    assert again.quarantine.equals(first.quarantine)
    lab.add("new.png", picture(77))
    lab.rows[4]["label"] = "monocyte"
    assert {s.id for s in lab.ingest().samples} == {*sides(first), "lab/new", "lab/typo"}
    assert reads == ["new.png"]


def test_a_file_that_changed_is_read_again(lab, reads):
    lab.add_many(3)
    broken = lab.add("broken.png")
    good = broken.read_bytes()
    broken.write_bytes(good[:200])
    before = lab.ingest()
    assert "broken.png" in reasons(before)
    broken.write_bytes(good)
    save(lab.root / "001.png", picture(500))
    os.utime(lab.root / "001.png", ns=(time.time_ns(), time.time_ns() + 10**9))
    reads.clear()
    after = lab.ingest()
    assert sorted(reads) == ["001.png", "broken.png"]
    assert not reasons(after)
    assert after.digest != before.digest


def test_splits_stay_when_images_are_added_removed_and_restored(lab):
    lab.add_many(30)
    first = sides(lab.ingest())
    lab.add_many(30)
    second = sides(lab.ingest())
    assert first.items() <= second.items()
    rows, lab.rows = lab.rows, lab.rows[40:]
    assert sides(lab.ingest()).items() <= second.items()
    lab.rows = rows
    assert sides(lab.ingest()) == second


def test_a_catalog_without_its_splits_is_refused_until_it_is_made_anew(lab):
    lab.add_many(30)
    folder = lab.ingest().folder
    (folder / "splits.parquet").unlink()
    with pytest.raises(StoreError, match=r"splits\.parquet: missing.*remove the catalog's folder"):
        lab.ingest()
    shutil.rmtree(folder)
    assert len(lab.ingest().samples) == 30


def test_splits_follow_images_that_are_moved_and_renamed(lab):
    lab.add_many(30)
    first = {sample.sha256: sample.split for sample in lab.ingest().samples}
    for number, row in enumerate(lab.rows):
        (lab.root / row["image"]).rename(lab.root / f"z{29 - number:02d}.png")
        row["image"] = f"z{29 - number:02d}.png"
    assert {sample.sha256: sample.split for sample in lab.ingest().samples} == first


def test_another_seed_assigns_other_splits(lab):
    lab.add_many(30)
    first = sides(lab.ingest())
    assert sides(lab.ingest(split=SplitSpec(seed=1))) != first
    assert sides(lab.ingest()) == first


def test_an_image_that_would_link_train_and_test_is_quarantined(lab):
    lab.add_many(20)
    catalog = lab.ingest(split=SplitSpec(val=0.2, test=0.2))
    train, test = (catalog.select(split)[0] for split in (Split.TRAIN, Split.TEST))
    lab.add("bridge.png", (cv2.imread(train.image)[..., ::-1] * 0.8).astype(np.uint8), group="P")
    lab.add("other.png", (cv2.imread(test.image)[..., ::-1] * 0.8).astype(np.uint8), group="P")
    after = lab.ingest(split=SplitSpec(val=0.2, test=0.2))
    assert sides(catalog).items() <= sides(after).items()
    told = reasons(after)
    assert len(told) == 1
    assert "would link groups of different splits" in next(iter(told.values()))
    sibling = next(
        sample for sample in after.samples if sample.group == "lab/P" or sample.id in ("lab/bridge", "lab/other")
    )
    assert sibling.split in (Split.TRAIN, Split.TEST)
