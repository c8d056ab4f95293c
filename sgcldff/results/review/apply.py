"""Reviewed results of a slide, cells and differential, beside those of the model."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial import KDTree

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.labels import BROADER, OTHER, SUBTYPES
from sgcldff.core.parquet_file import NO_CHECKSUM_YET, open_intact, seal
from sgcldff.core.records import UNIDENTIFIED, Lineage
from sgcldff.counting.differential import GOAL_FLAG, PRELIMINARY, Differential, from_counts, read_differential
from sgcldff.data.reviews.consensus import SAME_UM, Consensus, positions_of
from sgcldff.results.exports import update_exports
from sgcldff.results.folder import CELLS, DIFFERENTIAL, READ_AGAIN, REVIEWED_CELLS, REVIEWED_DIFFERENTIAL, held
from sgcldff.results.review.selection import LINEAGE
from sgcldff.results.slide_page import update_report
from sgcldff.results.standing import APPLY_AGAIN, ReviewOutcomes, mark_signed, set_earlier_review_aside

REVIEWED_COLUMNS = (
    pa.field("reviewed_label", pa.string()),
    pa.field("reviewers", pa.list_(pa.string())),
    pa.field("reviewed_at", pa.timestamp("us", "UTC")),
)
"""Columns that are added to the table of cells; missing where nobody reviewed the cell."""


@dataclass(frozen=True)
class Applied:
    """A slide's differential before and after review."""

    slide_id: str
    machine: Differential
    reviewed: Differential
    outcomes: ReviewOutcomes


def apply_reviews(folder: str | Path, verdicts: Iterable[Consensus]) -> Applied | None:
    """Write `cells.reviewed.parquet` and `differential.reviewed.json` beside a slide's results, and show them there.

    The model's own files are not changed. Where nobody reviewed a cell of the slide, nothing is: reviewed results of
    another store stay. The intervals are those of the model's differential: at its level, and widened where it was
    counted until a goal was reached.

    Parameters
    ----------
    verdicts
        Of any slides; those of this one are matched by its digest, and its cells by position.

    Returns
    -------
    Applied, or None where nobody reviewed a cell of the slide.

    Raises
    ------
    InputError
        If the results are damaged.
    """
    folder = Path(folder)
    found, (slide_id, lineage) = read_differential(folder / DIFFERENTIAL), _origin(folder / DIFFERENTIAL)
    ours = [verdict for verdict in verdicts if verdict.slide_sha256 == lineage.slide_sha256]
    if not ours:
        return None
    with held(folder):
        set_earlier_review_aside(folder)
        cells = _read(folder / CELLS, ["x_um", "y_um", "label"])
        settled = matched(cells, ours)
        predicted = cells["label"].to_pylist()
        kinds = Counter(_kind(predicted[row], verdict.label) for row, verdict in settled.items())
        outcomes = ReviewOutcomes(**kinds, lost=len(ours) - len(settled))
        _write_cells(folder, settled)
        reviewed = _write_differential(folder, _review(outcomes, settled.values()))
        mark_signed(folder)
        update_report(folder)
        update_exports(folder)
    return Applied(slide_id, found, reviewed, outcomes)


def matched(cells: pa.Table, verdicts: Sequence[Consensus]) -> dict[int, Consensus]:
    """Find the row of each verdict's cell: the nearest, at most `SAME_UM` away; of two verdicts the nearer holds."""
    if not cells.num_rows:
        return {}
    tree = KDTree(np.column_stack([cells["x_um"].to_numpy(), cells["y_um"].to_numpy()]))
    away, rows = tree.query(positions_of(verdict.latest for verdict in verdicts), distance_upper_bound=SAME_UM)
    near: dict[int, Consensus] = {}
    for at in np.argsort(away, kind="stable"):
        if np.isfinite(away[at]):
            near.setdefault(int(rows[at]), verdicts[at])
    return near


def _kind(predicted: str, label: str | None) -> str:
    if predicted == UNIDENTIFIED:
        return "open" if label is None else "named"
    return "confirmed" if predicted == counted_as(label, predicted) else "changed"


def counted_as(label: str | None, predicted: str) -> str:
    """Return the type as which a reviewed cell is counted.

    A broader answer ("neutrophil" where the model knows stages) confirms any of its subtypes; otherwise the cell is of
    a type of its own, as its subtype is not known.
    """
    if label is None:
        return UNIDENTIFIED
    if BROADER.get(predicted) == label:
        return predicted
    return label


def recounted(found: Differential, counts: Mapping[str, int]) -> Differential:
    """Make a differential like `found` of other counts: same excluded cells and kind of intervals, and its types.

    Types that the model does not have come after its own; among them what people named broadly ("neutrophil") where the
    model knows subtypes, and nobody said which.
    """
    counts = {_named(label, found.classes): number for label, number in counts.items()}
    foreign = tuple(sorted(counts.keys() - {*found.classes, UNIDENTIFIED}))
    fresh = from_counts(counts, (*found.classes, *foreign), found.confidence, found.excluded, found.interval)
    goal = (flag for flag in found.flags if flag.startswith(GOAL_FLAG))
    own = replace(fresh, abstains=found.abstains, specimen=found.specimen, flags=(*fresh.flags, *goal), foreign=foreign)
    return own.measured_at(found.scale) if found.scale else own


def _named(label: str, classes: Collection[str]) -> str:
    known_finely = label not in classes and not {*SUBTYPES.get(label, ())}.isdisjoint(classes)
    return f"{OTHER}{label}, subtype not named" if known_finely else label


def _write_cells(folder: Path, settled: Mapping[int, Consensus]) -> None:
    """Copy the table of cells, group by group, and add `REVIEWED_COLUMNS`; outlines and metadata stay as they are."""
    with open_intact(folder / CELLS, READ_AGAIN) as source, atomic_write(folder / REVIEWED_CELLS) as partial:
        schema = source.schema_arrow
        for column in REVIEWED_COLUMNS:
            schema = schema.append(column)
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for table in _with_reviews(source, settled):
                writer.write_table(table.cast(schema))
            writer.add_key_value_metadata({"geo": source.metadata.metadata[b"geo"].decode(), **NO_CHECKSUM_YET})
        seal(partial)


def _with_reviews(source: pq.ParquetFile, settled: Mapping[int, Consensus]) -> Iterator[pa.Table]:
    first = 0
    for number in range(source.num_row_groups):
        table = source.read_row_group(number)
        rows = [_row(settled.get(first + at), label) for at, label in enumerate(table["label"].to_pylist())]
        added = pa.Table.from_pylist(rows, schema=pa.schema(REVIEWED_COLUMNS))
        for column in REVIEWED_COLUMNS:
            table = table.append_column(column, added[column.name])
        first += table.num_rows
        yield table


def _row(verdict: Consensus | None, predicted: str) -> dict[str, object]:
    if verdict is None:
        return {}
    row = {"reviewed_label": counted_as(verdict.label, predicted), "reviewers": list(verdict.reviewers)}
    return row | {"reviewed_at": verdict.reviewed_at}


def recount_reviewed(folder: Path) -> None:
    """Count a slide's reviewed cells, if any, again: a white count or a goal may have changed though no cell did."""
    try:
        review = read_json(folder / REVIEWED_DIFFERENTIAL, APPLY_AGAIN)["review"]
    except (InputError, StoreError, KeyError):
        return  # `read_standing` names what is damaged
    _write_differential(folder, review)


def _review(outcomes: ReviewOutcomes, verdicts: Iterable[Consensus]) -> dict[str, object]:
    """Say how many cells were reviewed with which outcome, by whom, and when last."""
    votes = [vote for verdict in verdicts for vote in verdict.votes]
    return asdict(outcomes) | {
        "reviewed": outcomes.reviewed,
        "reviewers": sorted({vote.reviewer for vote in votes}),
        "last": max((vote.reviewed_at.isoformat() for vote in votes), default=None),
    }


def _write_differential(folder: Path, review: Mapping[str, object]) -> Differential:
    """Count the cells of `REVIEWED_CELLS` as the model's differential counts its own."""
    found, (slide_id, lineage) = read_differential(folder / DIFFERENTIAL), _origin(folder / DIFFERENTIAL)
    cells = _read(folder / REVIEWED_CELLS, ["label", "counted", "reviewed_label"]).to_pylist()
    reviewed = recounted(found, Counter(row["reviewed_label"] or row["label"] for row in cells if row["counted"]))
    head, origin = {"slide_id": slide_id, "status": PRELIMINARY}, {"lineage": asdict(lineage), "review": review}
    write_json(folder / REVIEWED_DIFFERENTIAL, {**head, **reviewed.to_dict(), **origin})
    return reviewed


def _origin(path: Path) -> tuple[str, Lineage]:
    try:
        content = read_json(path, READ_AGAIN)
        return str(content["slide_id"]), Lineage(**{name: content["lineage"][name] for name in LINEAGE})
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: does not say where it comes from ({error}); {READ_AGAIN}") from error


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        with open_intact(path, READ_AGAIN) as file:
            return file.read(columns).select(columns)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a table of cells ({error}); {READ_AGAIN}") from error
