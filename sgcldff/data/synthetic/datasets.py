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
"""Smears, each with a stain of its own, over which a set is dealt; 5 types and 16 smears meet in all pairs."""
FIELD_PX = 320
CROP_PX = (130, 160)


class Row(NamedTuple):
    """A line of the manifest; its fields are the columns."""

    image: str
    mask: str
    label: str
    group: str
    mpp: float


def write_dataset(
    folder: str | Path, n_crops: int = 600, n_fields: int = 60, seed: int = 0, mpp: float = MODEL_MPP
) -> Path:
    """Write crops with one labelled cell in their middle, and fields without a label, with masks and a manifest.

    The same arguments write the same pixels.

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
    require(min(n_crops, n_fields) >= 0 < n_crops + n_fields, f"{n_crops} crops and {n_fields} fields: give at least 1")
    folder = Path(folder)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(Row._fields)
        table.writerows(_rows(folder, (n_crops, n_fields), seed, mpp))
    return folder


def _rows(folder: Path, counts: tuple[int, int], seed: int, mpp: float) -> Iterator[Row]:
    smears = [random_smear(1000 * seed + number, mpp) for number in range(SMEARS)]
    for number in sorted(range(counts[0]), key=lambda number: number % SMEARS):
        label = FIVE_TYPES[number % len(FIVE_TYPES)]
        field = _crop(smears[number % SMEARS], label, np.random.default_rng([seed, 5, number]))
        yield _saved(folder, field, (f"crop-{number:05d}", label, number % SMEARS), mpp)
    for number in sorted(range(counts[1]), key=lambda number: number % SMEARS):
        shape = (round(FIELD_PX * MODEL_MPP / mpp),) * 2
        field = render_field(smears[number % SMEARS], (shape[0], shape[1]), np.random.default_rng([seed, 6, number]))
        yield _saved(folder, field, (f"field-{number:05d}", "", number % SMEARS), mpp)


def _crop(spec: SmearSpec, label: str, rng: np.random.Generator) -> SmearField:
    """Draw a crop around a cell of the given type, at times with a second cell that the border may cut."""
    side = round(rng.integers(*CROP_PX) * MODEL_MPP / spec.mpp)
    middle = side / 2 + rng.normal(0, 0.3 / spec.mpp, 2)
    spots = [Spot(label, *middle)]
    if rng.random() < 0.15:
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(16, 20) / spec.mpp
        other = str(rng.choice(FIVE_TYPES))
        spots.insert(0, Spot(other, middle[0] + reach * np.sin(turn), middle[1] + reach * np.cos(turn)))
    return render_field(spec, (side, side), rng, spots)


def _saved(folder: Path, field: SmearField, name: tuple[str, str, int], mpp: float) -> Row:
    stem, label, smear = name
    image, mask = f"images/{stem}.png", f"masks/{stem}.png"
    cv2.imwrite(str(folder / image), field.rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    cv2.imwrite(str(folder / mask), field.target)
    return Row(image, mask, label, f"smear-{smear:02d}", mpp)
