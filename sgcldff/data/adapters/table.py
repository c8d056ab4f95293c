"""A table (CSV or Parquet) of images and their annotations."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.labels import canonical
from sgcldff.core.records import MaskCode, Sample
from sgcldff.core.settings import MAX_MPP, MIN_MPP
from sgcldff.core.tables import TableRow, number, read_rows
from sgcldff.data.adapters.base import Adapter, Rejected

MANIFEST_NAMES = ("manifest.csv", "manifest.parquet")


@dataclass(frozen=True)
class ImageTable(Adapter):
    """Columns: image, and optionally mask, label, group (patient or slide), mpp, cytoplasm and nucleus.

    Paths are relative to the table's folder. `cytoplasm` and `nucleus` are the grey values at or above which a pixel of
    the mask is cell and nucleus; without them the adapter's mask code applies.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for a manifest with one of the usual names."""
        return any((folder / name).is_file() for name in MANIFEST_NAMES)

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Read the rows of `folder/manifest.csv` or `.parquet`; `folder` may also be the table itself."""
        table = next((path for path in (folder, *(folder / name for name in MANIFEST_NAMES)) if path.is_file()), None)
        if table is None:
            raise self.not_found(folder, " or ".join(MANIFEST_NAMES))
        rows = read_rows(table, ("image",))
        if self.mpp is None and rows and "mpp" not in rows[0]:
            raise InputError(
                f"{table}: lacks the column mpp; add it, or give mpp, the scale of all its images in um/px"
            )
        for at, row in enumerate(rows, 1):
            try:
                with reading(f"{table}, row {at}", "names no image that can be read", "correct it"):
                    yield self._sample(table, row, f"{table}, row {at}")
            except InputError as error:
                yield Rejected(row["image"], str(error))

    def _sample(self, table: Path, row: TableRow, place: str) -> Sample:
        if not row["image"]:
            raise InputError(f"{place}: names no image; fill its column image")
        source = table.resolve().parent.name if table.name in MANIFEST_NAMES else table.stem
        image, mask = table.parent / row["image"], row.get("mask")
        name = f"{source}/{Path(row['image']).with_suffix('').as_posix()}"
        return Sample(
            id=name,
            source=source,
            group=f"{source}/{row['group']}" if row.get("group") else name,
            image=str(image),
            mpp=number(place, "mpp", row["mpp"], (MIN_MPP, MAX_MPP)) if row.get("mpp") else self.scale(),
            licence=row.get("licence") or self.licence,
            label=canonical(row["label"]) if row.get("label") else None,
            mask=str(table.parent / mask) if mask else None,
            mask_code=self._code(place, row) if mask else None,
        )

    def _code(self, place: str, row: TableRow) -> MaskCode | None:
        values = {name: row[name] for name in ("cytoplasm", "nucleus") if row.get(name)}
        if "cytoplasm" not in values:
            return self.mask_code
        grey = {name: round(number(place, name, text, (0, 255))) for name, text in values.items()}
        return MaskCode(grey["cytoplasm"], grey.get("nucleus"))


ADAPTER = ImageTable(
    name="table",
    title="table of images",
    licence="as its owner says",
    url="",
    instructions="write manifest.csv (or .parquet) with a column image and optionally mask, label, group, mpp; name "
    "the table or its folder",
    mask_code=MaskCode(64, 200),
)
