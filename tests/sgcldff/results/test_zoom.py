"""Pictures beside a report: only what is sharper than the page, only around cells, of a bounded number of them."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from sgcldff.core.records import SlideRef
from sgcldff.inference import serially
from sgcldff.results import gallery
from sgcldff.results import zoom as zooming
from sgcldff.results.gallery import DETAILED, Gallery
from sgcldff.results.slide import read_slide_job
from sgcldff.results.zoom import BESIDE_PX, FIELD_UM, TILE_PX, write_zoom
from tests.sgcldff.painted import ColourModel
from tests.sgcldff.results.reports import PaintedSlide, cell_at

CELLS = [(300.0, 400.0), (2500.0, 4500.0), (2990.0, 40.0)]


@cache
def large(mpp=0.2, shape=(3000, 5000)):
    """Give a slide of three levels whose pixels say where they are."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.uint16)
    pixels = np.stack([rows // 20, columns // 20, np.full(shape, 90)], axis=2).astype(np.uint8)
    ref = SlideRef("large", "/large.tiff", "ab" * 32, mpp, shape, 3)
    return PaintedSlide(ref, pixels, (1.0, 2.0, 8.0))


def pictures(folder):
    return {path.name: path.read_bytes() for path in (folder / "report").iterdir()}


def test_tiles_cover_the_surroundings_of_cells_and_nothing_else(tmp_path):
    slide = large()
    zoom = write_zoom(tmp_path, slide, CELLS)
    names = {f"{row}-{column}.jpg" for row, column in zoom.tiles}
    assert set(pictures(tmp_path)) == {"overview.jpg"} | names
    reach = FIELD_UM / slide.ref.mpp / 2
    for y, x in CELLS:
        for dy, dx in np.array([(-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0)]) * (reach - 1):
            place = np.clip((y + dy, x + dx), 0, np.array(slide.ref.shape) - 1)
            assert tuple((place // TILE_PX).astype(int)) in zoom.tiles
    for row, column in zoom.tiles:
        near = [max(abs((row + 0.5) * TILE_PX - y), abs((column + 0.5) * TILE_PX - x)) for y, x in CELLS]
        assert min(near) <= reach + TILE_PX
    row, column = zoom.tiles[0]
    tile = cv2.imread(str(tmp_path / "report" / f"{row}-{column}.jpg"))[..., ::-1].astype(int)
    expected = slide.pixels[row * TILE_PX : (row + 1) * TILE_PX, column * TILE_PX : (column + 1) * TILE_PX]
    assert np.abs(tile - expected).max() <= 6
    assert zoom.inside.shape == (840, 1400, 3)
    assert cv2.imread(str(tmp_path / "report" / "overview.jpg")).shape[1] == BESIDE_PX


def test_a_level_that_is_far_finer_is_not_read_for_the_overview(tmp_path, monkeypatch):
    monkeypatch.setattr(zooming, "FAR_PX", 4500)
    write_zoom(tmp_path, large(), CELLS)
    assert cv2.imread(str(tmp_path / "report" / "overview.jpg")).shape[1] == 2500


def test_the_same_cells_give_the_same_bytes_and_what_was_left_is_removed(tmp_path):
    write_zoom(tmp_path, large(), CELLS)
    first = pictures(tmp_path)
    (tmp_path / "report" / "0-0.jpg").write_bytes(b"of another run")
    write_zoom(tmp_path, large(), reversed(CELLS))
    assert pictures(tmp_path) == first


@pytest.mark.parametrize(("mpp", "shape"), [(0.2, (900, 1400)), (0.05, (480, 640))])
def test_a_photograph_needs_no_pictures_beside_the_page(tmp_path, mpp, shape):
    slide = large(mpp, shape)
    write_zoom(tmp_path, large(), CELLS)
    zoom = write_zoom(tmp_path, slide, [(100.0, 100.0)])
    assert np.array_equal(zoom.inside, slide.pixels), "the page holds it at full sharpness"
    assert [*tmp_path.iterdir()] == []


def test_tiles_are_no_finer_than_can_be_seen(tmp_path):
    zoom = write_zoom(tmp_path, large(0.05), [(1500.0, 3000.0)])
    side = FIELD_UM / 0.1
    assert zoom.sharp.factor == 2
    assert len(zoom.tiles) <= (side / TILE_PX + 2) ** 2
    assert all(abs((row + 0.5) * TILE_PX - 750) < side for row, _ in zoom.tiles)


@pytest.mark.parametrize("counts", [{"a": 5 * DETAILED}, {"a": 2 * DETAILED, "b": 2 * DETAILED, "c": 7}])
def test_details_are_bounded_and_rare_types_are_shown_in_full(counts):
    shown = Gallery(
        cell_at(f"{label}{number}", (10.0, 10.0), label) for label, many in counts.items() for number in range(many)
    ).types(tuple(counts))
    detailed = {one.label: len(one.detailed) for one in shown}
    assert DETAILED - len(counts) < sum(detailed.values()) <= DETAILED
    assert detailed.get("c", 7) == 7
    assert detailed["a"] == detailed.get("b", DETAILED)
    for one in shown:
        assert {cell.cell_id for cell, _ in one.detailed} <= {cell.cell_id for cell in one.ringed}
        assert {cell.cell_id for cell in one.pictured} <= {cell.cell_id for cell, _ in one.detailed}


def test_more_types_than_details_still_show_a_cell_each(monkeypatch):
    monkeypatch.setattr(gallery, "DETAILED", 3)
    labels = "abcdef"
    shown = Gallery(cell_at(label + str(n), (1.0, 1.0), label) for label in labels for n in range(4)).types(labels)
    assert [len(one.detailed) for one in shown] == [1] * len(labels)


def test_lost_and_damaged_pictures_are_written_again(job, tmp_path, monkeypatch):
    job = replace(job, out=str(tmp_path / "zoomed"))
    monkeypatch.setattr(zooming, "INSIDE_PX", 100)
    monkeypatch.setattr(zooming, "BESIDE_PX", 150)
    read_slide_job(job, serially(ColourModel()))
    whole = pictures(job.folder)
    assert len(whole) > 2
    first, second, *_ = sorted(whole)
    (job.folder / "report" / first).unlink()
    (job.folder / "report" / second).write_bytes(b"damaged")
    read_slide_job(job, serially(ColourModel()))
    assert pictures(job.folder) == whole
