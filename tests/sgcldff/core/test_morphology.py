import csv
from dataclasses import replace
from pathlib import Path

import pytest

from sgcldff.core.morphology import VALUES, CellAttributes
from sgcldff.core.records import Sample, samples_from_table, samples_to_table
from sgcldff.data.adapters import Rejected, Source
from sgcldff.data.catalog import Catalog
from sgcldff.promotion.frozen_test_set import FrozenTest
from tests.sgcldff.data.test_adapters import touch

FIRST = {name: values[0] for name, values in VALUES.items()}
SAMPLE = Sample(
    "a", "pbc", "a", "a.jpg", 0.09, "MIT", label="neutrophil", sha256="0", attributes=CellAttributes(**FIRST)
)


def attribute_table(path: Path, *rows: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["img_name", "label", *VALUES, "path"])
        writer.writeheader()
        writer.writerows({"label": "", "path": "", **FIRST, **row} for row in rows)


@pytest.mark.parametrize("place", ["pbc", "pbc/WBCAtt", ".", "wbcatt"])
def test_pbc_reads_wbcatt_attributes_beside_it(tmp_path, place):
    touch(*(tmp_path / f"pbc/basophil/BA_{number}.jpg" for number in range(4)))
    attribute_table(tmp_path / place / "pbc_attr_v1_train.csv", {"img_name": "BA_0.jpg", "cell_size": "big"})
    attribute_table(tmp_path / place / "pbc_attr_v1_val.csv", {"img_name": "BA_1.jpg"}, {"img_name": "BA_9.jpg"})
    attribute_table(tmp_path / place / "pbc_attr_v1_test.csv", {"img_name": "BA_2.jpg", "cell_shape": "oblong"})
    big, small, wrong, unknown = Source("pbc", str(tmp_path / "pbc")).scan()
    assert big.attributes == CellAttributes(**{**FIRST, "cell_size": "big"})
    assert small.attributes == CellAttributes(**FIRST)
    assert unknown.attributes is None
    assert isinstance(wrong, Rejected)
    assert "attribute cell_shape is 'oblong': must be one of round, irregular" in wrong.reason


def test_attributes_are_stored_in_the_manifest():
    plain = replace(SAMPLE, id="b", attributes=None)
    table = samples_to_table([SAMPLE, plain])
    assert samples_from_table(table) == (SAMPLE, plain)
    assert samples_from_table(table.drop_columns("attributes"))[0] == replace(SAMPLE, attributes=None)


def test_attributes_change_the_catalog_digest_but_not_that_of_a_frozen_test_set():
    plain = replace(SAMPLE, attributes=None)
    catalogs = [Catalog(Path(), (sample,), samples_to_table([])) for sample in (SAMPLE, plain)]
    assert catalogs[0].digest != catalogs[1].digest
    assert FrozenTest((SAMPLE,)).digest == FrozenTest((plain,)).digest


@pytest.mark.parametrize(
    ("label", "fault"),
    [("band neutrophil", None), ("neutrophil", None), ("myelocyte", "is myelocyte"), (None, "is unl")],
)
def test_a_finer_label_does_not_contradict_a_frozen_one(tmp_path, label, fault):
    touch(tmp_path / "a.jpg")
    frozen = FrozenTest((replace(SAMPLE, image=str(tmp_path / "a.jpg")),))
    located = frozen.locate([replace(frozen.samples[0], label=label)])
    faults = [text for text in located.faults if "another image" not in text]
    assert bool(faults) == (fault is not None)
    assert all(fault in text for text in faults)
    assert located.samples[0].label == "neutrophil"
