"""Any set of images sorted into one folder per class."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.labels import canonical
from sgcldff.core.records import Sample
from sgcldff.data.adapters.base import Adapter, Rejected, entries_in, images_in


@dataclass(frozen=True)
class ClassFolders(Adapter):
    """Images in folders named after their class; the data set has the name of the parent folder."""

    def source(self, folder: Path) -> str:
        """Return the name of the data set in `folder`."""
        return folder.resolve().name

    def label(self, image: Path) -> str:
        """Return the label of an image, from the name of its folder."""
        return canonical(image.parent.name)

    def recognises(self, folder: Path) -> bool:
        """Return False: any folder could be one, so the user has to name this adapter."""
        return False

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the images of all classes."""
        images = [image for subfolder in class_folders(folder) for image in images_in(subfolder)]
        if not images:
            raise self.not_found(folder, "folders of images, named after their class")
        mpp, source = self.scale(), self.source(folder)
        for image in images:
            name = f"{source}/{image.parent.name}/{image.stem}"
            yield Sample(name, source, name, str(image), mpp, self.licence, label=self.label(image))


def class_folders(folder: Path) -> list[Path]:
    """List the visible folders in `folder`, by name."""
    return sorted(path for path in entries_in(folder) if path.is_dir() and not path.name.startswith("."))


ADAPTER = ClassFolders(
    name="folder",
    title="folder per class",
    licence="as its owner says",
    url="",
    instructions="name a folder with one folder per class (neutrophil, lymphocyte, ...), and the scale with mpp",
)
