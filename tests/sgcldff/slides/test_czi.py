"""CZI files, written by the library of their maker."""

import numpy as np
import pytest
from pylibCZIrw import czi

from sgcldff.core.errors import SlideError
from sgcldff.core.geometry import Box
from sgcldff.slides import open_slide
from sgcldff.slides.readers.czi import CziPicture

PICTURE = np.kron(np.random.default_rng(3).integers(0, 255, (35, 52, 3)), np.ones((20, 20, 1))).astype(np.uint8)
"""700 x 1040 px."""


def write(path, *planes, scale=2e-7, **where):
    with czi.create_czi(str(path)) as file:
        for number, picture in enumerate(planes):
            at = {name: values[number] for name, values in where.items()}
            file.write(np.ascontiguousarray(picture[..., ::-1]), **at)
        file.write_metadata("slide", scale_x=scale, scale_y=scale)
    return path


def test_pixels_and_scale_are_those_that_were_written(tmp_path):
    slide = open_slide(write(tmp_path / "slide.czi", PICTURE, location=[(-30, 17)]))
    assert (slide.ref.mpp, slide.shapes) == (pytest.approx(0.2), ((700, 1040), (350, 520), (175, 260)))
    np.testing.assert_array_equal(slide.read(Box.of(slide.shapes[0]), 0), PICTURE)
    box = Box(40, 60, 333, 500)
    np.testing.assert_array_equal(slide.read(box, 0), PICTURE[box.slices])
    slide.close()


@pytest.mark.parametrize("level", [1, 2])
def test_coarser_levels_show_the_same_place(tmp_path, level):
    picture, side = CziPicture(write(tmp_path / "slide.czi", PICTURE)), 20 // 2**level
    for y, x in ((0, 0), (7, 13), (34, 51)):
        seen = picture.pixels(Box(y * side, x * side, (y + 1) * side, (x + 1) * side), level)
        np.testing.assert_array_equal(seen[side // 2, side // 2], PICTURE[20 * y + 10, 20 * x + 10])
    picture.close()


def test_what_was_not_scanned_is_white(tmp_path):
    path = write(tmp_path / "slide.czi", PICTURE[:100, :100], PICTURE[:100, :100], location=[(0, 0), (150, 150)])
    slide = open_slide(path)
    assert slide.shapes[0] == (250, 250)
    assert (slide.read(Box(0, 150, 100, 250), 0) == 255).all()
    slide.close()


def test_a_scene_and_a_focal_plane_have_to_be_chosen(tmp_path):
    scenes = write(tmp_path / "scenes.czi", PICTURE, PICTURE[::-1], location=[(0, 0), (2000, 0)], scene=[0, 1])
    with pytest.raises(SlideError, match=r"contains 2 pictures: page 1 \('scene 0', 1040 x 700 px\)"):
        open_slide(scenes)
    np.testing.assert_array_equal(open_slide(f"{scenes}#page=2").read(Box(0, 0, 700, 1040), 0), PICTURE[::-1])
    planes = [{"C": 0, "Z": 0, "T": 0}, {"C": 0, "Z": 1, "T": 0}]
    stack = write(tmp_path / "stack.czi", PICTURE, 255 - PICTURE, plane=planes)
    with pytest.raises(SlideError, match="contains 2 focal planes"):
        open_slide(stack)
    np.testing.assert_array_equal(open_slide(f"{stack}#z=2").read(Box(0, 0, 700, 1040), 0), 255 - PICTURE)


def test_times_and_fluorescence_are_refused(tmp_path):
    planes = [{"C": 0, "Z": 0, "T": 0}, {"C": 0, "Z": 0, "T": 1}]
    with pytest.raises(SlideError, match=r"contains 2 times \(axis T\); export one alone"):
        open_slide(write(tmp_path / "times.czi", PICTURE, PICTURE, plane=planes))
    grey = tmp_path / "grey.czi"
    with czi.create_czi(str(grey)) as file:
        file.write(PICTURE[..., :1])
        file.write_metadata("slide", scale_x=2e-7, scale_y=2e-7)
    with pytest.raises(SlideError, match=r"its channels \(Gray8\) are no 8-bit brightfield"):
        open_slide(grey)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = write(tmp_path / "slide.czi", PICTURE)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SlideError, match=r"slide\.czi"):
        open_slide(path)
