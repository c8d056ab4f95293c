"""Zheng et al. 2018, Dataset 1 (JTSC): 120x120 px crops around one cell in a yellow rapid stain."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.labels import BASOPHIL, EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL
from sgcldff.core.records import MaskCode, Sample
from sgcldff.core.tables import read_rows
from sgcldff.data.adapters.base import Adapter, PublishedSize, Rejected, child, images_in

TYPE_CODES = {"1": NEUTROPHIL, "2": LYMPHOCYTE, "3": MONOCYTE, "4": EOSINOPHIL, "5": BASOPHIL}
ZHENG_MASK = MaskCode(64, 200)
PAGE = "https://github.com/zxaoyou/segmentation_WBC"


@dataclass(frozen=True)
class Zheng(Adapter):
    """Images `Dataset N/NNN.bmp`, masks `Dataset N/NNN.png`, types in `Class Labels of Dataset N.csv` (optional).

    The column of types is `class label` in the table of Dataset 1, and `class` in that of Dataset 2.
    """

    part: str = "Dataset 1"

    def recognises(self, folder: Path) -> bool:
        """Look for the bitmaps of this part."""
        return any(path.suffix.lower() == ".bmp" for path in images_in(child(folder, self.part)))

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Find the crops; those without a type have no label."""
        files = images_in(child(folder, self.part))
        images = [path for path in files if path.suffix.lower() == ".bmp"]
        if not images:
            raise self.not_found(folder, f"bitmaps in {self.part!r}")
        masks = {path.stem: path for path in files if path.suffix.lower() == ".png"}
        types = self._types(folder)
        for image in images:
            number = types.get(image.stem.lstrip("0"), "")
            if number and number not in TYPE_CODES:
                reason = f"class {number!r} is unknown: {self.title} has 1 to {len(TYPE_CODES)}; correct the table"
                yield Rejected(str(image), reason)
            else:
                yield self.sample(image, TYPE_CODES.get(number), masks.get(image.stem))

    def _types(self, folder: Path) -> Mapping[str, str]:
        table = child(folder, f"Class Labels of {self.part}.csv")
        rows = read_rows(table, ("image id", "class label"), {"class": "class label"}) if table.is_file() else ()
        return {row["image id"].lstrip("0"): row["class label"] for row in rows}


ADAPTER = Zheng(
    name="jtsc",
    title="Zheng Dataset 1 (JTSC)",
    licence="GPL-3.0",
    url=PAGE,
    instructions="download the repository; name the folder with 'Dataset 1' and 'Class Labels of Dataset 1.csv'",
    mpp=0.208,
    published=PublishedSize(((120, 120),), longer=0.7, shorter=0.7),
    mask_code=ZHENG_MASK,
)
