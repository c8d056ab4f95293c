"""A table (CSV or Parquet) that names images and what is known of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.labels import canonical
from sgcldff.core.records import MaskCode, Sample
from sgcldff.data.adapters.annotations import Row, read_rows
from sgcldff.data.adapters.base import Adapter, Rejected

NAMES = ("manifest.csv", "manifest.parquet")


@dataclass(frozen=True)
class Table(Adapter):
    """Columns: image; and where they apply mask, label, group (patient or slide), mpp, cytoplasm and nucleus.

    Paths are relative to the table's folder. `cytoplasm` and `nucleus` are the grey values at or above which a mask's
    pixel is cell and nucleus; without them the adapter's mask code holds.
    """

    def recognises(self, folder: Path) -> bool:
        """Look for a manifest of one of the usual names."""
        return any((folder / name).is_file() for name in NAMES)

    def scan(self, folder: Path) -> Iterator[Sample | Rejected]:
        """Read the rows of `folder/manifest.csv` or `.parquet`; `folder` may also be the table itself."""
        table = next((path for path in (folder, *(folder / name for name in NAMES)) if path.is_file()), None)
        if table is None:
            raise self.not_found(folder, " or ".join(NAMES))
        rows = read_rows(table, ("image",))
        if self.mpp is None and rows and "mpp" not in rows[0]:
            self.scale()
        for row in rows:
            try:
                yield self._sample(table, row)
            except InputError as error:
                yield Rejected(row["image"], str(error))

    def _sample(self, table: Path, row: Row) -> Sample:
        if not row["image"]:
            raise InputError(f"{table}: a row names no image; fill its column image")
        source = _source(table)
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

    def _code(self, table: Path, row: Row) -> MaskCode | None:
        if not row.get("cytoplasm"):
            return self.mask_code
        nucleus = round(_number(table, row, "nucleus")) if row.get("nucleus") else None
        return MaskCode(round(_number(table, row, "cytoplasm")), nucleus)


def _source(table: Path) -> str:
    return table.resolve().parent.name if table.name in NAMES else table.stem


def _number(table: Path, row: Row, column: str) -> float:
    try:
        return float(row[column])
    except ValueError as error:
        raise InputError(
            f"{table}: {column} {row[column]!r} is no number; correct the row of {row['image']}"
        ) from error


ADAPTER = Table(
    name="table",
    title="table of images",
    licence="as its owner says",
    url="",
    instructions="write manifest.csv (or .parquet) with a column image and where they apply mask, label, group, mpp; "
    "name the table or its folder",
    mask_code=MaskCode(64, 200),
)
