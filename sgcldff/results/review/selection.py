"""Selection of the cells that a person reviews."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.parquet_file import open_intact
from sgcldff.core.records import PROBABILITY, UNIDENTIFIED, Lineage
from sgcldff.core.settings import require
from sgcldff.counting.alerts import blast_likeness
from sgcldff.results.batch.summary import SlideSummary
from sgcldff.results.folder import CELLS, READ_AGAIN

POSITIONS = ("x", "y", "x_um", "y_um")
LINEAGE = tuple(Lineage.__dataclass_fields__)
SIZES = ("area_um2", "nucleus_area_um2")
CELL_COLUMNS = ("cell_id", "slide_id", *POSITIONS, *SIZES, "label", "confidence", "on_cell", "counted", *LINEAGE)

LEAST_SURE = 50
"""Cells that are reviewed where the model left none unidentified: those of which it was least sure."""
LABEL, EVIDENCE, CONFIDENCE, SAMPLE, REPRESENTATIVE = "label", "evidence", "confidence", "sample", "representative"
LIKE_BLAST = "like a blast"
"""Why a cell is reviewed: its label, evidence that lies beside it, its confidence, chance, because it represents
others in a calibration, or because it looks like a blast."""


@dataclass(frozen=True)
class ReviewSelection:
    """Which of the counted cells are reviewed; cells outside the usable area never are."""

    labels: tuple[str, ...] = (UNIDENTIFIED,)
    """Predicted types that are reviewed; with "unidentified" also cells whose type was read from beside them: less of
    the evidence for it lies on the cell than by chance."""
    below: float | None = None
    """Cells with a lower confidence, too, 0 to 1."""
    sample: int = 0
    """So many of the others, drawn by chance, for quality control."""
    limit: int | None = None
    """At most so many cells, drawn by chance, the sample left out."""
    representative: int = 0
    """So many cells that together represent all, for a calibration."""
    like_blasts: int = 0
    """So many cells, of whatever type: those that look most like blasts."""

    def __post_init__(self) -> None:
        inside = self.below is None or 0 < self.below <= 1
        require(inside, f"the confidence is {self.below}: give more than 0, at most 1")
        require(self.sample >= 0, f"the sample is of {self.sample} cells: give at least 0")
        require(self.representative >= 0, f"{self.representative} representative cells: give at least 0")
        require(self.like_blasts >= 0, f"{self.like_blasts} cells like blasts: give at least 0")
        require(self.limit is None or self.limit >= 1, f"the limit is {self.limit} cells: give at least 1")


@dataclass(frozen=True, eq=False)
class SlideCells:
    """The counted cells of a slide."""

    folder: Path
    slide_id: str
    file: str
    """Name of the slide's file, without the folder in which it lies."""
    classes: tuple[str, ...]
    """In the order of the model's outputs."""
    cells: pd.DataFrame
    """One row per counted cell: names, places, label, confidence, probabilities and lineage as in `cells.parquet`."""

    @property
    def sha256(self) -> str:
        """Digest of the slide's content; empty where it has no cells."""
        return "" if self.cells.empty else str(self.cells["slide_sha256"].iloc[0])

    @property
    def mpp(self) -> float:
        """um/px of level 0, by the cell that lies farthest to the right."""
        farthest = self.cells["x"].to_numpy().argmax()
        return float(self.cells["x_um"].iloc[farthest] / self.cells["x"].iloc[farthest])


def results_in(folders: Iterable[str | Path]) -> list[Path]:
    """Find the results of slides: folders with a table of cells, named themselves or by the batch around them.

    Raises
    ------
    MissingInputError
        If a folder is not there, or holds no results.
    """
    found = [place for folder in folders for place in _results_in(Path(folder))]
    return list(dict.fromkeys(place.resolve() for place in found))


def _results_in(folder: Path) -> list[Path]:
    if (folder / CELLS).is_file():
        return [folder]
    below = sorted(path.parent for path in folder.glob(f"*/{CELLS}"))
    if not below:
        raise MissingInputError(f"{folder}: holds no results of slides ({CELLS}); name the --out of `sgcldff infer`")
    return below


def read_slide_cells(folder: Path) -> SlideCells:
    """Read what is needed of a slide's results.

    Raises
    ------
    InputError
        If a file is damaged or not what it should be.
    """
    summary, path = SlideSummary.read(folder), folder / CELLS
    try:
        with open_intact(path, READ_AGAIN) as file:
            names = file.schema_arrow.names
            classes = tuple(name.removeprefix(PROBABILITY) for name in names if name.startswith(PROBABILITY))
            columns = [*CELL_COLUMNS, *(PROBABILITY + name for name in classes)]
            cells = file.read(columns).select(columns).to_pandas()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a table of cells ({error}); {READ_AGAIN}") from error
    return SlideCells(folder, summary.slide_id, summary.file, classes, cells[cells["counted"]].reset_index(drop=True))


def chosen(slides: Sequence[SlideCells], choice: ReviewSelection) -> pd.DataFrame:
    """Choose cells of all slides: the rows of `SlideCells.cells`, and `why` each was chosen.

    What is drawn by chance are the cells whose names have the lowest digests (bottom-k sampling, Cohen and Kaplan
    2007): every cell has the same chance, and the same cells give the same draw. The rows come in that order too, so
    that nothing but its image shows a reviewer why a cell was selected.
    """
    parts = [_candidates(slide, choice) for slide in slides]
    both = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["why", "rank"])
    asked = _first(both[both["why"] != SAMPLE], choice.limit)
    drawn = _first(both[both["why"] == SAMPLE], choice.sample)
    every = pd.concat([_like_blasts(slides, choice.like_blasts), asked, drawn])
    once = every.drop_duplicates(["slide_sha256", "cell_id"]) if len(every) else every
    return once.sort_values("rank").drop(columns="rank").reset_index(drop=True)


def _like_blasts(slides: Sequence[SlideCells], number: int) -> pd.DataFrame:
    """Choose the cells of all slides that look most like blasts."""
    if not number or not slides:
        return pd.DataFrame()
    cells = pd.concat([slide.cells for slide in slides], ignore_index=True)
    sizes = (cells[name].to_numpy() for name in ("area_um2", "nucleus_area_um2"))
    alike = cells.assign(likeness=blast_likeness(*sizes))
    first = alike[alike["likeness"] > 0].sort_values(
        ["likeness", "slide_sha256", "cell_id"], ascending=[False, True, True]
    )
    return _ranked(first.head(number).drop(columns="likeness").assign(why=LIKE_BLAST))


def least_sure(slides: Sequence[SlideCells], number: int) -> pd.DataFrame:
    """Choose the counted cells of lowest confidence of all slides, as `chosen` does."""
    cells = pd.concat([slide.cells for slide in slides], ignore_index=True)
    return cells.sort_values(["confidence", "slide_sha256", "cell_id"]).head(number).assign(why=CONFIDENCE)


def _candidates(slide: SlideCells, choice: ReviewSelection) -> pd.DataFrame:
    cells = slide.cells
    asked = cells["label"].isin(choice.labels)
    beside = (cells["on_cell"] < 0) & (UNIDENTIFIED in choice.labels)
    unsure = cells["confidence"] < (choice.below or 0)
    why = np.select([asked, beside, unsure], [LABEL, EVIDENCE, CONFIDENCE], SAMPLE)
    ranked = _ranked(cells.assign(why=why)[(why != SAMPLE) | (choice.sample > 0)])
    drawn = _first(ranked[ranked["why"] == SAMPLE], choice.sample)
    return pd.concat([_first(ranked[ranked["why"] != SAMPLE], choice.limit), drawn])


def _ranked(cells: pd.DataFrame) -> pd.DataFrame:
    return cells.assign(rank=[rank_of(*names) for names in zip(cells["slide_sha256"], cells["cell_id"], strict=True)])


def _first(cells: pd.DataFrame, number: int | None) -> pd.DataFrame:
    return cells if number is None else cells.sort_values("rank").head(number)


def rank_of(slide_sha256: str, cell_id: str) -> str:
    """Return a cell's rank in the draw: 16 hexadecimal digits, as good as random."""
    return blake2b(f"{slide_sha256}/{cell_id}".encode(), digest_size=8).hexdigest()
