"""What a person has to look at before the shares of a differential: blasts, nucleated red cells, what may be blasts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgcldff.core.labels import BLAST, ERYTHROBLAST, LYMPHOCYTE, MONOCYTE
from sgcldff.core.wording import percent

if TYPE_CHECKING:
    from sgcldff.counting.differential import Differential

WATCHED = (BLAST,)
"""Types of which a single cell calls for review."""
WATCHED_BESIDE = (ERYTHROBLAST,)
"""Cells that are no white cells, but also call for review."""
MONONUCLEAR = (LYMPHOCYTE, MONOCYTE)
"""Types as which a model that does not know blasts counts them."""
MANY_MONONUCLEAR = 0.6
"""Share of these together above which they may be blasts where the model has none."""
MAY_BE_BLASTS = "they may be blasts, which this model does not recognise"


def watched_cells(found: "Differential", watched: Sequence[str] = WATCHED) -> list[str]:
    """Name the watched types that were found."""
    present = [share for share in found.shares if share.label in watched and share.count]
    return [
        f"{one.count:,} {one.label} cell{'s' * (one.count > 1)}: {percent(one.share)}, interval {percent(one.low)} –"
        f" {percent(one.high)}"
        for one in present
    ]


def nucleated_red_cells(found: "Differential") -> list[str]:
    """Name the nucleated red cells that were found."""
    present = [one for one in found.beside if one.label in WATCHED_BESIDE and one.count]
    return [
        f"{one.count:,} {one.label}{'s' * (one.count > 1)}"
        + ("" if one.per_100 is None else f": {one.per_100:.1f} per 100 white cells")
        for one in present
    ]


def possible_blasts(found: "Differential") -> list[str]:
    """Say that many lymphocytes and monocytes may be blasts where the model does not know these."""
    share = sum(one.share for one in found.shares if one.label in MONONUCLEAR)
    text = f"{percent(share)} lymphocytes and monocytes: {MAY_BE_BLASTS}"
    return [text] * (BLAST in found.cannot_tell and share > MANY_MONONUCLEAR)


def alerts(found: "Differential") -> list[str]:
    """Return all of these, the most urgent first."""
    return [*watched_cells(found), *possible_blasts(found), *nucleated_red_cells(found)]
