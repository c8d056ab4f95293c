"""Raabin-WBC (Kouzehkanan et al. 2022): crops of 575x575 px from phones on two microscopes, one folder per type."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sgcldff.core.labels import FIVE_TYPES, canonical
from sgcldff.core.records import Sample
from sgcldff.data.adapters.base import Adapter, PublishedSize, Rejected, images_in
from sgcldff.data.adapters.folder import class_folders

NAME_PATTERN = re.compile(r"(\d+-\d+-\d+-\d+|\d{8})_\d+_\d+")
"""`95-8-10-1_114_1` or `20190527_113018_0`: slide, then field (or time) and cell."""


@dataclass(frozen=True)
class Raabin(Adapter):
    """Images in `PART/TYPE`, where the parts are `Train`, `TestA` and so on; the group is the slide.

    The folder is either the one that contains the parts, or a part itself.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for images with the published names."""
        images = map(images_in, _type_folders(folder))
        return any(NAME_PATTERN.fullmatch(of_type[0].stem) for of_type in images if of_type)

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the crops of all types."""
        images = [image for subfolder in _type_folders(folder) for image in images_in(subfolder)]
        if not images:
            raise self.not_found(folder, "images in Train/TYPE")
        for image in images:
            name = NAME_PATTERN.fullmatch(image.stem)
            if name is None:
                yield Rejected(
                    str(image), f"name {image.name!r} contains no slide: expected SLIDE_FIELD_CELL; rename it"
                )
            else:
                kind = canonical(image.parent.name)
                sample = self.sample(image, kind, name=f"{kind}/{image.stem}")
                yield replace(sample, group=f"{self.name}/{name[1]}")


def _type_folders(folder: Path) -> list[Path]:
    folders = [subfolder for part in (folder, *class_folders(folder)) for subfolder in class_folders(part)]
    return [path for path in folders if canonical(path.name) in FIVE_TYPES]


ADAPTER = Raabin(
    name="raabin",
    title="Raabin-WBC (types, by slide)",
    licence="free, also commercially, as its authors state, if Kouzehkanan et al. 2022 is cited",
    url="https://raabindata.com/free-data/",
    instructions="download Train (and TestA) of the double-labelled cropped cells, unpack them side by side, and name "
    "their parent folder",
    mpp=0.077,
    published=PublishedSize(((575, 575),)),
)
"""White blood cells are about 175 px wide."""
