"""BCCD: fields of 640x480 px with boxes (Pascal VOC), hand-made masks and the type of the white blood cell."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.labels import canonical
from sgcldff.core.records import Boxes, MaskCode, Sample
from sgcldff.core.tables import LARGEST, number, read_rows
from sgcldff.data.adapters.base import Adapter, Download, PublishedSize, Rejected, child, images_in


@dataclass(frozen=True)
class Bccd(Adapter):
    """Fields in `JPEGImages`; `Annotations`, `masks` and `labels.csv` may each be missing.

    The folder is either the one that contains `BCCD/JPEGImages` or the one that contains `JPEGImages` itself; types and
    masks lie in it or, if that is called BCCD, beside it.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for fields named as in BCCD, so that other Pascal VOC sets are not mistaken for it."""
        return any(path.name.startswith("BloodImage_") for path in images_in(_fields(folder)))

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the fields; a field has a label only if the table lists exactly one cell type for it."""
        images = images_in(_fields(folder))
        if not images:
            raise self.not_found(folder, "images in JPEGImages or BCCD/JPEGImages")
        types, base = _types(folder), _fields(folder).parent
        found = (path for place in _places(folder) for path in images_in(place / "masks"))
        masks = {path.stem.rpartition("_")[2]: path for path in found}
        for image in images:
            try:
                boxes = _boxes(base / "Annotations" / f"{image.stem}.xml")
            except InputError as error:
                yield Rejected(str(image), str(error))
                continue
            number = image.stem.rpartition("_")[2]
            label = types.get(number.lstrip("0")) if number.isdigit() else None
            yield replace(self.sample(image, label, masks.get(number)), boxes=boxes)


def _fields(folder: Path) -> Path:
    nested = child(folder, "BCCD", "JPEGImages")
    return nested if nested.is_dir() else child(folder, "JPEGImages")


def _places(folder: Path) -> tuple[Path, ...]:
    """Return where masks and types may lie."""
    base = _fields(folder).parent
    return (folder, base, base.parent) if base.name == "BCCD" else (folder, base)


def _types(folder: Path) -> dict[str, str]:
    """Read the types by the images' numbers, without leading zeros."""
    table = next((place / "labels.csv" for place in _places(folder) if (place / "labels.csv").is_file()), None)
    rows = read_rows(table, ("image", "category")) if table else ()
    categories = {row["image"]: row["category"].strip() for row in rows}
    return {
        image.lstrip("0"): canonical(name)
        for image, name in categories.items()
        if image.isdigit() and name and "," not in name
    }


def _boxes(annotation: Path) -> Boxes | None:
    """Read the boxes of the white blood cells; None if the field is not annotated."""
    if not annotation.is_file():
        return None
    with reading(annotation, "not a Pascal VOC annotation", "fetch it again"):
        objects = ET.parse(annotation).getroot().iter("object")  # noqa: S314  # Expat 2.4.1 and later bound entities
        cells = [item for item in objects if (item.findtext("name") or "").strip().upper() == "WBC"]
        return tuple(_box(str(annotation), item) for item in cells)


def _box(place: str, item: ET.Element) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (
        round(number(place, side, item.findtext(f"bndbox/{side}") or "", (-LARGEST, LARGEST)))
        for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


ADAPTER = Bccd(
    name="bccd",
    title="BCCD (boxes, masks, types)",
    licence="MIT",
    url="https://github.com/Shenggan/BCCD_Dataset",
    instructions="download the repository and name the folder with BCCD/JPEGImages and BCCD/Annotations; optionally, "
    "put labels.csv (columns Image, Category) and masks/BloodImage_Mask_NNNNN.png beside BCCD",
    mpp=0.075,
    published=PublishedSize(((640, 480),)),
    mask_code=MaskCode(64, 200),
    download=Download("https://github.com/Shenggan/BCCD_Dataset/archive/refs/tags/v1.0.zip", archive="bccd-1.0.zip"),
)
