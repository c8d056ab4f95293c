import csv
import filecmp
import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import openslide
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sgcldff.core.errors import InputError
from sgcldff.core.labels import BASOPHIL, EOSINOPHIL, FIVE_TYPES, LYMPHOCYTE, MONOCYTE, NEUTROPHIL
from sgcldff.data.synthetic import SmearSpec, random_smear, render_field, write_dataset, write_slide
from sgcldff.data.synthetic.cells import CYTOPLASM_GREY, NUCLEUS_GREY, RECIPES, white_cell
from sgcldff.data.synthetic.layout import Spot
from sgcldff.data.synthetic.stain import palette
from sgcldff.slides.images import read_grey, read_rgb

pytestmark = pytest.mark.slow

SPEC = SmearSpec()


@cache
def drawn(label, count=24, mpp=0.2):
    rng = np.random.default_rng(FIVE_TYPES.index(label))
    return [white_cell(label, palette(SPEC), mpp, rng) for _ in range(count)]


def lobes(stamp):
    """Count the parts of a nucleus that are left when its strands are worn away."""
    nucleus = stamp.mask == NUCLEUS_GREY
    core = ndimage.distance_transform_edt(nucleus) > 0.55 * ndimage.distance_transform_edt(nucleus).max()
    return ndimage.label(core)[1]


def nuclear_share(stamp):
    return (stamp.mask == NUCLEUS_GREY).sum() / (stamp.mask > 0).sum()


@pytest.mark.parametrize("label", FIVE_TYPES)
def test_cells_have_the_size_of_their_type_whatever_the_scale(label):
    low, high = RECIPES[label].radius_um
    for mpp in (0.1, 0.2, 0.4):
        radii = [np.sqrt((stamp.mask > 0).sum() / np.pi) * mpp for stamp in drawn(label, 12, mpp)]
        assert 0.85 * low < min(radii)
        assert max(radii) < 1.15 * high


@pytest.mark.parametrize("label", FIVE_TYPES)
def test_a_nucleus_lies_inside_its_cell(label):
    for stamp in drawn(label):
        inside = ndimage.binary_erosion(stamp.mask > 0)
        assert (stamp.mask == NUCLEUS_GREY).any()
        assert not ((stamp.mask == NUCLEUS_GREY) & ~inside).any()
        assert ndimage.label(stamp.mask > 0)[1] == 1


def test_types_differ_as_in_an_atlas():
    cells = {label: drawn(label) for label in FIVE_TYPES}
    share = {label: np.mean([nuclear_share(stamp) for stamp in stamps]) for label, stamps in cells.items()}
    area = {label: np.mean([(stamp.mask > 0).sum() for stamp in stamps]) for label, stamps in cells.items()}
    count = {label: np.mean([lobes(stamp) for stamp in stamps]) for label, stamps in cells.items()}
    assert max(share, key=share.get) == LYMPHOCYTE
    assert share[LYMPHOCYTE] > 0.55 > share[NEUTROPHIL]
    assert max(area, key=area.get) == MONOCYTE
    assert min(area, key=area.get) == LYMPHOCYTE
    assert count[NEUTROPHIL] > count[EOSINOPHIL] > count[LYMPHOCYTE]
    assert count[LYMPHOCYTE] == pytest.approx(1, abs=0.1)


def test_cytoplasm_has_the_colour_of_its_type():
    colour = {}
    for label in FIVE_TYPES:
        pixels = np.concatenate([stamp.density[stamp.mask == CYTOPLASM_GREY] for stamp in drawn(label)])
        colour[label] = dict(zip("rgb", pixels.mean(axis=0), strict=True))
    assert colour[EOSINOPHIL]["b"] > 1.2 * colour[EOSINOPHIL]["r"]
    assert max(colour, key=lambda label: colour[label]["b"]) in (EOSINOPHIL, BASOPHIL)
    assert max(colour, key=lambda label: colour[label]["g"]) == BASOPHIL
    for bluish in (LYMPHOCYTE, MONOCYTE):
        assert colour[bluish]["r"] > 2 * colour[bluish]["b"]
    assert sum(colour[NEUTROPHIL].values()) < min(sum(colour[label].values()) for label in (EOSINOPHIL, MONOCYTE))


@given(st.integers(0, 2**31), st.integers(40, 220), st.integers(40, 220))
def test_the_ground_truth_of_a_field_agrees_with_its_mask(seed, height, width):
    spec = replace(random_smear(seed), wbc_per_mm2=1500)
    field = render_field(spec, (height, width), np.random.default_rng(seed))
    assert field.rgb.shape == (height, width, 3)
    assert set(np.unique(field.target)) <= {0, CYTOPLASM_GREY, NUCLEUS_GREY}
    covered = np.zeros((height, width), bool)
    for cell in field.cells:
        y0, x0, y1, x1 = cell.box
        assert 0 <= y0 < y1 <= height
        assert 0 <= x0 < x1 <= width
        assert y0 <= cell.centroid[0] <= y1
        assert x0 <= cell.centroid[1] <= x1
        assert 0 <= cell.nucleus_area_um2 <= cell.area_um2
        covered[y0:y1, x0:x1] = True
    assert not (field.target[~covered] > 0).any()
    shown = (field.target > 0).sum() * spec.mpp**2
    assert shown <= sum(cell.area_um2 for cell in field.cells) + 1e-6


def test_nuclei_are_darker_than_all_else_in_every_stain():
    for seed in range(12):
        spec = random_smear(seed)
        field = render_field(spec, (140, 140), np.random.default_rng(seed), [Spot(LYMPHOCYTE, 70, 70)])
        red = field.rgb[..., 0].astype(float)
        assert np.median(red[field.target == NUCLEUS_GREY]) < 0.6 * np.median(red[field.target == 0])


def test_stains_of_different_smears_differ_more_than_fields_of_one():
    def mean_colour(spec, seed):
        rng = np.random.default_rng(seed)
        field = render_field(spec, (140, 140), rng, [Spot(NEUTROPHIL, 70, 70)])
        return field.rgb[field.target > 0].mean(axis=0)

    within = np.std([mean_colour(random_smear(0), seed) for seed in range(8)], axis=0).mean()
    between = np.std([mean_colour(random_smear(seed), seed) for seed in range(8)], axis=0).mean()
    assert between > 1.5 * within


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mpp": 0}, "mpp is 0"),
        ({"shares": (1,)}, "five numbers"),
        ({"hue": 2}, "hue is 2"),
        ({"noise": -1}, "not be negative"),
        ({"jpeg_quality": 0}, "jpeg_quality is 0"),
    ],
)
def test_impossible_smears_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(SPEC, **change)


def test_a_data_set_is_a_table_of_images_and_masks(tmp_path):
    folder = write_dataset(tmp_path / "set", n_crops=20, n_fields=6, seed=3)
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "mask", "label", "group", "mpp"]
    assert len({row["image"] for row in rows}) == 26
    assert sorted({row["label"] for row in rows}) == ["", *sorted(FIVE_TYPES)]
    assert len({row["group"] for row in rows}) > 8
    for row in rows:
        rgb, mask = read_rgb(folder / row["image"]), read_grey(folder / row["mask"])
        assert rgb.shape[:2] == mask.shape
        middle = tuple(slice(side // 2 - 20, side // 2 + 20) for side in mask.shape)
        if row["label"]:
            assert 130 <= len(mask) <= 160
            assert (mask[middle] > 0).mean() > 0.6
        else:
            assert mask.shape == (320, 320)


def test_a_seed_decides_every_pixel(tmp_path):
    first, again, other = (write_dataset(tmp_path / name, 8, 2, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    names = [str(path.relative_to(first)) for path in first.rglob("*.*")]
    assert len(names) == 21
    assert filecmp.cmpfiles(first, again, names, shallow=False)[0] == names
    images = [name for name in names if name.startswith("images")]
    assert filecmp.cmpfiles(first, other, images, shallow=False)[1] == images


def test_an_empty_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="0 crops and 0 fields"):
        write_dataset(tmp_path, 0, 0)


def test_a_slide_opens_in_openslide_and_agrees_with_its_ground_truth(tmp_path):
    made = write_slide(tmp_path / "smear.tiff", (1200, 1900), 0.1, cells=14, seed=5)
    truth = pd.read_parquet(made.truth)
    with openslide.OpenSlide(made.slide) as slide:
        assert slide.dimensions == (1900, 1200)
        assert slide.level_downsamples == pytest.approx((1, 4, 16), rel=0.02)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.1)
        whole = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")).astype(float)
        small = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB")).astype(float)
    assert len(truth) == len(made.cells) >= 12
    dark = whole[..., 0] < 0.62 * np.percentile(whole[..., 0], 90)
    centres = ndimage.uniform_filter(dark.astype(float), 61)
    for cell in truth.itertuples():
        assert cell.x0 <= cell.x <= cell.x1
        assert cell.x_um == pytest.approx(cell.x * 0.1)
        assert centres[int(cell.y), int(cell.x)] > 0.1
    shrunk = whole[:1200, :1900].reshape(300, 4, 475, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 4


def test_no_seam_shows_between_the_strips_of_a_slide(tmp_path):
    spec = SmearSpec(noise=0, jpeg_quality=98, illumination=0.1)
    made = write_slide(tmp_path / "smear.tiff", (1024, 512), 0.1, cells=4, seed=2, spec=spec)
    with openslide.OpenSlide(made.slide) as slide:
        whole = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")).astype(float)
    steps = np.abs(np.diff(whole, axis=0)).mean(axis=(1, 2))
    inner = np.delete(steps, [255, 511, 767])
    assert steps[[255, 511, 767]].max() < 1.5 * np.percentile(inner, 99)


def test_a_slide_is_written_strip_by_strip_in_little_memory(tmp_path):
    def peak(height):
        tracemalloc.start()
        write_slide(tmp_path / "smear.tiff", (height, 1024), 0.2, cells=5)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(512)
    assert peak(4096) < peak(1024) + 4096 * 1024 * 3 // 2


def test_a_tiny_slide_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"smear\.tiff: the slide is \(100, 300\) px"):
        write_slide(tmp_path / "smear.tiff", (100, 300))
