"""The scale of smears by their red cells, against synthetic smears of known scale and public data sets."""

import os
from pathlib import Path

import numpy as np
import pytest

from sgcldff.core.geometry import Box
from sgcldff.data.synthetic.fields import render_field
from sgcldff.data.synthetic.stain import SmearSpec, random_smear
from sgcldff.slides.images import read_rgb
from sgcldff.slides.red_cells import FIELD_PX, FIELDS, fields_of, red_cells, scale_of, widths_in

SETS = {
    "bccd/BCCD/JPEGImages/*.jpg": (0.067, 0.083),
    "krd_wbc/KRD-WBC dataset/Dataset/image/*.jpg": (0.092, 0.115),
    "all_idb2/**/Im*.tif": (0.080, 0.100),
    "pbc/**/SNE*.jpg": (0.080, 0.100),
    "raabin/**/*.jpg": (0.056, 0.069),
}
"""Images -> um/px by white cells of 12 to 15 um; in Raabin by neutrophils alone, which are 216 px wide."""


def photo(mpp, seed=0, side_um=80.0):
    side = round(side_um / mpp)
    return render_field(random_smear(seed, mpp), (side, side), np.random.default_rng(seed)).rgb


@pytest.mark.slow
@pytest.mark.parametrize("mpp", [0.06, 0.12, 0.25, 0.45])
def test_the_scale_of_a_synthetic_smear_is_found(mpp):
    found = scale_of([widths_in(photo(mpp, seed) for seed in range(4))])
    assert found.mpp == pytest.approx(mpp, rel=0.1)
    assert not found.contradicts(mpp)
    assert found.contradicts(2 * mpp)
    assert found.contradicts(mpp / 2)
    assert found.cells >= 20


def test_without_red_cells_nothing_is_stated():
    assert scale_of([widths_in([])]) is None
    assert scale_of([widths_in([np.full((300, 300, 3), 240, np.uint8)])]) is None
    bare = render_field(SmearSpec(mpp=0.1, red_coverage=0, wbc_per_mm2=3000), (900, 900), np.random.default_rng(1)).rgb
    assert scale_of([widths_in([bare])], fewest=4) is None


@pytest.mark.slow
def test_a_few_red_cells_only_contradict_what_is_far_off():
    field = photo(0.08, seed=3, side_um=45.0)
    assert 4 <= len(red_cells(field)) < 20
    assert scale_of([widths_in([field])]) is None
    few = scale_of([widths_in([field])], fewest=4)
    many = scale_of([widths_in(photo(0.08, seed) for seed in range(4))])
    assert few.high / few.low > many.high / many.low
    assert few.contradicts(0.25)
    assert not few.contradicts(0.08)


def test_the_same_fields_are_chosen_of_what_is_neither_empty_nor_crowded():
    """A slide whose left third is glass, whose right third is all cell, and whose middle is neither."""
    rng = np.random.default_rng(2)
    coarse = np.full((6 * 64, 9 * 64, 3), 240, np.uint8)
    coarse[:, 3 * 64 : 6 * 64][rng.random((6 * 64, 3 * 64)) < 0.4] = 160
    coarse[:, 6 * 64 :] = 160
    shapes, asked = ((6 * FIELD_PX, 9 * FIELD_PX), coarse.shape[:2]), []

    def read(box, level):
        asked.append((box, level))
        return coarse[box.slices] if level else np.zeros((*box.shape, 3), np.uint8)

    assert len(list(fields_of(read, shapes))) == FIELDS
    chosen = [box for box, level in asked if level == 0]
    assert all(box.x0 >= 3 * FIELD_PX and box.x1 <= 6 * FIELD_PX for box in chosen)
    assert len({*chosen}) == FIELDS
    first, asked[:] = [*asked], []
    list(fields_of(read, shapes))
    assert asked == first


def test_a_photograph_is_taken_as_it_is():
    image = photo(0.2)
    (field,) = fields_of(lambda box, level: image[box.slices], [image.shape[:2]])
    assert np.array_equal(field, image)
    assert Box.of(image.shape[:2]).shape == field.shape[:2]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("pattern", SETS)
def test_public_smears_are_within_a_tenth_of_the_scale_by_white_cells(pattern):
    root = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))
    images = [path for path in sorted(root.glob(pattern)) if "mask" not in path.name.lower()]
    if not images:
        pytest.skip("no such data set here")
    found = scale_of([widths_in(read_rgb(path) for path in images[:: max(1, len(images) // 100)])])
    low, high = SETS[pattern]
    assert 0.9 * low <= found.mpp <= 1.1 * high
