"""KRD-WBC: fields of 512x512 px around one white blood cell, with the outline of the entire cell and its type."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.labels import canonical
from sgcldff.core.records import MaskCode, Sample
from sgcldff.core.tables import read_rows
from sgcldff.data.adapters.base import Adapter, PublishedSize, Rejected, child, images_in

ARCHIVE, IMAGES, MASKS, TYPE_TABLE = "KRD-WBC dataset", "image", "mask", "class labels.csv"
NAME_PATTERN = re.compile(r"[a-z]+(\d+)", re.IGNORECASE)
"""Images, masks and rows of the table are matched by number; some rows are misspelt (`Imaeg405`)."""

MISALIGNED_MASKS = ("344",)
"""Masks with a stale EXIF orientation, which do not match their images after it is applied."""


@dataclass(frozen=True)
class KrdWbc(Adapter):
    """Images `Dataset/image/imageN.jpg`, masks `Dataset/mask/maskN.jpg`, types in `class labels.csv`.

    The masks show entire cells without their nuclei. Masks and types may be missing, and the mask of image 344 is left
    out. The folder is either `KRD-WBC dataset` or the one that contains it.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for images and masks with the published names."""
        folders = (child(_root(folder), "Dataset", part) for part in (IMAGES, MASKS))
        return all(any(NAME_PATTERN.fullmatch(image.stem) for image in images_in(part)) for part in folders)

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the fields."""
        root = _root(folder)
        images = images_in(child(root, "Dataset", IMAGES))
        if not images:
            raise self.not_found(folder, "images in Dataset/image")
        masks = {_number(path.stem): path for path in images_in(child(root, "Dataset", MASKS))}
        masks = {number: path for number, path in masks.items() if number not in MISALIGNED_MASKS}
        types = _types(child(root, TYPE_TABLE))
        for image in images:
            number = _number(image.stem)
            if number:
                yield self.sample(image, types.get(number), masks.get(number))
            else:
                yield Rejected(str(image), f"name {image.name!r} has no number: expected imageN.jpg; rename it")


def _number(name: str) -> str:
    match = NAME_PATTERN.fullmatch(name)
    return match[1] if match else ""


def _root(folder: Path) -> Path:
    nested = child(folder, ARCHIVE)
    return nested if nested.is_dir() else folder


def _types(table: Path) -> Mapping[str, str]:
    if not table.is_file():
        return {}
    rows = read_rows(table, ("image id", "category"), {"categoriy": "category"})
    return {_number(row["image id"]): canonical(row["category"]) for row in rows if row["category"]}


ADAPTER = KrdWbc(
    name="krd_wbc",
    title="KRD-WBC (types, outlines of entire cells)",
    licence="CC BY 4.0",
    url="https://data.mendeley.com/datasets/jzdj6h7gms/2",
    instructions="download the archive from its page, unpack it, name the folder with 'KRD-WBC dataset'",
    mpp=0.103,
    published=PublishedSize(((512, 512),)),
    mask_code=MaskCode(127, None),
)
"""White blood cells are about 131 px wide."""
