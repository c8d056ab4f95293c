"""ALL-IDB2: crops of about 257x257 px around one cell; `Im001_1` is a lymphoblast, `Im131_0` is not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.labels import BLAST, NON_BLAST
from sgcldff.core.records import MaskCode, Sample
from sgcldff.data.adapters.base import Adapter, PublishedSize, Rejected, child, images_in

NAME_PATTERN = re.compile(r"Im\d+_([01])", re.IGNORECASE)


def label_in_name(image: Path) -> str | None:
    """Return the class in a file name of ALL-IDB; None for other names."""
    match = NAME_PATTERN.fullmatch(image.stem)
    return match and (BLAST if match[1] == "1" else NON_BLAST)


@dataclass(frozen=True)
class AllIdb2(Adapter):
    """Crops in `img`, masks of the same stem in `mask` (optional; not part of the authors' archive)."""

    def recognises(self, folder: Path) -> bool:
        """Look for names of ALL-IDB in `img`."""
        return any(label_in_name(path) for path in images_in(child(folder, "img")))

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the crops."""
        images = images_in(child(folder, "img"))
        if not images:
            raise self.not_found(folder, "images in img")
        masks = {path.stem.lower(): path for path in images_in(child(folder, "mask"))}
        for image in images:
            label = label_in_name(image)
            if label is None:
                reason = f"name {image.name!r} has no class: expected ImNNN_0 or ImNNN_1; rename it"
                yield Rejected(str(image), reason)
            else:
                yield self.sample(image, label, masks.get(image.stem.lower()))


ADAPTER = AllIdb2(
    name="all_idb2",
    title="ALL-IDB2 (blast or not, one cell per crop)",
    licence="free for research on request from its authors (Labati, Piuri and Scotti 2011)",
    url="https://homes.di.unimi.it/scotti/all/",
    instructions="ask the authors for access, unpack ALL_IDB2, and name the folder with img (ImNNN_0.tif, "
    "ImNNN_1.tif); masks go into a folder mask beside it, with the same names",
    mpp=0.09,
    published=PublishedSize(((257, 257),), shorter=0.5),
    mask_code=MaskCode(64, 200),
)
