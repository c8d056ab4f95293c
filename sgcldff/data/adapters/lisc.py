"""LISC: fields of 720x576 px with the white blood cells outlined by an expert, sorted into folders by type."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.labels import FIVE_TYPES, canonical
from sgcldff.core.records import MaskCode, Sample
from sgcldff.data.adapters.base import Adapter, PublishedSize, Rejected, child, entries, images_in

IMAGES, TRUTH, EXPERT = "Main Dataset", "Ground Truth Segmentation", "areaforexpert1"


@dataclass(frozen=True)
class Lisc(Adapter):
    """Images in `Main Dataset/TYPE`, masks in `Ground Truth Segmentation/TYPE/areaforexpert1`; case varies.

    Fields of the folder `Mixt` show several types and get no label.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for both of the published folders."""
        return child(folder, IMAGES).is_dir() and child(folder, TRUTH).is_dir()

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the fields of all types."""
        types = sorted(path for path in entries(child(folder, IMAGES)) if path.is_dir())
        found = [image for place in types for image in images_in(place)]
        if not found:
            raise self.not_found(folder, f"images in {IMAGES!r}/TYPE")
        for image in found:
            yield self._sample(image, _masks(folder, image.parent.name).get(image.stem.lower()))

    def _sample(self, image: Path, mask: Path | None) -> Sample:
        kind = canonical(image.parent.name)
        label = kind if kind in FIVE_TYPES else None
        return self.sample(image, label, mask, name=f"{image.parent.name.lower()}/{image.stem}")


def _masks(folder: Path, kind: str) -> dict[str, Path]:
    place = child(folder, TRUTH, kind, EXPERT)
    return {path.stem.lower().removesuffix("_expert"): path for path in images_in(place)}


ADAPTER = Lisc(
    name="lisc",
    title="LISC (types and expert outlines)",
    licence="free for research, cite Rezatofighi and Soltanian-Zadeh 2011",
    url="http://users.cecs.anu.edu.au/~hrezatofighi/Data/Leukocyte%20Data.htm",
    instructions="download the archive from its authors' page, unpack it, name the folder that holds 'Main Dataset' "
    "and 'Ground Truth Segmentation'",
    mpp=0.18,
    published=PublishedSize(((720, 576),)),
    mask_code=MaskCode(1, None),
)
