"""One slide's report: a single HTML file that needs no network, no script and no other file."""

import base64
import heapq
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from sgcldff.core.arrays import Rgb
from sgcldff.core.atomic import atomic_write
from sgcldff.core.geometry import Box
from sgcldff.core.records import UNIDENTIFIED, Lineage, ScaleSource, SlideRef
from sgcldff.core.wording import any_of, counted, moment, percent
from sgcldff.counting.agreement import FEWEST_CELLS, Agreement
from sgcldff.counting.alerts import alerts
from sgcldff.counting.differential import ClassShare, Differential, read_differential
from sgcldff.inference.outputs.cells import CellRow
from sgcldff.inference.outputs.colours import hex_of
from sgcldff.results.folder import DIFFERENTIAL, REPORT
from sgcldff.results.standing import Standing, read_standing
from sgcldff.slides.scaled import ScaledSlide

OVERVIEW_PX = 1400
CROP_UM = 26.0
"""Side of a gallery picture."""
CROPS = 18
"""Gallery images per type."""
DRAWN = 5000
"""Cells kept per type: all are counted, these are ringed, and the gallery is chosen from these."""
OUTSIDE = "outside the usable area"
"""Heading of cells that are not counted."""
DIFFERENTIAL_SECTION = '<section id="differential">'
PEOPLE = re.compile(rf'(<section id="people">.*?</section>\s*)?(?={DIFFERENTIAL_SECTION})', re.DOTALL)
"""Place of what people made of the results: before the model's differential."""
RING_UM = 10.0
"""Radius of the rings that mark cells in the overview, at least `RING_PX`."""
RING_PX = 5.0
MAP_PX = 64
"""Side of a gallery picture's map of evidence."""
JPEG_QUALITY = 85


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
class Picture:
    """A cell in the gallery."""

    uri: str
    evidence: str
    """The same picture under a map of what speaks for the type; empty where that is not known."""
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
    pictures: tuple[Picture, ...]
    """Most confident first; evenly spread from the most to the least confident where not all are shown."""


@dataclass(frozen=True, order=True)
class Mark:
    """Position and caption of a cell."""

    cell_id: str
    confidence: float
    centroid: tuple[float, float]
    """(y, x), px of level 0."""
    caption: str
    evidence: bytes = b""
    """Square map of what speaks for the type, one byte per position."""


@dataclass
class Sample:
    """A random sample of cells: those whose ids have the lowest digests, in whatever order they come.

    Every cell has the same chance, and the same cells give the same sample (bottom-k sampling, Cohen and Kaplan 2007).
    """

    count: int = 0
    """Cells that passed by."""
    held: list[tuple[int, Mark]] = field(default_factory=list)
    """At most `DRAWN`; a heap with the highest digest, negated, on top."""

    def add(self, cell: CellRow) -> None:
        """Count a cell, and keep it if it belongs to the sample."""
        self.count += 1
        rank = -int.from_bytes(blake2b(cell.cell_id.encode(), digest_size=8).digest())
        if len(self.held) < DRAWN:
            heapq.heappush(self.held, (rank, _mark(cell)))
        elif rank > self.held[0][0]:
            heapq.heapreplace(self.held, (rank, _mark(cell)))

    def most_confident_first(self) -> list[Mark]:
        """Return the cells held in the order of the gallery."""
        return sorted((mark for _, mark in self.held), key=lambda mark: (-mark.confidence, mark.cell_id))


class Gallery:
    """Cells to be shown, gathered by type as they pass by."""

    def __init__(self, cells: Iterable[CellRow] = ()) -> None:
        self._samples: dict[str, Sample] = defaultdict(Sample)
        for cell in cells:
            self.add(cell)

    def add(self, cell: CellRow) -> None:
        """Count a cell, and keep it if it belongs to the sample."""
        self._samples[cell.label if cell.counted else OUTSIDE].add(cell)

    def groups(self, classes: Sequence[str], slide: ScaledSlide, overview_mpp: float) -> list[Group]:
        """Return the cells by type, in the order of the differential; types without cells are left out."""
        present = [label for label in (*classes, UNIDENTIFIED, OUTSIDE) if label in self._samples]
        return [_group(label, self._samples[label], slide, overview_mpp) for label in present]


def _mark(cell: CellRow) -> Mark:
    y, x = cell.centroid
    place = f"cell {cell.cell_id}, x {x:.0f}, y {y:.0f} px, {cell.area_um2:.0f} µm²"
    edge = ", cut by the slide's border" if cell.at_edge else ""
    outside = "" if cell.counted else f", {cell.label}" + (f", {cell.area}" if cell.area else "")
    beside = "" if cell.on_cell is None else f", evidence on the cell {cell.on_cell:.2f}"
    evidence = b"" if cell.evidence is None else cell.evidence.tobytes()
    return Mark(cell.cell_id, cell.confidence, cell.centroid, place + edge + beside + outside, evidence)


def write_report(
    folder: str | Path,
    slide: ScaledSlide,
    gallery: Gallery,
    found: Differential,
    facts: Sequence[tuple[str, str]],
    agreements: Sequence[Agreement] = (),
    standing: Standing | None = None,
) -> Path:
    """Write `report.html`: differential, overview with cells marked, gallery by type, slide and lineage.

    Names that come from files are escaped; the page may load nothing and run nothing. The same cells, in any order,
    give the same bytes, and memory does not grow with their number.

    Parameters
    ----------
    slide
        The slide at the scale in which cells are shown.
    gallery
        All cells that were found, those outside the usable area too.
    facts
        What the slide is and where the results come from, as `slide_facts` lists it.
    agreements
        The comparison with a manual count, where there is one.
    standing
        What people made of the results, where they did.

    Returns
    -------
    Path
        The report.
    """
    path = Path(folder) / REPORT
    overview, overview_mpp = slide.overview(OVERVIEW_PX)
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
        groups=gallery.groups(found.classes, slide, overview_mpp),
        overview={"uri": data_uri(overview), "width": overview.shape[1], "height": overview.shape[0]},
        ring_width=max(2.0, RING_PX / 2),
        outside=OUTSIDE,
        agreements=agreements,
        few=FEWEST_CELLS,
        facts=facts,
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


def template(name: str) -> jinja2.Template:
    """Load a page's template; what is filled in is escaped, and what is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "colour": hex_of,
        "moment": moment,
        "counted": counted,
        "any_of": any_of,
    }
    return environment.get_template(name)


def data_uri(rgb: Rgb) -> str:
    """Encode a picture as a JPEG that stands inside a page."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


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


def _group(label: str, sample: Sample, slide: ScaledSlide, overview_mpp: float) -> Group:
    ordered = sample.most_confident_first()
    shown = np.unique(np.linspace(0, len(ordered) - 1, min(CROPS, len(ordered))).round().astype(int))
    scale, radius = slide.source.ref.mpp / overview_mpp, max(RING_PX, RING_UM / overview_mpp)
    rings = "".join(_ring(mark.centroid[0] * scale, mark.centroid[1] * scale, radius) for mark in ordered)
    pictures = tuple(_picture(ordered[at], slide) for at in shown)
    return Group(label, hex_of(label), sample.count, rings, len(ordered), pictures)


def _ring(y: float, x: float, radius: float) -> str:
    turn = f"a{radius:.1f} {radius:.1f} 0 1 0"
    return f"M{x - radius:.1f} {y:.1f}{turn} {2 * radius:.1f} 0{turn} {-2 * radius:.1f} 0"


def _picture(mark: Mark, slide: ScaledSlide) -> Picture:
    side = round(CROP_UM / slide.mpp)
    y, x = (round(place / slide.factor - side / 2) for place in mark.centroid)
    seen = slide.read(Box(y, x, y + side, x + side))
    evidence = data_uri(_under_map(seen, mark.evidence)) if any(mark.evidence) else ""
    return Picture(data_uri(seen), evidence, f"{mark.confidence:.0%}", mark.caption)


def _under_map(rgb: Rgb, evidence: bytes) -> Rgb:
    """Colour a picture (H, W, 3) by a square map of what speaks for the cell's type, and reduce it."""
    rows = np.frombuffer(evidence, np.uint8).reshape(math.isqrt(len(evidence)), -1)
    grey = cv2.cvtColor(cv2.resize(rgb, (MAP_PX, MAP_PX), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    strength = cv2.resize(rows, (MAP_PX, MAP_PX), interpolation=cv2.INTER_CUBIC)
    heat = cv2.applyColorMap(strength, cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.asarray(cv2.addWeighted(np.repeat(grey[..., None], 3, axis=2), 0.5, heat, 0.5, 0), np.uint8)


def slide_facts(ref: SlideRef, lineage: Lineage, calibrated: str = "") -> list[tuple[str, str]]:
    """List what the slide is and where the results come from; the folder of the slide is not shown.

    Parameters
    ----------
    calibrated
        `ModelSpec.calibrated` of the model.
    """
    height, width = ref.shape
    wide, high = (f"{side * ref.mpp / 1e3:.2f}" for side in (width, height))
    turned = [("Stored", f"turned, orientation {ref.orientation}: all images and positions are upright")]
    return [
        ("Slide", ref.id),
        *(turned if ref.orientation != 1 else []),
        ("Size", f"{width:,} × {height:,} px at {ref.mpp:.4g} µm/px ({wide} × {high} mm)"),
        *([("Scale", "measured by the width of red cells")] if ref.scale_from is ScaleSource.RED_CELLS else []),
        ("Slide digest (SHA-256)", lineage.slide_sha256),
        ("Model", f"{lineage.model_name}, version {lineage.model_version}"),
        ("Model digest", lineage.model_digest),
        *([("Calibration", calibrated)] if calibrated else []),
        ("Settings digest", lineage.spec_digest),
        ("Software version", lineage.code_version),
    ]
