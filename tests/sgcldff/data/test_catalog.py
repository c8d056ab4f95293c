import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sgcldff.core.errors import InputError, MissingInputError, StoreError
from sgcldff.core.labels import WBC5, LabelSpace, smallest_label_space
from sgcldff.core.records import QUARANTINE_SCHEMA, SAMPLE_SCHEMA, Sample, Split, samples_from_table
from sgcldff.core.settings import SplitSpec
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import Catalog, ingest
from tests.reviews import write_reviews
from tests.sgcldff.data.labs import Lab, picture, reasons, save


def test_the_manifest_contains_the_measurements(lab):
    mask = save(lab.root / "mask.png", np.full((96, 96), 255, np.uint8))
    lab.add("a.png", picture(1, 96), mask="mask.png", group="patient 7")
    sample = lab.ingest().samples[0]
    assert (sample.id, sample.group, sample.label, sample.mpp) == ("lab/a", "lab/patient 7", "neutrophil", 0.2)
    assert (sample.height, sample.width) == (96, 96)
    assert len(sample.sha256) == len(sample.mask_sha256) == 64
    assert len(sample.phash) == 16
    assert sample.mask == str(mask)
    assert sample.split is not Split.UNASSIGNED


def test_the_tables_on_disk_have_their_schemas_and_nothing_else_is_left(lab):
    lab.add_many(3)
    lab.add("bad.png", np.zeros((10, 10, 3), np.uint8))
    catalog = lab.ingest()
    manifest, quarantine = (
        pq.read_table(lab.catalog_folder / f"{name}.parquet") for name in ("manifest", "quarantine")
    )
    for table, schema in ((manifest, SAMPLE_SCHEMA), (quarantine, QUARANTINE_SCHEMA)):
        assert table.cast(schema).schema.equals(schema, check_metadata=True)
        assert table.schema.metadata == schema.metadata
        assert table.column_names == schema.names
    assert samples_from_table(manifest) == catalog.samples == Catalog.open(lab.catalog_folder).samples
    names = {path.name for path in lab.catalog_folder.iterdir()}
    assert names == {"manifest.parquet", "quarantine.parquet", "facts.parquet", "splits.parquet"}


def test_bad_inputs_are_quarantined_with_reason_and_remedy(lab):
    whole = lab.add("whole.png").read_bytes()
    lab.add("truncated.png").write_bytes(whole[: len(whole) // 2])
    lab.add("empty.png").write_bytes(b"")
    lab.add("text.png").write_text("no image")
    lab.add("gone.png").unlink()
    lab.add("small.png", picture(50, 20))
    lab.add("flat.png", np.full((64, 64, 3), 7, np.uint8))
    lab.add("typo.png", label="neutrofil")
    lab.add("unlabelled.png", label=None)
    lab.add("scale.png", mpp=-0.1)
    lab.add("infinite.png", mpp=np.inf)
    save(lab.root / "other_size.png", np.zeros((90, 96), np.uint8))
    lab.add("mismatched.png", mask="other_size.png")
    lab.add("maskless.png", mask="nowhere.png")
    save(lab.root / "coded.png", np.eye(96, dtype=np.uint8) * 2)
    lab.add("coded_mask.png", mask="coded.png")
    catalog = lab.ingest()
    assert [sample.id for sample in catalog.samples] == ["lab/whole"]
    told = reasons(catalog)
    expected = {
        "truncated.png": "not a readable image",
        "empty.png": "not a readable image",
        "text.png": "not a readable image",
        "gone.png": "no such file",
        "small.png": "20x20 px, but sides need at least 32 px",
        "flat.png": "every pixel is 7",
        "typo.png": "label 'neutrofil' is in no class (known: neutrophil,",
        "unlabelled.png": "unlabelled",
        "scale.png": "mpp is '-0.1'",
        "infinite.png": "mpp is 'inf'",
        "mismatched.png": "is 96x90 px, its image 96x96 px",
        "maskless.png": "nowhere.png: no such file",
        "coded_mask.png": "values up to 2, but cells start at 64",
    }
    assert set(told) == set(expected)
    for name, part in expected.items():
        assert part in told[name], name
    assert {row["source"] for row in catalog.quarantine.to_pylist()} == {"lab", "table"}, "rows not understood: table"


def test_a_mask_is_read_with_the_code_in_the_table(lab):
    save(lab.root / "coded.png", np.eye(96, dtype=np.uint8) * 2)
    lab.add("a.png", mask="coded.png", cytoplasm=1, nucleus=2)
    assert len(lab.ingest().samples) == 1


def test_an_image_with_only_a_mask_or_only_boxes_is_labelled(lab):
    save(lab.root / "mask.png", np.full((96, 96), 255, np.uint8))
    lab.add("a.png", label=None, mask="mask.png")
    assert [sample.label for sample in lab.ingest().samples] == [None]


def test_other_labels_can_be_accepted(lab):
    lab.add_many(2, label="smudge")
    lab.add_many(2, label="neutrophil")
    assert {s.label for s in lab.ingest().samples} == {"neutrophil"}
    catalog = lab.ingest(labels=LabelSpace(("smudge", "platelet")))
    assert {s.label for s in catalog.samples} == {"smudge"}
    assert all("(known: smudge, platelet" in reason for reason in reasons(catalog).values())


def test_boxes_are_clipped_at_the_edges_and_refused_outside(tmp_path):
    fields = tmp_path / "JPEGImages"
    for number, (xmax, xmin) in enumerate([(500, 20), (500, 300)]):
        save(fields / f"BloodImage_0000{number}.jpg", picture(number))
        box = f"<xmin>{xmin}</xmin><ymin>-3</ymin><xmax>{xmax}</xmax><ymax>40</ymax>"
        annotation = tmp_path / f"Annotations/BloodImage_0000{number}.xml"
        annotation.parent.mkdir(exist_ok=True)
        annotation.write_text(f"<a><object><name>WBC</name><bndbox>{box}</bndbox></object></a>")
    catalog = ingest([Source("bccd", str(tmp_path), mpp=0.075)], tmp_path / "catalog")
    assert [sample.boxes for sample in catalog.samples] == [((20, 0, 96, 40),)]
    assert "lies outside the image of 96x96 px" in reasons(catalog)["BloodImage_00001.jpg"]


def test_one_copy_is_kept_and_named(lab):
    pixels = picture(99)
    lab.add("first.png", pixels)
    lab.add("second.png", pixels)
    lab.add("same pixels.bmp", pixels)
    catalog = lab.ingest()
    assert [sample.id for sample in catalog.samples] == ["lab/first"]
    assert set(reasons(catalog)) == {"second.png", "same pixels.bmp"}
    assert all("exact duplicate of lab/first" in reason for reason in reasons(catalog).values())


def test_the_copy_with_a_label_is_kept(lab):
    lab.add("plain.png", picture(99), label=None)
    lab.add("labelled.png", picture(99))
    assert [sample.id for sample in lab.ingest().samples] == ["lab/labelled"]


def test_a_reviewers_answer_beside_the_classes_makes_no_class(lab, tmp_path):
    types = ["neutrophil", "monocyte", "lymphocyte", "blast", "smudge cell", "platelet", "other: hairy cell"]
    images = [save(tmp_path / "crops" / f"{at}.png", picture(100 + at)) for at in range(len(types))]
    cells = [
        Sample(f"cell {at}", "any", "slide", str(image), 0.1, "", label=label)
        for at, (image, label) in enumerate(zip(images, types, strict=True))
    ]
    store = write_reviews(tmp_path / "store", cells)
    for at, label in enumerate(["neutrophil", "eosinophil", "basophil", "monocyte", "lymphocyte"]):
        lab.add(f"{at}.png", picture(at), label=label)
    catalog = ingest([*lab.sources(), Source("reviewed", str(store))], lab.catalog_folder)
    assert {sample.label for sample in catalog.select(source="reviewed")} == set(types[:3])
    assert smallest_label_space(sample.label for sample in catalog.samples) == WBC5
    left_out = [row["reason"] for row in catalog.quarantine.to_pylist()]
    assert all(any(f"label {label!r} is in no class" in reason for reason in left_out) for label in types[3:])
    lab.add("blast.png", picture(9), label="blast")
    again = ingest([*lab.sources(), Source("reviewed", str(store))], lab.catalog_folder)
    assert {sample.label for sample in again.select(source="reviewed")} == set(types[:4])


def test_copies_with_contradicting_labels_are_all_quarantined(lab):
    lab.add("a.png", picture(99), label="neutrophil")
    lab.add("b.png", picture(99), label="monocyte")
    lab.add("c.png", picture(99), label="monocyte")
    lab.add("d.png")
    catalog = lab.ingest()
    assert [sample.id for sample in catalog.samples] == ["lab/d"]
    for reason in reasons(catalog).values():
        assert "lab/a says 'neutrophil'" in reason
        assert "says 'monocyte'" in reason


def test_two_files_with_one_name_do_not_hide_each_other(lab):
    lab.add("a.png")
    lab.add("a.jpg")
    catalog = lab.ingest()
    assert len(catalog.samples) == 1
    assert "id 'lab/a' is taken by" in reasons(catalog)["a.jpg"]


def test_near_duplicates_share_a_group_and_a_split(lab):
    lab.add_many(12)
    for number in range(6):
        lab.add(f"copy{number}.png", np.ascontiguousarray((picture(number) * 0.8).astype(np.uint8)[:, ::-1]))
    groups = defaultdict(set)
    for sample in lab.ingest(split=SplitSpec(val=0.3, test=0.3)).samples:
        groups[sample.group].add(sample)
    together = {frozenset(s.id for s in group) for group in groups.values() if len(group) > 1}
    assert together == {frozenset({f"lab/00{n}", f"lab/copy{n}"}) for n in range(6)}
    assert all(len({s.split for s in group}) == 1 for group in groups.values())


def test_the_digest_depends_on_content_not_paths(lab, tmp_path):
    save(lab.root / "mask.png", np.full((96, 96), 255, np.uint8))
    lab.add_many(4)
    lab.add("masked.png", mask="mask.png")
    first = lab.ingest()
    (lab.root).rename(tmp_path / "moved")
    (tmp_path / "moved" / "lab").mkdir()
    for path in list((tmp_path / "moved").glob("*.*")):
        path.rename(tmp_path / "moved/lab" / path.name)
    moved = Lab(tmp_path / "moved/lab")
    moved.rows = lab.rows
    assert moved.ingest().digest == first.digest
    save(moved.root / "mask.png", np.full((96, 96), 128, np.uint8))
    assert moved.ingest().digest != first.digest


def test_select_and_snapshot(lab):
    lab.add_many(10)
    catalog = lab.ingest()
    assert set(catalog.select()) == set(catalog.samples)
    parts = [set(catalog.select(split)) for split in ("train", "val", "test")]
    assert set.union(*parts) == set(catalog.samples)
    assert sum(map(len, parts)) == 10
    assert catalog.select(source="elsewhere") == ()
    path = catalog.snapshot()
    assert path == lab.catalog_folder / "snapshots" / f"{catalog.digest}.parquet"
    lab.add_many(1)
    assert lab.ingest().snapshot() != path
    assert samples_from_table(pq.read_table(path)) == catalog.samples


def test_progress_counts_every_file_once(lab):
    lab.add_many(5)
    calls = []
    ingest(lab.sources(), lab.catalog_folder, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 5) for n in range(1, 6)]


def test_a_catalog_without_usable_images_is_empty_and_says_why(lab):
    lab.add_many(2, label="what")
    catalog = lab.ingest()
    assert catalog.samples == ()
    assert len(reasons(catalog)) == 2


def test_missing_and_damaged_catalogs(lab, tmp_path):
    with pytest.raises(MissingInputError, match="run `sgcldff prepare --data FOLDER` first"):
        Catalog.open(tmp_path / "nowhere")
    lab.add_many(2)
    lab.ingest()
    (lab.catalog_folder / "manifest.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match=r"manifest\.parquet: damaged"):
        Catalog.open(lab.catalog_folder)


def test_damaged_facts_only_cost_time(lab, reads):
    lab.add_many(2)
    first = lab.ingest()
    (lab.catalog_folder / "facts.parquet").write_bytes(b"rubbish")
    reads.clear()
    assert lab.ingest().digest == first.digest
    assert len(reads) == 2


def test_an_empty_source_stops_the_ingest(tmp_path):
    with pytest.raises(InputError):
        ingest([Source("pbc", str(tmp_path))], tmp_path / "catalog")
    assert not (tmp_path / "catalog").exists()


@pytest.mark.real
def test_real_smears_are_split_without_leakage(tmp_path):
    root = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))
    if not (root / "bccd").is_dir():
        pytest.skip("no real smears here")
    catalog = ingest([Source("bccd", str(root / "bccd"))], tmp_path)
    assert len(catalog.samples) >= 200
    groups = defaultdict(set)
    for sample in catalog.samples:
        groups[sample.group].add(sample.id[-5:])
    assert {"00227", "00260"} in groups.values()
    assert max(map(len, groups.values())) <= 4
    counts = Counter(sample.split for sample in catalog.samples)
    assert abs(counts[Split.TEST] / len(catalog.samples) - 0.15) < 0.05
