"""One slide's report: a single HTML file that needs no network, no script and no other file."""

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np

from sgcldff.differential import ClassShare, Differential
from sgcldff.drafts import draft
from sgcldff.grid import Box
from sgcldff.images import Rgb
from sgcldff.outputs.cells import CellRow
from sgcldff.outputs.colours import hex_of
from sgcldff.records import UNIDENTIFIED, Lineage, SlideRef
from sgcldff.slides.scaled import ScaledSlide

OVERVIEW_PX = 1400
CROP_UM = 26.0
"""Side of a gallery picture."""
CROPS = 18
"""Gallery pictures a type."""
RING_UM = 10.0
"""Radius of the rings that mark cells in the overview, at least `RING_PX`."""
RING_PX = 5.0
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Line:
    """A type's line in the differential."""

    label: str
    colour: str
    count: int
    share: str
    interval: str
    bar: tuple[float, float, float]
    """Share and ends of its interval, % of the bar's full width."""


@dataclass(frozen=True)
class Picture:
    """A cell in the gallery."""

    uri: str
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
    pictures: tuple[Picture, ...]
    """Surest first; evenly spread from the surest to the least sure where not all are shown."""


def write_report(
    folder: str | Path, slide: ScaledSlide, cells: Iterable[CellRow], found: Differential, lineage: Lineage
) -> Path:
    """Write `report.html`: differential, overview with cells marked, gallery by type, slide and lineage.

    Names that come from files are escaped; the page may load nothing and run nothing. The same input gives the same
    bytes.

    Parameters
    ----------
    slide
        The slide at the scale in which cells are shown.

    Returns
    -------
    Path
        The report.
    """
    path = Path(folder) / "report.html"
    overview, overview_mpp = slide.overview(OVERVIEW_PX)
    page = _template().render(
        slide=slide.source.ref,
        found=found,
        confidence=f"{found.confidence:.0%}",
        lines=[_line(share) for share in found.shares],
        groups=_groups(cells, [share.label for share in found.shares], slide, overview_mpp),
        overview={"uri": data_uri(overview), "width": overview.shape[1], "height": overview.shape[0]},
        ring_width=max(2.0, RING_PX / 2),
        facts=_facts(slide.source.ref, lineage),
        crop_um=CROP_UM,
    )
    with draft(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def data_uri(rgb: Rgb) -> str:
    """Encode a picture as a JPEG that stands inside a page."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _line(share: ClassShare) -> Line:
    return Line(
        share.label,
        hex_of(share.label),
        share.count,
        _percent(share.share),
        f"{_percent(share.low)} – {_percent(share.high)}",
        (100 * share.share, 100 * share.low, 100 * share.high),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _groups(cells: Iterable[CellRow], classes: Sequence[str], slide: ScaledSlide, overview_mpp: float) -> list[Group]:
    """Gather cells by type, in the order of the differential; types without cells are left out."""
    by_type: Mapping[str, list[CellRow]] = defaultdict(list)
    for cell in cells:
        by_type[cell.label].append(cell)
    present = [label for label in (*classes, UNIDENTIFIED) if label in by_type]
    return [_group(label, by_type[label], slide, overview_mpp) for label in present]


def _group(label: str, cells: list[CellRow], slide: ScaledSlide, overview_mpp: float) -> Group:
    ordered = sorted(cells, key=lambda cell: (-cell.confidence, cell.cell_id))
    shown = np.unique(np.linspace(0, len(ordered) - 1, min(CROPS, len(ordered))).round().astype(int))
    scale, radius = slide.source.ref.mpp / overview_mpp, max(RING_PX, RING_UM / overview_mpp)
    rings = "".join(_ring(cell.centroid[0] * scale, cell.centroid[1] * scale, radius) for cell in ordered)
    return Group(label, hex_of(label), len(cells), rings, tuple(_picture(ordered[at], slide) for at in shown))


def _ring(y: float, x: float, radius: float) -> str:
    turn = f"a{radius:.1f} {radius:.1f} 0 1 0"
    return f"M{x - radius:.1f} {y:.1f}{turn} {2 * radius:.1f} 0{turn} {-2 * radius:.1f} 0"


def _picture(cell: CellRow, slide: ScaledSlide) -> Picture:
    side = round(CROP_UM / slide.mpp)
    y, x = (round(place / slide.factor - side / 2) for place in cell.centroid)
    place = f"cell {cell.cell_id}, x {cell.centroid[1]:.0f}, y {cell.centroid[0]:.0f} px, {cell.area_um2:.0f} µm²"
    edge = ", cut by the slide's border" if cell.at_edge else ""
    return Picture(data_uri(slide.read(Box(y, x, y + side, x + side))), f"{cell.confidence:.0%}", place + edge)


def _facts(ref: SlideRef, lineage: Lineage) -> list[tuple[str, str]]:
    """List what the slide is and where the results come from; the folder in which the slide lies is nobody's matter."""
    height, width = ref.shape
    wide, high = (f"{side * ref.mpp / 1e3:.2f}" for side in (width, height))
    return [
        ("Slide", ref.id),
        ("Size", f"{width:,} × {height:,} px at {ref.mpp:.4g} µm/px ({wide} × {high} mm)"),
        ("Slide digest (SHA-256)", lineage.slide_sha256),
        ("Model", f"{lineage.model_name}, version {lineage.model_version}"),
        ("Model digest", lineage.model_digest),
        ("Settings digest", lineage.spec_digest),
        ("Software version", lineage.code_version),
    ]
