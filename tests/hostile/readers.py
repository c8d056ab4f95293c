"""What the package does with files of each kind; each checks that what was read makes sense."""

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np

from flows.settings import Settings, read_settings
from flows.settings_file import to_toml
from sgcldff.cluster.config import cluster_of
from sgcldff.core.geometry import Box
from sgcldff.counting.agreement import read_manual
from sgcldff.counting.reference_counts import ReferenceTable, white_cells
from sgcldff.counting.reference_intervals import intervals_for, read_reference
from sgcldff.data.adapters import Source, detect
from sgcldff.data.adapters.base import Rejected
from sgcldff.data.catalog import ingest
from sgcldff.models.model import load_model
from sgcldff.models.reference import REFERENCE_FILE, Reference
from sgcldff.slides import find_slides, open_slide
from sgcldff.slides.images import read_grey, read_rgb
from sgcldff.slides.patient import Patient, Sex
from sgcldff.slides.scaled import ScaledSlide

SCALES = (0.02, 8.0)
"""um/px that a smear can have."""
INT32 = 2**31


def slide(folder: Path) -> None:
    """Open the only slide, and read its corner and its overview."""
    (path,) = folder.iterdir()
    with closing(open_slide(path)) as source:
        ref = source.ref
        assert SCALES[0] <= ref.mpp <= SCALES[1]
        assert min(ref.shape) > 0
        for level, shape in enumerate(source.shapes):
            box = Box(0, 0, *(min(side, 256) for side in shape))
            assert source.read(box, level).shape == (*box.shape, 3)
        if math.prod(ref.shape) < 1e8:
            pixels, _ = ScaledSlide(source, max(0.2, ref.mpp)).overview(256)
            assert pixels.dtype == np.uint8


def image(folder: Path) -> None:
    """Read the only file as an image, or as a mask if it is called so."""
    (path,) = folder.iterdir()
    pixels = read_grey(path) if path.stem.startswith("mask") else read_rgb(path)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == (2 if path.stem.startswith("mask") else 3)


def slide_list(folder: Path) -> None:
    """Read a list of slides."""
    for entry in find_slides([str(next(folder.glob("list.*")))]):
        assert entry.mpp is None or SCALES[0] <= entry.mpp <= SCALES[1]
        assert entry.id
        assert not entry.id.startswith(("=", "+", "-", "@", "."))


def manual(folder: Path) -> None:
    """Read manual counts."""
    for counts in read_manual(next(folder.glob("counts.*"))).values():
        assert all(0 <= count < INT32 for count in counts.values())


def reference_counts(folder: Path) -> None:
    """Read the counts of a validation study."""
    for one in ReferenceTable.read(next(folder.glob("counts.*"))).counts():
        assert all(white_cells(counts) > 0 for counts in one.counts)


def reference_intervals(folder: Path) -> None:
    """Read reference intervals; of each type and unit at most one holds for a patient."""
    rows = read_reference(folder / "lab.toml")
    patient = Patient(age=30, sex=Sex.FEMALE)
    assert len(intervals_for(patient, rows)) >= sum(row.holds_for(patient) for row in rows)
    assert all(row.low < row.high for row in rows)


def annotations(folder: Path) -> None:
    """Scan a data set, and ingest it where scanning works."""
    for source in detect(folder):
        for item in source.scan():
            if not isinstance(item, Rejected):
                assert SCALES[0] <= item.mpp <= SCALES[1]
                assert all(abs(side) < INT32 for box in item.boxes or () for side in box)
    ingest(detect(folder), folder / "catalog")


def names(folder: Path) -> None:
    """Find the slides in a folder of odd names, open them, and ingest them as images; one cannot stop the rest."""
    read = 0
    for entry in find_slides([str(folder)], mpp=0.25):
        for text in (entry.id, entry.shown_name):
            text.encode()
        assert "/" not in entry.id
        with closing(open_slide(entry.uri, entry.mpp, entry.id)) as source:
            read += min(source.ref.shape) > 0
    assert read >= 2
    assert ingest([Source("folder", str(folder), 0.25)], folder / ".catalog").samples


def settings(folder: Path) -> None:
    """Read settings; what is accepted can be written and read again."""
    found = read_settings(folder / "settings.toml")
    assert isinstance(found, Settings)
    (folder / "again.toml").write_text(to_toml(found))
    assert read_settings(folder / "again.toml") == found
    assert all(map(math.isfinite, numbers(found)))


def numbers(value: object) -> list[float]:
    """Give all numbers in a tree of dataclasses."""
    if isinstance(value, (int, float)):
        return [value]
    if not is_dataclass(value):
        return []
    return [number for part in vars(value).values() for number in numbers(part)]


def cluster(folder: Path) -> None:
    """Read a cluster file."""
    assert all(map(math.isfinite, numbers(cluster_of(str(folder / "cluster.toml")))))


def model(folder: Path) -> None:
    """Load a model, and classify a field with it."""
    loaded = load_model(folder, "cpu")
    if (folder / REFERENCE_FILE).exists():
        assert Reference.open(folder).model
    rgb = np.full((1, 64, 64, 3), 200, np.uint8)
    prior = np.zeros((1, len(loaded.spec.prior.names), 64, 64), np.float32)
    found = loaded.predict(rgb, prior)
    assert np.isfinite(found.cell_type).all()
    assert found.cell_type.shape == (1, len(loaded.spec.labels.classes))


READERS: Mapping[str, Callable[[Path], None]] = {
    reader.__name__: reader
    for reader in (
        slide,
        image,
        slide_list,
        manual,
        reference_counts,
        reference_intervals,
        annotations,
        names,
        settings,
        cluster,
        model,
    )
}
