"""LISC: fields of 720x576 px with the white blood cells outlined by an expert, sorted into folders by type."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.labels import FIVE_TYPES, canonical
from sgcldff.core.records import MaskCode, Sample
from sgcldff.data.adapters.base import Adapter, PublishedSize, Rejected, child, entries_in, images_in

IMAGES, TRUTH, EXPERT = "Main Dataset", "Ground Truth Segmentation", "areaforexpert1"


@dataclass(frozen=True)
class Lisc(Adapter):
    """Images in `Main Dataset/TYPE`, masks in `Ground Truth Segmentation/TYPE/areaforexpert1`; case varies.

    Fields in the folder `Mixt` show several types and have no label.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for both of the published folders."""
        return child(folder, IMAGES).is_dir() and child(folder, TRUTH).is_dir()

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the fields of all types."""
        types = sorted(path for path in entries_in(child(folder, IMAGES)) if path.is_dir())
        images = [image for subfolder in types for image in images_in(subfolder)]
        if not images:
            raise self.not_found(folder, f"images in {IMAGES!r}/TYPE")
        masks = {
            (subfolder.name, path.stem.lower().removesuffix("_expert")): path
            for subfolder in types
            for path in images_in(child(folder, TRUTH, subfolder.name, EXPERT))
        }
        for image in images:
            kind = image.parent.name
            label = canonical(kind) if canonical(kind) in FIVE_TYPES else None
            yield self.sample(image, label, masks.get((kind, image.stem.lower())), name=f"{kind.lower()}/{image.stem}")


ADAPTER = Lisc(
    name="lisc",
    title="LISC (types and expert outlines)",
    licence="free for research, cite Rezatofighi and Soltanian-Zadeh 2011",
    url="http://users.cecs.anu.edu.au/~hrezatofighi/Data/Leukocyte%20Data.htm",
    instructions="download the archive from its authors' page, unpack it, name the folder with 'Main Dataset' "
    "and 'Ground Truth Segmentation'",
    mpp=0.18,
    published=PublishedSize(((720, 576),)),
    mask_code=MaskCode(1, None),
)
