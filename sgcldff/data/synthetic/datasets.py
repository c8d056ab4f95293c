"""A folder of synthetic crops and fields in the layout of the generic table adapter."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.settings import MODEL_MPP, require
from sgcldff.data.synthetic.fields import SmearField, render_field
from sgcldff.data.synthetic.layout import Spot
from sgcldff.data.synthetic.stain import SmearSpec, random_smear

SMEARS = 16
"""Number of smears, each with its own stain, over which a set is distributed; all pairs of type and smear occur."""
FIELD_PX = 320
CROP_PX = (130, 160)


class ManifestRow(NamedTuple):
    """A row of the manifest; its fields are the columns."""

    image: str
    mask: str
    label: str
    group: str
    mpp: float


def write_dataset(
    folder: str | Path, n_crops: int = 600, n_fields: int = 60, seed: int = 0, mpp: float = MODEL_MPP
) -> Path:
    """Write crops with one labelled cell in their centre, and fields without a label, with masks and a manifest.

    The same arguments give the same pixels.

    Returns
    -------
    Path
        The folder: `manifest.csv` (image, mask, label, group, mpp), `images/`, `masks/` (0 background, 128 cytoplasm,
        255 nucleus).

    Raises
    ------
    InputError
        If a number is negative or both are 0.
    """
    require(min(n_crops, n_fields) >= 0 < n_crops + n_fields, f"{n_crops} crops and {n_fields} fields: need at least 1")
    folder = Path(folder)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(ManifestRow._fields)
        table.writerows(_write_images(folder, n_crops, n_fields, seed, mpp))
    return folder


def _write_images(folder: Path, n_crops: int, n_fields: int, seed: int, mpp: float) -> Iterator[ManifestRow]:
    smears = [random_smear(1000 * seed + number, mpp) for number in range(SMEARS)]
    for number in sorted(range(n_crops), key=lambda number: number % SMEARS):
        label, smear = FIVE_TYPES[number % len(FIVE_TYPES)], number % SMEARS
        field = _crop(smears[smear], label, np.random.default_rng([seed, 5, number]))
        yield _save(folder, field, f"crop-{number:05d}", label, smear, mpp)
    for number in sorted(range(n_fields), key=lambda number: number % SMEARS):
        smear, side = number % SMEARS, round(FIELD_PX * MODEL_MPP / mpp)
        field = render_field(smears[smear], (side, side), np.random.default_rng([seed, 6, number]))
        yield _save(folder, field, f"field-{number:05d}", "", smear, mpp)


def _crop(spec: SmearSpec, label: str, rng: np.random.Generator) -> SmearField:
    """Draw a crop around a cell of the given type, sometimes with a second cell that the border may cut."""
    side = round(rng.integers(*CROP_PX) * MODEL_MPP / spec.mpp)
    middle = side / 2 + rng.normal(0, 0.3 / spec.mpp, 2)
    spots = [Spot(label, *middle)]
    if rng.random() < 0.15:
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(16, 20) / spec.mpp
        other = str(rng.choice(FIVE_TYPES))
        spots.insert(0, Spot(other, middle[0] + reach * np.sin(turn), middle[1] + reach * np.cos(turn)))
    return render_field(spec, (side, side), rng, spots)


def _save(folder: Path, field: SmearField, stem: str, label: str, smear: int, mpp: float) -> ManifestRow:
    image, mask = f"images/{stem}.png", f"masks/{stem}.png"
    cv2.imwrite(str(folder / image), field.rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    cv2.imwrite(str(folder / mask), field.target)
    return ManifestRow(image, mask, label, f"smear-{smear:02d}", mpp)
