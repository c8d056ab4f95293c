"""What a person has to look at before the shares of a differential: blasts, nucleated red cells, what may be blasts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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


def blast_likeness(area_um2: NDArray[np.floating], nucleus_um2: NDArray[np.floating]) -> NDArray[np.float64]:
    """Score how much cells look like blasts, whatever types they were given: a large nucleus and scant cytoplasm.

    The area of the nucleus times the fourth power of its share of the cell. docs/measured.md says how well it separates
    blasts from other cells; it only ranks cells of one smear, and names no blast.

    Parameters
    ----------
    area_um2, nucleus_um2
        Areas of cell and nucleus, um^2, (N,).

    Returns
    -------
    float64 (N,), at least 0; 0 where there is no nucleus.
    """
    area, nucleus = np.asarray(area_um2, np.float64), np.asarray(nucleus_um2, np.float64)
    filled = np.divide(nucleus, area, out=np.zeros_like(area), where=area > 0)
    return np.asarray(nucleus * filled**4)


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
