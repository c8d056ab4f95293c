"""Fixtures of the tests beside this file."""

import fsspec
import numpy as np
import pytest
import zarr

from sgcldff.data.synthetic import write_slide
from sgcldff.slides.remote import cache as copies
from tests.sgcldff.slides.buckets import SHAPE


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Two slides: a TIFF of a few hundred kB and an OME-Zarr folder."""
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "scan.tif", SHAPE, 0.25, 5)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 200, 210), np.uint8)
    root = zarr.open_group(folder / "image.ome.zarr", mode="w")
    root.create_array("0", data=pixels, chunks=(3, 64, 64))
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": name, "type": "space", "unit": "micrometer"} for name in ("y", "x")
    ]
    steps = [{"type": "scale", "scale": [1.0, 0.25, 0.25]}]
    root.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}],
    }
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SGCLDFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(copies, "RETRY_PAUSE_S", 0.01)
    return tmp_path / "cache"


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)
