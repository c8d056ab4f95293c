"""KRD-WBC: fields of 512x512 px around one white blood cell, with the outline of the whole cell and its type."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.labels import canonical
from sgcldff.core.records import MaskCode, Sample
from sgcldff.data.adapters.annotations import read_rows
from sgcldff.data.adapters.base import Adapter, PublishedSize, Rejected, child, images_in

ARCHIVE, IMAGES, MASKS, TYPES = "KRD-WBC dataset", "image", "mask", "class labels.csv"
NAME = re.compile(r"[a-z]+(\d+)", re.IGNORECASE)
"""Images, masks and rows of the table go together by their numbers; some rows are misspelt (`Imaeg405`)."""

TURNED = ("344",)
"""Masks whose EXIF orientation is stale: turned as it says, as masks are, they do not lie on their images."""


@dataclass(frozen=True)
class KrdWbc(Adapter):
    """Images `Dataset/image/imageN.jpg`, masks `Dataset/mask/maskN.jpg`, types in `class labels.csv`.

    The masks show the cell as a whole: where its nucleus lies is unknown. Masks and types may be missing, and the mask
    of image 344 is left out. The folder is either `KRD-WBC dataset` or the one that holds it.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for images and masks of the published names."""
        places = (child(_root(folder), "Dataset", part) for part in (IMAGES, MASKS))
        return all(any(NAME.fullmatch(image.stem) for image in images_in(place)) for place in places)

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the fields."""
        root = _root(folder)
        images = images_in(child(root, "Dataset", IMAGES))
        if not images:
            raise self.not_found(folder, "images in Dataset/image")
        masks = {_number(path.stem): path for path in images_in(child(root, "Dataset", MASKS))}
        masks = {number: path for number, path in masks.items() if number not in TURNED}
        types = _types(child(root, TYPES))
        for image in images:
            number = _number(image.stem)
            if number:
                yield self.sample(image, types.get(number), masks.get(number))
            else:
                yield Rejected(str(image), f"name {image.name!r} has no number: expected imageN.jpg; rename it")


def _number(name: str) -> str:
    match = NAME.fullmatch(name)
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
    title="KRD-WBC (types, outlines of whole cells)",
    licence="CC BY 4.0",
    url="https://data.mendeley.com/datasets/jzdj6h7gms/2",
    instructions="download the archive from its page, unpack it, name the folder that holds 'KRD-WBC dataset'",
    mpp=0.103,
    published=PublishedSize(((512, 512),)),
    mask_code=MaskCode(127, None),
)
"""A white blood cell is about 131 px wide."""
