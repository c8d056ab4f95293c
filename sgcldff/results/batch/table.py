"""The table of a batch: one row per slide."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.atomic import atomic_write
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.core.wording import PURPOSE
from sgcldff.counting.agreement import Agreement
from sgcldff.counting.differential import Differential
from sgcldff.counting.specimen import outside
from sgcldff.inference.gate import Area
from sgcldff.results.batch.summary import classes_of
from sgcldff.results.batch.triage import TriagedSlide
from sgcldff.results.standing import ReviewedCounts, Standing

CLASS_COLUMNS = ("count", "share", "low", "high", "lowest", "highest", "adjusted", "adjusted_low", "adjusted_high")
"""Beginnings of the columns of each class."""
ABSOLUTE = ("absolute", "absolute_low", "absolute_high")
"""The same, for slides whose white count is known: 10^9/L."""


def batch_schema(classes: Iterable[str], beside: Iterable[str] = (), reviewed: Iterable[str] = ()) -> pa.Schema:
    """Describe the table of a batch: one row per slide; what is not known of a slide that was skipped is missing."""
    text, whole, number = pa.string(), pa.int64(), pa.float64()
    kinds = dict.fromkeys((*CLASS_COLUMNS, *ABSOLUTE), number) | {"count": whole}
    return pa.schema(
        [
            *((name, text) for name in ("slide_id", "file", "status", "reason")),
            ("urgency", pa.int8()),
            ("look", pa.list_(text)),
            *((name, whole) for name in ("counted", "rejected", "excluded")),
            *((f"{kind}_{label}", dtype) for label in classes for kind, dtype in kinds.items()),
            *(
                (f"{kind}_{label}", dtype)
                for label in beside
                for kind, dtype in (("count", whole), ("per_100", number))
            ),
            *((name, text) for name in ("signoff", "signed_by", "signed_at")),
            ("reviewed", whole),
            ("reviewers", pa.list_(text)),
            *(
                (f"reviewed_{kind}_{label}", dtype)
                for label in reviewed
                for kind, dtype in (("count", whole), ("share", number))
            ),
            *((name, number) for name in ("wbc", "wbc_corrected")),
            ("outside_reference", pa.list_(text)),
            *((f"area_{area.name.lower()}", number) for area in Area),
            ("usable", number),
            *((name, whole) for name in ("tiles", "skipped")),
            ("seconds", number),
            *((name, text) for name in ("model_name", "model_version", "model_digest")),
            ("flags", pa.list_(text)),
            ("cannot_tell", pa.list_(text)),
            ("interval_method", text),
            ("interval_level", number),
            ("design_effect", number),
            ("agrees_with_manual", pa.bool_()),
        ],
        metadata={"sgcldff.layout": "batch/1", "sgcldff.purpose": PURPOSE},
    )


def write_batch_table(path: Path, triaged: Sequence[TriagedSlide]) -> Path:
    """Write the table of a batch, in the order of the page; the file appears whole or not at all."""
    found = [one.slide.found for one in triaged if one.slide.found is not None]
    beside = dict.fromkeys(part.label for each in found for part in each.beside)
    reviewed = dict.fromkeys(
        label for one in triaged if one.slide.reviewed for label in one.slide.reviewed.counts if label != UNIDENTIFIED
    )
    schema = batch_schema(classes_of(one.slide for one in triaged), beside, reviewed)
    with atomic_write(path) as partial:
        pq.write_table(pa.Table.from_pylist([_row(one) for one in triaged], schema=schema), partial, compression="zstd")
    return path


def _row(one: TriagedSlide) -> dict[str, object]:
    slide, model = one.slide, one.slide.model
    return {
        **{name: getattr(slide, name) for name in ("slide_id", "file", "reason", "tiles", "skipped", "seconds")},
        "status": "skipped" if slide.found is None else "read",
        "urgency": int(one.urgency),
        "look": [reason.text for reason in one.reasons],
        **{f"area_{name}": share for name, share in slide.areas.items()},
        "usable": slide.usable,
        **({} if model is None else {f"model_{name}": value for name, value in asdict(model).items()}),
        **({} if slide.found is None else _counts(slide.found)),
        **({} if slide.found is None else _signoff(slide.standing)),
        **({} if slide.standing.reviewed is None else _reviewed(slide.standing.reviewed)),
        "agrees_with_manual": _agrees(slide.agreements),
    }


def _signoff(standing: Standing) -> dict[str, object]:
    latest = {f"signed_{name}": getattr(one, name) for one in standing.signatures[:1] for name in ("by", "at")}
    return {"signoff": standing.status, **latest}


def _reviewed(counts: ReviewedCounts) -> dict[str, object]:
    shares = {f"reviewed_share_{share.label}": share.share for share in counts.differential.shares}
    numbers = {f"reviewed_count_{label}": number for label, number in counts.differential.counts.items()}
    return {"reviewed": counts.outcomes.reviewed, "reviewers": list(counts.reviewers), **numbers, **shares}


def _agrees(agreements: Sequence[Agreement]) -> bool | None:
    """Return whether no type differs or is lacking; None where nothing was compared."""
    if not any(min(line.cells) for line in agreements):
        return None
    return not any(line.differs or line.found is None for line in agreements)


def _counts(found: Differential) -> dict[str, object]:
    shares = {f"{kind}_{one.label}": getattr(one, kind) for one in found.shares for kind in CLASS_COLUMNS[:6]}
    adjusted = {
        f"{kind}_{one.label}": getattr(one.adjusted, part)
        for one in found.shares
        if one.adjusted
        for kind, part in zip(CLASS_COLUMNS[6:], ("share", "low", "high"), strict=True)
    }
    method, clusters = found.interval, found.interval.clusters
    how = {
        "interval_method": method.method,
        "interval_level": method.level,
        "design_effect": clusters.design_effect if clusters else None,
    }
    totals = {name: getattr(found, name) for name in ("counted", "rejected", "excluded")}
    lists = {name: list(getattr(found, name)) for name in ("flags", "cannot_tell")}
    beside = {f"{kind}_{one.label}": getattr(one, kind) for one in found.beside for kind in ("count", "per_100")}
    return totals | shares | adjusted | beside | how | lists | _laboratory(found)


def _laboratory(found: Differential) -> dict[str, object]:
    figures = found.laboratory
    absolute = {
        f"{kind}_{one.label}": getattr(one, part)
        for one in figures.absolute
        for kind, part in zip(ABSOLUTE, ("value", "low", "high"), strict=True)
    }
    white = figures.white_count
    corrected = white.corrected.value if white and white.corrected else None
    marks = {"outside_reference": outside(figures.marks)} if figures.marks else {}
    return absolute | marks | {"wbc": white and white.given, "wbc_corrected": corrected}
