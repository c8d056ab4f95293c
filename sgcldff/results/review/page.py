"""The page on which a person classifies cells: one HTML file beside the folder of their images."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from sgcldff.core.atomic import atomic_write
from sgcldff.core.labels import OFFERED, OTHER, broader_types, foreign_types
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.core.settings import digest, require
from sgcldff.data.reviews.store import CANNOT_TELL
from sgcldff.inference.outputs.colours import hex_of
from sgcldff.results.html import embedded_json, scripts, template
from sgcldff.results.review.crops import CONTEXT_UM
from sgcldff.results.review.queue import QUEUE_PAGE, QueuedCell

CLOSE_UP = 2.0
"""How much narrower the part of a picture is that is shown large."""
SCALE_BAR_UM = 10.0
OFFERED_KEYS = "aspbie"
"""Keys of `OFFERED`."""
PAGE_KEYS = "ungwo"
"""Keys of `review.js` itself."""


def write_page(folder: Path, cells: Sequence[QueuedCell]) -> Path:
    """Write `review.html`: it loads nothing but the pictures beside it, and runs nothing but its own script.

    What comes from file names and metadata is data: escaped where it stands, and put on the page as text. The script is
    allowed by its hash, so no other could run.

    Raises
    ------
    InputError
        If there is no cell.
    """
    require(bool(cells), f"{folder}: there is no cell to review")
    (script,) = scripts(["review.js"])
    page = template(QUEUE_PAGE).render(
        script=script,
        content=_content(cells),
        cells=len(cells),
        bar=100 * SCALE_BAR_UM * CLOSE_UP / CONTEXT_UM,
        bar_um=SCALE_BAR_UM,
        close_up=CLOSE_UP,
    )
    with atomic_write(folder / QUEUE_PAGE) as partial:
        partial.write_text(page, encoding="utf-8")
    return folder / QUEUE_PAGE


def _content(cells: Sequence[QueuedCell]) -> Markup:
    """Return what the script reads, as JSON that cannot end the element in which it stands."""
    classes, foreign = cells[0].classes, foreign_types(cells[0].classes)
    content = {
        "queue": digest([[cell.lineage.slide_sha256, cell.cell_id] for cell in cells]),
        "classes": [{"label": name, "colour": hex_of(name)} for name in classes],
        "broader": [
            {"label": name, "colour": hex_of(name), "key": key} for name, key in _broader_keys(broader_types(classes))
        ],
        "foreign": [
            {"label": name, "colour": hex_of(name), "key": key}
            for name, key in zip(OFFERED, OFFERED_KEYS, strict=True)
            if name in foreign
        ],
        "other": OTHER,
        "cannotTell": {"label": CANNOT_TELL, "colour": hex_of(UNIDENTIFIED)},
        "cells": [_shown(cell) for cell in cells],
    }
    return embedded_json(content)


def _broader_keys(labels: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield every label with the first of its letters that is not taken, or with none."""
    taken = set(OFFERED_KEYS + PAGE_KEYS)
    for label in labels:
        key = next((letter for letter in label if letter.isalpha() and letter not in taken), "")
        taken.add(key)
        yield label, key


def _shown(cell: QueuedCell) -> dict[str, object]:
    return {
        "id": cell.cell_id,
        "slide": cell.slide_id,
        "crop": cell.crop,
        "place": [round(cell.x_um), round(cell.y_um)],
        "atBorder": cell.at_border,
        "label": cell.label,
        "probabilities": [round(p, 4) for p in cell.probabilities],
    }
