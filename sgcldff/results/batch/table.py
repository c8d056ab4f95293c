"""The table of a batch: one row per slide."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.atomic import atomic_write
from sgcldff.counting.differential import Differential
from sgcldff.inference.gate import Area
from sgcldff.results.batch.summary import classes_of
from sgcldff.results.batch.triage import TriagedSlide


def batch_schema(classes: Iterable[str]) -> pa.Schema:
    """Describe the table of a batch: one row per slide; what is not known of a slide that was skipped is missing."""
    text, whole, number = pa.string(), pa.int64(), pa.float64()
    kinds = {"count": whole, "share": number, "low": number, "high": number}
    return pa.schema(
        [
            *((name, text) for name in ("slide_id", "file", "status", "reason")),
            ("urgency", pa.int8()),
            ("look", pa.list_(text)),
            *((name, whole) for name in ("counted", "rejected", "excluded")),
            *((f"{kind}_{label}", dtype) for label in classes for kind, dtype in kinds.items()),
            *((f"area_{area.name.lower()}", number) for area in Area),
            ("usable", number),
            *((name, whole) for name in ("tiles", "skipped")),
            ("seconds", number),
            *((name, text) for name in ("model_name", "model_version", "model_digest")),
            ("flags", pa.list_(text)),
            ("agrees_with_manual", pa.bool_()),
        ],
        metadata={"sgcldff.layout": "batch/1"},
    )


def write_table(path: Path, triaged: Sequence[TriagedSlide]) -> Path:
    """Write the table of a batch, in the order of the page; the file appears whole or not at all."""
    schema = batch_schema(classes_of(one.slide for one in triaged))
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
        "agrees_with_manual": not any(line.differs for line in slide.agreements) if slide.agreements else None,
    }


def _counts(found: Differential) -> dict[str, object]:
    kinds = ("count", "share", "low", "high")
    shares = {f"{kind}_{one.label}": getattr(one, kind) for one in found.shares for kind in kinds}
    totals = {name: getattr(found, name) for name in ("counted", "rejected", "excluded")}
    return {**totals, **shares, "flags": list(found.flags)}
