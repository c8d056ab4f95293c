"""Photographs of a batch that share a scale: red cells of all of them give and check it."""

from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from sgcldff.core.errors import SlideError
from sgcldff.core.records import ScaleSource
from sgcldff.slides import find_slides, open_slide, scale_group
from sgcldff.slides.scale_group import scale_groups
from tests.sgcldff.slides.test_red_cells import photo

pytestmark = pytest.mark.slow

MPP = 0.08


def save(path, rgb, mpp=None):
    dpi = None if mpp is None else (25400 / mpp, 25400 / mpp)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(rgb).save(path, **({} if dpi is None else {"dpi": dpi}))


@pytest.fixture
def photos(tmp_path):
    """A folder of photographs with 4 to 19 red cells each, and one of glass."""
    folder = tmp_path / "photos"
    for seed in range(3, 9):
        save(folder / f"{seed}.png", photo(MPP, seed, side_um=45.0))
    save(folder / "glass.png", np.full((500, 500, 3), 240, np.uint8))
    return folder


def measured(folder, mpp=None):
    """Return what red cells say of each slide of a folder, by its id."""
    slides = find_slides([str(folder)], mpp)
    groups, found = scale_groups(slides), {}
    for entry in slides:
        with closing(open_slide(entry.uri, entry.mpp, entry.id, group=groups[entry.uri])) as slide:
            found[slide.ref.id] = slide
            slide.red_cells  # noqa: B018  measured while the file is open
    return found


def test_photographs_are_checked_by_the_red_cells_of_all(photos):
    with pytest.raises(SlideError, match="fewer than 20"):
        open_slide(photos / "glass.png", "auto")
    found = measured(photos, 0.25)
    scales = {slide.red_cells for slide in found.values()}
    (scale,) = scales  # not one has 20 of its own
    assert scale.mpp == pytest.approx(MPP, rel=0.1)
    assert scale.cells >= 20
    assert scale.slides == 6  # glass shows none
    assert scale.contradicts(0.25)
    assert "cells of 6 images" in str(scale)


def test_auto_gives_all_of_them_the_scale_of_all(photos):
    found = measured(photos, "auto")
    assert {slide.ref.scale_from for slide in found.values()} == {ScaleSource.RED_CELLS}
    assert len({slide.ref.mpp for slide in found.values()}) == 1
    assert found["glass"].ref.mpp == pytest.approx(MPP, rel=0.1)


def test_every_photograph_is_measured_once(photos, monkeypatch):
    calls = []
    monkeypatch.setattr(
        scale_group, "widths_in", lambda fields, of=scale_group.widths_in: calls.append(1) or of(fields)
    )
    measured(photos, "auto")
    assert len(calls) == 7


def test_photographs_of_another_scale_are_not_pooled(photos):
    """They lie in another folder, or their files state it."""
    before = measured(photos, "auto")["3"].red_cells
    save(photos.parent / "others" / "far.png", photo(0.2, 1, side_um=45.0))
    save(photos / "stated.png", photo(0.2, 2, side_um=45.0), mpp=0.2)
    with pytest.raises(SlideError, match=r"far\.png.*fewer than 20"):
        measured(photos.parent, "auto")
    found = measured(photos, "auto")
    assert found["3"].red_cells == before
    assert found["stated"].ref.scale_from is ScaleSource.FILE
    assert found["stated"].red_cells.slides == 1
    assert not found["stated"].red_cells.contradicts(0.2)


def test_a_folder_of_several_scales_states_none(photos):
    for seed in range(3):
        save(photos / f"coarse{seed}.png", photo(0.2, seed, side_um=45.0))
    scales = [slide.red_cells for slide in measured(photos, 0.08).values() if slide.red_cells]
    assert {scale.slides for scale in scales} == {1}


def test_a_damaged_photograph_does_not_keep_the_others_from_being_measured(photos):
    (photos / "0.png").write_bytes((photos / "3.png").read_bytes()[:2000])
    slides = find_slides([str(photos)], 0.25)
    glass = next(entry for entry in slides if entry.id == "glass")
    with closing(open_slide(glass.uri, 0.25, group=scale_groups(slides)[glass.uri])) as slide:
        assert slide.red_cells.contradicts(0.25)
