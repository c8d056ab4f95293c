"""Every adapter against the layout that the authors of its data set publish."""

import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from sgcldff.core.labels import BLAST, FIVE_TYPES, NON_BLAST, SYNONYMS, WBC5
from sgcldff.core.records import Sample
from sgcldff.data.adapters import detect

pytestmark = pytest.mark.real

FIVE = set(FIVE_TYPES)
PBC_PREFIXES = ("BA", "EO", "LY", "MO", "BNE", "SNE", "MMY", "MY", "PMY", "ERB")
EXPECTED = {
    "all_idb2": {BLAST, NON_BLAST},
    "bccd": FIVE | {None},
    "jtsc": FIVE,
    "krd_wbc": FIVE,
    "pbc": {*(SYNONYMS[prefix.lower()] for prefix in PBC_PREFIXES), "platelet"},
    "raabin": FIVE,
}
"""Labels that each set has."""


TURNED = "krd_wbc/image344"
"""Its mask is left out: the EXIF orientation of that file is stale."""


@pytest.fixture(scope="module")
def sets() -> dict[str, list[Sample]]:
    root = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))
    if not root.is_dir():
        pytest.skip("no real smears here")
    found = {source.adapter: list(source.scan()) for source in detect(root)}
    assert set(found) == set(EXPECTED)
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_every_image_of_a_set_is_read_with_its_label(sets, name):
    samples = sets[name]
    assert all(isinstance(sample, Sample) for sample in samples)
    labels = Counter(sample.label for sample in samples)
    assert set(labels) == EXPECTED[name]
    assert labels[None] <= (10 if name == "bccd" else 0)
    assert len({sample.id for sample in samples}) == len(samples) >= 100
    masked = name not in ("pbc", "raabin")
    assert {bool(sample.mask) for sample in samples if sample.id != TURNED} == {masked}
    assert {sample.boxes is not None for sample in samples} == {name == "bccd"}


def test_a_mask_with_a_stale_orientation_is_left_out(sets):
    (turned,) = (sample for sample in sets["krd_wbc"] if sample.id == TURNED)
    assert turned.mask is None
    assert Image.open(Path(turned.image).parents[1] / "mask" / "mask344.jpg").getexif()[ExifTags.Base.Orientation] == 8


def test_the_prefixes_of_pbc_are_the_labels(sets):
    labels = Counter((Path(s.image).stem.split("_")[0], s.label) for s in sets["pbc"])
    told = {prefix: {label for other, label in labels if other == prefix} for prefix, _ in labels}
    assert {len(one) for one in told.values()} == {1}
    assert told["SNE"] == {"segmented neutrophil"}
    assert told["PLATELET"] == {"platelet"}


def test_slides_of_raabin_contain_several_types(sets):
    samples = sets["raabin"]
    groups = Counter(sample.group for sample in samples)
    assert len(groups) == 34
    assert all(Path(sample.image).name.startswith(sample.group.removeprefix("raabin/")) for sample in samples)
    assert len({sample.label for sample in samples if sample.group == "raabin/95-8-10-1"}) == 4


def test_every_cell_of_the_five_types_in_pbc_has_the_attributes_of_wbcatt(sets):
    described = {sample.attributes is not None for sample in sets["pbc"] if sample.label in WBC5.known}
    assert described == {True}
