"""ALL-IDB1: entire fields of up to 2592x1944 px, with the centres of the lymphoblasts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.labels import BLAST
from sgcldff.core.records import Boxes, Sample
from sgcldff.core.tables import LARGEST, whole_number
from sgcldff.data.adapters.all_idb2 import label_in_name
from sgcldff.data.adapters.base import Adapter, Rejected, child, images_in


@dataclass(frozen=True)
class AllIdb1(Adapter):
    """Fields in `im`, centres of blasts in `xyc/ImNNN_1.xyc`, one `x y` per line.

    A field without blasts has no annotated cells, since its other white blood cells are not listed.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for names of ALL-IDB in `im`."""
        return any(label_in_name(path) for path in images_in(child(folder, "im")))

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the fields."""
        images = images_in(child(folder, "im"))
        if not images:
            raise self.not_found(folder, "images in im")
        for image in images:
            label, centres = label_in_name(image), child(folder, "xyc", f"{image.stem}.xyc")
            try:
                if label is None:
                    raise InputError(f"name {image.name!r} has no class: expected ImNNN_0 or ImNNN_1; rename it")
                yield replace(self.sample(image, label), boxes=_points(centres) if label == BLAST else None)
            except InputError as error:
                yield Rejected(str(image), str(error))


def _points(path: Path) -> Boxes | None:
    if not path.is_file():
        return None
    with reading(path, "not a list of centres", "expected one 'x y' per line"):
        pairs = [line.split() for line in path.read_text().splitlines() if line.strip()]
        centres = [[whole_number(str(path), "a centre", text, (0, LARGEST)) for text in pair] for pair in pairs]
        return tuple((x, y, x, y) for x, y in centres)


ADAPTER = AllIdb1(
    name="all_idb1",
    title="ALL-IDB1 (fields with the centres of blasts)",
    licence="free for research on request from its authors (Labati, Piuri and Scotti 2011)",
    url="https://homes.di.unimi.it/scotti/all/",
    instructions="ask the authors for access, unpack ALL_IDB1, and name the folder with im and xyc",
    mpp=0.09,
)
"""The scale is assumed to be that of ALL-IDB2, whose crops were cut from these fields."""
