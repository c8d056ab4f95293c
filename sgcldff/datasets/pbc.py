"""PBC (Acevedo et al. 2020, Barcelona): crops of about 360x363 px around one cell, a folder a class."""

from dataclasses import dataclass
from pathlib import Path

from sgcldff.datasets.base import Download, images_in
from sgcldff.datasets.folder import ClassFolders

PREFIXES = {"basophil": "BA_", "eosinophil": "EO_", "lymphocyte": "LY_", "monocyte": "MO_"}


@dataclass(frozen=True)
class Pbc(ClassFolders):
    """A class folder tree whose images carry the published prefixes."""

    def source(self, folder: Path) -> str:
        """Name the data set, wherever it lies."""
        return self.name

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
    "eosinophil, lymphocyte, ...; classes beyond the five types (erythroblast, ig, platelet) are set aside "
    "unless the labels asked for hold them",
    mpp=0.09,
    download=Download(
        "https://data.mendeley.com/public-files/datasets/snkd93bnjr/files/2fc38728-2ae7-4a62-a857-032af82334c3/file_downloaded",
        archive="PBC_dataset_normal_DIB.zip",
    ),
)
