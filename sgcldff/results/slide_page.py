"""One slide's report: a single HTML file that needs no network; pictures beside it let one zoom to single cells."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.geometry import Box
from sgcldff.core.wording import percent
from sgcldff.counting.agreement import FEWEST_CELLS, Agreement
from sgcldff.counting.alerts import alerts
from sgcldff.counting.differential import ClassShare, Differential, read_differential
from sgcldff.inference.outputs.cells import CellRow
from sgcldff.inference.outputs.colours import hex_of
from sgcldff.results.folder import DIFFERENTIAL, READ_AGAIN, REPORT, ZOOM
from sgcldff.results.gallery import CROP_UM, OUTSIDE, Gallery, ShownType
from sgcldff.results.html import data_uri, embedded_json, leaflet, scripts, template
from sgcldff.results.standing import Standing, read_standing
from sgcldff.results.viewer import viewer_content
from sgcldff.results.zoom import Zoom, write_zoom
from sgcldff.slides.scaled import ScaledSlide

SCRIPTS = ("report_map.js", "report_cells.js", "report_cell.js")
DIFFERENTIAL_SECTION = '<section id="differential">'
PEOPLE = re.compile(rf'(<section id="people">.*?</section>\s*)?(?={DIFFERENTIAL_SECTION})', re.DOTALL)
"""Place of what people made of the results: before the model's differential."""
LINKS = re.compile(r'(?<=<p class="back"><a href=")|(?<="folder":")')
"""Starts of the addresses of what lies beside a report."""
RING_UM = 10.0
"""Radius of the rings that mark cells in the overview, at least `RING_PX`."""
RING_PX = 5.0
MAP_PX = 64
"""Side of a gallery picture's map of evidence."""


@dataclass(frozen=True)
class Line:
    """A type's line in the differential."""

    label: str
    colour: str
    count: int
    share: str
    interval: str
    adjusted: str
    """Share adjusted for the model's errors, with its interval; empty where it is not known."""
    bounds: str
    """Interval over all that unidentified cells may be."""
    bar: tuple[float, float, float]
    """Share and ends of its interval, % of the bar's full width."""
    group: bool = False
    """A broader type, whose cells are in other lines already."""


@dataclass(frozen=True)
class CellPicture:
    """A cell in the gallery."""

    cell_id: str
    uri: str
    evidence: str
    """The same picture under a map of the evidence for the type; empty where that is not known."""
    confidence: str
    caption: str


@dataclass(frozen=True)
class Group:
    """A type's cells, in overview and gallery."""

    label: str
    colour: str
    count: int
    rings: str
    """SVG path around every cell, px of the overview."""
    drawn: int
    """Cells that are ringed."""
    pictures: tuple[CellPicture, ...]
    """Most confident first; evenly spread from the most to the least confident where not all are shown."""


def write_report(
    folder: str | Path,
    slide: ScaledSlide,
    gallery: Gallery,
    found: Differential,
    facts: Sequence[tuple[str, str]],
    agreements: Sequence[Agreement] = (),
    standing: Standing | None = None,
    batch: str = "",
) -> Path:
    """Write `report.html`: differential, overview with cells marked, gallery by type, slide and lineage.

    Names that come from files are escaped; the page loads nothing but the pictures in the folder beside it, and runs
    only the scripts that it names by their digests. Without scripts, or without the folder, it still shows all but the
    slide at full sharpness. The same cells, in any order, give the same bytes, and memory does not grow with their
    number.

    Parameters
    ----------
    slide
        The slide, at any scale.
    gallery
        All cells that were found, those outside the usable area too.
    facts
        What the slide is and where the results come from, as `sgcldff.results.facts` lists it.
    agreements
        The comparison with a manual count, where there is one.
    standing
        What people made of the results, where they did.
    batch
        The page of the batch, from the report; empty where there is none.

    Returns
    -------
    Path
        The report.
    """
    path = Path(folder) / REPORT
    types = gallery.types(found.classes)
    zoom = write_zoom(path.parent, slide.source, (cell.centroid for one in types for cell, _ in one.detailed))
    library, style = leaflet()
    adjusted = any(share.adjusted for share in found.shares)
    page = template("report.html").render(
        slide=slide.source.ref,
        found=found,
        people=_people(found, standing or Standing()),
        figures=found.laboratory,
        alerts=alerts(found),
        confidence=f"{found.confidence:.0%}",
        adjusted=adjusted,
        columns=3 + adjusted + bool(found.rejected),
        lines=[*map(_line, found.shares), *(_line(share, group=True) for share in found.groups)],
        groups=[_group(one, zoom) for one in types],
        detailed=sum(len(one.detailed) for one in types),
        drawn=sum(len(one.ringed) for one in types),
        overview={"uri": data_uri(zoom.inside), "width": zoom.inside.shape[1], "height": zoom.inside.shape[0]},
        scripts=[library, *scripts(SCRIPTS)],
        leaflet_css=style,
        content=embedded_json(viewer_content(types, found.classes, zoom, ZOOM, RING_UM)),
        ring_width=max(2.0, RING_PX / 2),
        outside=OUTSIDE,
        agreements=agreements,
        few=FEWEST_CELLS,
        facts=facts,
        batch=batch,
        crop_um=CROP_UM,
    )
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def update_report(folder: Path) -> None:
    """Show in a slide's report what people made of its results since it was written; the rest is left as it is.

    Raises
    ------
    InputError
        If there is no differential, or it is damaged.
    """
    path = folder / REPORT
    if path.exists():
        people = _people(read_differential(folder / DIFFERENTIAL), read_standing(folder))
        page = PEOPLE.sub(lambda _: f"{people}\n", path.read_text(encoding="utf-8"), count=1)
        with atomic_write(path) as partial:
            partial.write_text(page, encoding="utf-8")


def copy_report(folder: Path, place: str) -> None:
    """Copy a slide's report into a folder below the slide's; it still finds its pictures, and its batch.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    with reading(folder / REPORT, "cannot be copied", READ_AGAIN, missing=READ_AGAIN):
        page = (folder / REPORT).read_text(encoding="utf-8")
    up = "../" * len(Path(place).parts)
    with atomic_write(folder / place / REPORT) as partial:
        partial.write_text(LINKS.sub(lambda _: up, page), encoding="utf-8")


def _people(found: Differential, standing: Standing) -> Markup:
    """Render what people made of a slide's results; names are escaped."""
    reviewed = standing.reviewed
    page = template("people.html").render(
        standing=standing,
        machine={share.label: share for share in found.shares},
        beside=[] if reviewed is None else _beside(found, reviewed.differential),
        absolute={} if reviewed is None else {one.label: one for one in reviewed.differential.laboratory.absolute},
        confidence=f"{found.confidence:.0%}",
    )
    return Markup(page.strip())  # noqa: S704  # escaped by the template


def _beside(found: Differential, reviewed: Differential) -> list[tuple[str, str, str, str]]:
    """Return what percentages do not include: name, cells by the model and after review, and per 100 white cells."""
    rate = {one.label: f"{one.per_100:.1f} per 100 white cells" for one in reviewed.beside if one.per_100 is not None}
    white = {share.label for share in reviewed.shares}
    return [
        (label, f"{found.counts[label]:,}" if label in found.counts else "–", f"{number:,}", rate.get(label, ""))
        for label, number in reviewed.counts.items()
        if label not in white
    ]


def _line(share: ClassShare, *, group: bool = False) -> Line:
    adjusted = share.adjusted
    return Line(
        share.label,
        hex_of(share.label),
        share.count,
        percent(share.share),
        f"{percent(share.low)} – {percent(share.high)}",
        f"{percent(adjusted.share)} ({percent(adjusted.low)} – {percent(adjusted.high)})" if adjusted else "",
        f"{percent(share.lowest)} – {percent(share.highest)}",
        (100 * share.share, 100 * share.low, 100 * share.high),
        group,
    )


def _group(shown: ShownType, zoom: Zoom) -> Group:
    scale, radius = zoom.sharp.source.ref.mpp / zoom.inside_mpp, max(RING_PX, RING_UM / zoom.inside_mpp)
    rings = "".join(_ring(cell.centroid[0] * scale, cell.centroid[1] * scale, radius) for cell in shown.ringed)
    pictures = tuple(_picture(cell, zoom.sharp) for cell in shown.pictured)
    return Group(shown.label, hex_of(shown.label), shown.count, rings, len(shown.ringed), pictures)


def _ring(y: float, x: float, radius: float) -> str:
    turn = f"a{radius:.1f} {radius:.1f} 0 1 0"
    return f"M{x - radius:.1f} {y:.1f}{turn} {2 * radius:.1f} 0{turn} {-2 * radius:.1f} 0"


def _picture(cell: CellRow, slide: ScaledSlide) -> CellPicture:
    side = round(CROP_UM / slide.mpp)
    y, x = (round(place / slide.factor - side / 2) for place in cell.centroid)
    seen = slide.read(Box(y, x, y + side, x + side))
    known = cell.evidence
    evidence = data_uri(_under_map(seen, known)) if known is not None and known.any() else ""
    return CellPicture(cell.cell_id, data_uri(seen), evidence, f"{cell.confidence:.0%}", _caption(cell))


def _caption(cell: CellRow) -> str:
    y, x = cell.centroid
    place = f"cell {cell.cell_id}, x {x:.0f}, y {y:.0f} px, {cell.area_um2:.0f} µm²"
    edge = ", cut by the slide's border" if cell.at_edge else ""
    outside = "" if cell.counted else f", {cell.label}" + (f", {cell.area}" if cell.area else "")
    beside = "" if cell.on_cell is None else f", evidence on the cell {cell.on_cell:.2f}"
    return place + edge + beside + outside


def _under_map(rgb: Rgb, evidence: NDArray[np.uint8]) -> Rgb:
    """Colour a picture (H, W, 3) by the rows of a square map of the evidence for the cell's type, and reduce it."""
    rows = evidence.reshape(math.isqrt(evidence.size), -1)
    grey = cv2.cvtColor(cv2.resize(rgb, (MAP_PX, MAP_PX), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    strength = cv2.resize(rows, (MAP_PX, MAP_PX), interpolation=cv2.INTER_CUBIC)
    heat = cv2.applyColorMap(strength, cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.asarray(cv2.addWeighted(np.repeat(grey[..., None], 3, axis=2), 0.5, heat, 0.5, 0), np.uint8)
