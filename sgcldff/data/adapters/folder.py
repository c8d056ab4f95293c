"""Any set of images sorted into one folder a class."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.labels import canonical
from sgcldff.core.records import Sample
from sgcldff.data.adapters.base import Adapter, Rejected, entries, images_in


@dataclass(frozen=True)
class ClassFolders(Adapter):
    """Images in folders that are named by their class; the set takes the name of the folder around them."""

    def source(self, folder: Path) -> str:
        """Name the data set that lies in `folder`."""
        return folder.resolve().name

    def label(self, image: Path) -> str:
        """Read the label of an image from the name of its folder."""
        return canonical(image.parent.name)

    def recognises(self, folder: Path) -> bool:
        """Never: any folder could be one, so the user has to say it."""
        return False

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the images of all classes."""
        found = [image for place in class_folders(folder) for image in images_in(place)]
        if not found:
            raise self.not_found(folder, "folders that are named by a class and hold images")
        mpp, source = self.scale(), self.source(folder)
        for image in found:
            name = f"{source}/{image.parent.name}/{image.stem}"
            yield Sample(name, source, name, str(image), mpp, self.licence, label=self.label(image))


def class_folders(folder: Path) -> list[Path]:
    """List the visible folders in `folder`, by name."""
    return sorted(path for path in entries(folder) if path.is_dir() and not path.name.startswith("."))


ADAPTER = ClassFolders(
    name="folder",
    title="folder per class",
    licence="as its owner says",
    url="",
    instructions="name a folder with one folder a class (neutrophil, lymphocyte, ...), and the scale with mpp",
)
