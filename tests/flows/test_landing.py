"""Slides that land in a folder are read once, when they are whole."""

import os
import shutil
import time

import pytest

from flows.landing import read_landing
from sgcldff.core.errors import MissingInputError
from sgcldff.results.batch import SlideSummary
from tasks.compute import Compute


@pytest.fixture
def land(lab, slide, tmp_path):
    """Give the function that reads the folder `landing`."""
    (tmp_path / "landing").mkdir()

    def read():
        place, out = str(tmp_path / "landing"), str(tmp_path / "results")
        state = read_landing(
            place, out, lab.workspace, compute=Compute(workers=0), settings=lab.settings, return_state=True
        )
        return state.name, [path.rpartition("/")[2] for path in state.result()]

    return read


def put(slide, place, seconds_ago=3600):
    """Copy a slide, as if it had been written some time ago."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(slide.slide, place)
    os.utime(place, (time.time() - seconds_ago,) * 2)
    return place


def test_every_slide_is_read_once_and_only_when_it_is_whole(land, slide, tmp_path):
    landing = tmp_path / "landing"
    assert land() == ("Nothing new", [])
    put(slide, landing / "day-1" / "smear.tiff")
    growing = put(slide, landing / "growing.tiff", seconds_ago=0)
    assert land() == ("Completed", ["smear"])
    assert land() == ("Nothing new", [])
    os.utime(growing, (time.time() - 3600,) * 2)
    put(slide, landing / "day-2" / "smear.tiff")
    assert land() == ("Completed", ["day-2-smear", "growing"])
    assert land() == ("Nothing new", [])


def test_a_slide_that_was_set_aside_waits_for_a_person_or_another_file(land, slide, tmp_path):
    broken = tmp_path / "landing" / "broken.tiff"
    broken.write_bytes(b"II*\0 no slide at all")
    os.utime(broken, (1e9, 1e9))
    with pytest.raises(ValueError, match=r"broken\.tiff"):
        land()
    assert SlideSummary.read(tmp_path / "results" / "broken").reason
    assert land() == ("Nothing new", [])
    put(slide, broken)
    assert land() == ("Completed", ["broken"])


def test_a_folder_that_is_not_mounted_is_told(lab, tmp_path):
    with pytest.raises(MissingInputError, match="no such landing folder"):
        read_landing(str(tmp_path / "nowhere"), str(tmp_path / "out"), lab.workspace)
