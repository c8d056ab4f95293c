"""Reviews of a cell by several people."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sgcldff.core.records import UNIDENTIFIED
from sgcldff.data.reviews.store import Review

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def review(cell=0, label="monocyte", reviewer="A", minutes=0, **changes):
    made = Review(
        cell_id=f"s-x{cell}", slide_id="s", slide_sha256="ab" * 32, x_um=20.0 * cell, y_um=50.0, label=label,
        reviewer=reviewer, reviewed_at=NOON + timedelta(minutes=minutes), crop_sha256=f"{cell:064x}", crop_mpp=0.1,
        told=UNIDENTIFIED, confidence=0.4, model_name="sgcldff", model_version="3", model_digest="cd" * 8,
    )  # fmt: skip
    return replace(made, **changes)


def reviews_of(frame, labels):
    return [
        review(
            label=label,
            cell_id=row.cell_id,
            slide_sha256=row.slide_sha256,
            x_um=row.x_um,
            y_um=row.y_um,
            told=row.label,
        )
        for row, label in zip(frame.itertuples(), labels, strict=True)
    ]
