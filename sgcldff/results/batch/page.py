"""The page of a batch: one HTML file that shows which slides need review and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import zarr

from sgcldff.core.atomic import atomic_write
from sgcldff.core.labels import BLAST, WATCHED_FOR
from sgcldff.core.tally import STAGES
from sgcldff.inference.outputs.colours import hex_of
from sgcldff.results.batch.summary import SlideSummary, classes_of
from sgcldff.results.batch.triage import TriagedSlide, Urgency
from sgcldff.results.folder import LABELS, REPORT
from sgcldff.results.html import data_uri, template

THUMBNAIL_PX = 112
"""Longer side of a slide's picture."""


@dataclass(frozen=True)
class Part:
    """A stretch of a bar."""

    name: str
    colour: str
    share: float
    start: float
    """Where it begins; all of the bar is 1."""


@dataclass(frozen=True)
class SlideCard:
    """A slide on the page."""

    triaged: TriagedSlide
    link: str | None
    """To the slide's report, from the page."""
    thumbnail: str | None
    """A picture that stands inside the page."""
    types: tuple[Part, ...]
    reviewed: tuple[Part, ...]
    """Types after review; none where nobody reviewed the slide."""
    areas: tuple[Part, ...]


AREA_COLOURS: Mapping[str, str] = {
    "monolayer": "#5b9a8b",
    "thick": "#8a6d9e",
    "feathered": "#c9b458",
    "out_of_focus": "#b5775f",
    "background": "#b9c0c9",
}
"""Areas of the smear in the order in which bars show them."""


@dataclass(frozen=True)
class BatchRange:
    """Range of a type's share in the batch."""

    label: str
    colour: str
    cells: int
    low: float
    """Lowest share of a slide."""
    median: float
    high: float


def write_page(path: Path, triaged: Sequence[TriagedSlide]) -> Path:
    """Write the page of a batch: one HTML file without script that loads nothing; links lead to the slides' reports.

    Names that come from files are escaped. The file appears whole or not at all.
    """
    read = [one.slide for one in triaged if one.slide.found is not None]
    entries = [_entry(one, path.parent) for one in triaged]
    page = template("batch.html").render(
        looks=[entry for entry in entries if entry.triaged.urgency >= Urgency.LOOK],
        others=[entry for entry in entries if entry.triaged.urgency < Urgency.LOOK],
        slides=len(triaged),
        read=len(read),
        signed=sum(bool(slide.standing.signatures) for slide in read),
        cells=sum(slide.counted for slide in read),
        usual=[_usual(label, read) for label in classes_of(read)],
        area_colours=AREA_COLOURS,
        cannot_tell=[
            name for name in WATCHED_FOR if any(slide.found and name in slide.found.cannot_tell for slide in read)
        ],
        knows_blasts=any(slide.found and BLAST not in slide.found.cannot_tell for slide in read),
        models=sorted({(slide.model.name, slide.model.version, slide.model.digest) for slide in read if slide.model}),
        tiles=sum(slide.tiles for slide in read),
        skipped=sum(slide.skipped for slide in read),
        times=_where_time_went(read),
    )
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _where_time_went(slides: Sequence[SlideSummary]) -> list[tuple[str, str, float]]:
    """Return the stages of all slides by the time that they took: name, meaning, share of the whole."""
    seconds = sum((Counter(slide.stages) for slide in slides), Counter[str]())
    whole = sum(seconds.values())
    return [(stage, STAGES.get(stage, ""), spent / whole) for stage, spent in seconds.most_common() if spent > 0]


def _entry(one: TriagedSlide, folder: Path) -> SlideCard:
    slide, place = one.slide, folder / one.slide.slide_id
    link = f"{quote(slide.slide_id, safe='')}/{REPORT}" if (place / REPORT).exists() else None
    types, reviewed = (
        _parts([(share.label, hex_of(share.label), share.share) for share in shares])
        for shares in (slide.shares, slide.reviewed.shares if slide.reviewed else ())
    )
    areas = _parts([(name, colour, slide.areas.get(name, 0.0)) for name, colour in AREA_COLOURS.items()])
    return SlideCard(one, link, overview_picture(place / LABELS), types, reviewed, areas)


def _parts(shares: Sequence[tuple[str, str, float]]) -> tuple[Part, ...]:
    starts = np.cumsum([0.0, *(share for *_, share in shares)])
    pairs = zip(shares, starts[:-1], strict=True)
    return tuple(Part(name, colour, share, float(start)) for (name, colour, share), start in pairs if share > 0)


def _usual(label: str, slides: Sequence[SlideSummary]) -> BatchRange:
    shares = [share for slide in slides for share in slide.shares if share.label == label and slide.counted]
    values = np.array([share.share for share in shares] or [0.0])
    low, median, high = (float(pick(values)) for pick in (np.min, np.median, np.max))
    return BatchRange(label, hex_of(label), sum(share.count for share in shares), low, median, high)


def overview_picture(image: Path) -> str | None:
    """Shrink the overview that lies over a slide's labels; None where there is none."""
    levels = sorted(image.glob("[0-9]*/zarr.json"), key=lambda path: -int(path.parent.name))
    for level in levels:
        array = zarr.open_array(level.parent, mode="r")
        if max(array.shape) >= THUMBNAIL_PX or level == levels[-1]:
            rgb = np.ascontiguousarray(np.moveaxis(np.asarray(array), 0, 2))
            scale = THUMBNAIL_PX / max(rgb.shape)
            size = tuple(max(1, round(side * scale)) for side in rgb.shape[1::-1])
            return data_uri(np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8))
    return None
