"""A table (CSV or Parquet) of images and their annotations."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.labels import canonical
from sgcldff.core.records import MaskCode, Sample
from sgcldff.core.tables import TableRow, read_rows
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
            self.scale()
        for row in rows:
            try:
                yield self._sample(table, row)
            except InputError as error:
                yield Rejected(row["image"], str(error))

    def _sample(self, table: Path, row: TableRow) -> Sample:
        if not row["image"]:
            raise InputError(f"{table}: a row names no image; fill its column image")
        source = table.resolve().parent.name if table.name in MANIFEST_NAMES else table.stem
        image, mask = table.parent / row["image"], row.get("mask")
        name = f"{source}/{Path(row['image']).with_suffix('').as_posix()}"
        return Sample(
            id=name,
            source=source,
            group=f"{source}/{row['group']}" if row.get("group") else name,
            image=str(image),
            mpp=_number(table, row, "mpp") if row.get("mpp") else self.scale(),
            licence=row.get("licence") or self.licence,
            label=canonical(row["label"]) if row.get("label") else None,
            mask=str(table.parent / mask) if mask else None,
            mask_code=self._code(table, row) if mask else None,
        )

    def _code(self, table: Path, row: TableRow) -> MaskCode | None:
        if not row.get("cytoplasm"):
            return self.mask_code
        nucleus = round(_number(table, row, "nucleus")) if row.get("nucleus") else None
        return MaskCode(round(_number(table, row, "cytoplasm")), nucleus)


def _number(table: Path, row: TableRow, column: str) -> float:
    try:
        return float(row[column])
    except ValueError as error:
        raise InputError(
            f"{table}: {column} {row[column]!r} is not a number; correct the row of {row['image']}"
        ) from error


ADAPTER = ImageTable(
    name="table",
    title="table of images",
    licence="as its owner says",
    url="",
    instructions="write manifest.csv (or .parquet) with a column image and optionally mask, label, group, mpp; name "
    "the table or its folder",
    mask_code=MaskCode(64, 200),
)
