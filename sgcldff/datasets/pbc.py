"""PBC (Acevedo et al. 2020, Barcelona): crops of about 360x363 px around one cell, a folder a class."""

from dataclasses import dataclass
from pathlib import Path

from sgcldff.datasets.base import Download, images_in
from sgcldff.datasets.folder import ClassFolders
from sgcldff.labels import BROADER, canonical

PREFIXES = {"basophil": "BA_", "eosinophil": "EO_", "lymphocyte": "LY_", "monocyte": "MO_"}


@dataclass(frozen=True)
class Pbc(ClassFolders):
    """A class folder tree whose images carry the published prefixes.

    The prefix is the label where it is finer than the folder: `neutrophil/SNE_1.jpg` is a segmented neutrophil,
    `ig/MMY_1.jpg` a metamyelocyte; `neutrophil/NEUTROPHIL_1.jpg` and `ig/IG_1.jpg` are no more than their folders say.
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


ADAPTER = Pbc(
    name="pbc",
    title="PBC (types, one cell a crop)",
    licence="CC BY 4.0",
    url="https://data.mendeley.com/datasets/snkd93bnjr/1",
    instructions="download PBC_dataset_normal_DIB.zip from its page, unpack it, name the folder that holds basophil, "
    "eosinophil, lymphocyte, ...",
    mpp=0.09,
    download=Download(
        "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
        archive="PBC_dataset_normal_DIB.zip",
    ),
)
