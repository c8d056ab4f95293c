"""PBC (Acevedo et al. 2020, Barcelona): crops of about 360x363 px around one cell, one folder per class.

The attributes of its cells are published separately: WBCAtt (Tsutsui et al., NeurIPS 2023).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.labels import BROADER, canonical
from sgcldff.core.morphology import VALUES, CellAttributes
from sgcldff.core.records import Sample
from sgcldff.core.tables import TableRow, read_rows
from sgcldff.data.adapters.base import Download, PublishedSize, Rejected, child, entries_in, images_in
from sgcldff.data.adapters.folder import ClassFolders

PREFIXES = {"basophil": "BA_", "eosinophil": "EO_", "lymphocyte": "LY_", "monocyte": "MO_"}


@dataclass(frozen=True)
class Pbc(ClassFolders):
    """Class folders whose images have the published prefixes.

    The prefix gives the label if it is finer than the folder: `neutrophil/SNE_1.jpg` is a segmented neutrophil,
    `ig/MMY_1.jpg` a metamyelocyte, while `neutrophil/NEUTROPHIL_1.jpg` and `ig/IG_1.jpg` have the label of the folder.
    Tables of WBCAtt (`pbc_attr_v1_*.csv`) are read from the folder, its parent, or a folder `wbcatt` in either.
    """

    def source(self, folder: Path) -> str:
        """Return the adapter's name, whatever the folder is called."""
        return self.name

    def label(self, image: Path) -> str:
        """Return the label of an image, from its prefix and its folder."""
        kind, fine = canonical(image.parent.name), canonical(image.stem.partition("_")[0])
        return fine if BROADER.get(fine) == kind else kind

    def recognises(self, folder: Path) -> bool:
        """Look for class folders with images that have the published names."""
        found = ((images_in(folder / name), prefix) for name, prefix in PREFIXES.items())
        return any(images and images[0].name.startswith(prefix) for images, prefix in found)

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the images of all classes, with their attributes if known."""
        attributes = _attributes(folder)
        for item in super().scan(folder):
            row = attributes.get(Path(item.image).name)
            if row is None or isinstance(item, Rejected):
                yield item
                continue
            try:
                yield replace(item, attributes=CellAttributes(**{name: row[name] for name in VALUES}))
            except InputError as error:
                yield Rejected(item.image, f"{error}; correct its row of WBCAtt")


def _attributes(folder: Path) -> Mapping[str, TableRow]:
    """Read the rows of WBCAtt by the names of their images."""
    folders = [path for root in (folder, folder.parent) for path in (root, child(root, "wbcatt"))]
    tables = sorted(path for parent in folders for path in entries_in(parent) if path.match("pbc_attr_v1_*.csv"))
    return {row["img_name"]: row for table in tables for row in read_rows(table, ("img_name", *VALUES))}


ADAPTER = Pbc(
    name="pbc",
    title="PBC (types, one cell per crop)",
    licence="CC BY 4.0",
    url="https://data.mendeley.com/datasets/snkd93bnjr/1",
    instructions="download PBC_dataset_normal_DIB.zip from its page, unpack it, name the folder with basophil, "
    "eosinophil, lymphocyte, ...; the attributes of WBCAtt (https://github.com/apple2373/wbcatt, MIT) are read from "
    "pbc_attr_v1_train.csv, _val.csv and _test.csv in that folder, or in a folder wbcatt beside it",
    mpp=0.09,
    published=PublishedSize(((360, 363),)),
    download=Download(
        "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
        archive="PBC_dataset_normal_DIB.zip",
    ),
)
