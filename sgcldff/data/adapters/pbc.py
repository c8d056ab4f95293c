"""PBC (Acevedo et al. 2020, Barcelona): crops of about 360x363 px around one cell, one folder per class.

The attributes of its cells are a data set of their own: WBCAtt (Tsutsui et al., NeurIPS 2023).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.labels import BROADER, canonical
from sgcldff.core.morphology import VALUES, CellAttributes
from sgcldff.core.records import Sample
from sgcldff.data.adapters.annotations import Row, read_rows
from sgcldff.data.adapters.base import Download, PublishedSize, Rejected, child, entries, images_in
from sgcldff.data.adapters.folder import ClassFolders

PREFIXES = {"basophil": "BA_", "eosinophil": "EO_", "lymphocyte": "LY_", "monocyte": "MO_"}


@dataclass(frozen=True)
class Pbc(ClassFolders):
    """A class folder tree whose images carry the published prefixes.

    The prefix is the label where it is finer than the folder: `neutrophil/SNE_1.jpg` is a segmented neutrophil,
    `ig/MMY_1.jpg` a metamyelocyte; `neutrophil/NEUTROPHIL_1.jpg` and `ig/IG_1.jpg` are no more than their folders say.
    Tables of WBCAtt (`pbc_attr_v1_*.csv`) are read where they lie in the folder, beside it, or in a folder `wbcatt` in
    either place.
    """

    def source(self, folder: Path) -> str:
        """Name the data set, wherever it lies."""
        return self.name

    def label(self, image: Path) -> str:
        """Read the label of an image from its prefix and its folder."""
        kind, fine = canonical(image.parent.name), canonical(image.stem.partition("_")[0])
        return fine if BROADER.get(fine) == kind else kind

    def recognises(self, folder: Path) -> bool:
        """Look for class folders with images of the published names."""
        found = ((images_in(folder / name), prefix) for name, prefix in PREFIXES.items())
        return any(images and images[0].name.startswith(prefix) for images, prefix in found)

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the images of all classes, with their attributes where these are known."""
        attributes = _attributes(folder)
        for item in super().scan(folder):
            row = attributes.get(Path(item.image).name)
            try:
                yield item if row is None or isinstance(item, Rejected) else replace(item, attributes=_of(row))
            except InputError as error:
                yield Rejected(item.image, f"{error}; correct its row of WBCAtt")


def _attributes(folder: Path) -> Mapping[str, Row]:
    """Read the rows of WBCAtt by the names of their images."""
    places = [place for root in (folder, folder.parent) for place in (root, child(root, "wbcatt"))]
    tables = sorted(path for place in places for path in entries(place) if path.match("pbc_attr_v1_*.csv"))
    return {row["img_name"]: row for table in tables for row in read_rows(table, ("img_name", *VALUES))}


def _of(row: Row) -> CellAttributes:
    return CellAttributes(**{name: row[name] for name in VALUES})


ADAPTER = Pbc(
    name="pbc",
    title="PBC (types, one cell a crop)",
    licence="CC BY 4.0",
    url="https://data.mendeley.com/datasets/snkd93bnjr/1",
    instructions="download PBC_dataset_normal_DIB.zip from its page, unpack it, name the folder that holds basophil, "
    "eosinophil, lymphocyte, ...; the attributes of WBCAtt (https://github.com/apple2373/wbcatt, MIT) are read from "
    "pbc_attr_v1_train.csv, _val.csv and _test.csv in that folder, or in a folder wbcatt beside it",
    mpp=0.09,
    published=PublishedSize(((360, 363),)),
    download=Download(
        "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
        archive="PBC_dataset_normal_DIB.zip",
    ),
)
