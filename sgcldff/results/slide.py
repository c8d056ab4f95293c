"""One slide: read from its pixels to a folder of results, and the results of such a folder."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgcldff.core.errors import InputError, MissingInputError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.parquet_file import read_table
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import InferSpec, digest
from sgcldff.counting.agreement import Agreement, Counts, compare, write_agreements
from sgcldff.counting.confusion import Confusion
from sgcldff.counting.differential import Differential, SlideScale, from_parts, write_differential
from sgcldff.counting.specimen import Specimen
from sgcldff.counting.stopping import Goal
from sgcldff.inference import (
    Plan,
    Runner,
    SlideTask,
    Step,
    Stopwatch,
    Tally,
    committed_work,
    keep_outlines,
    plan_slide,
    read_cells,
    read_outlines,
    run_plan,
    run_sample,
    run_tasks,
    sampled_work,
    slide_areas,
    this_worker,
    write_label_images,
)
from sgcldff.inference.gate import Area
from sgcldff.inference.outputs import (
    CellRow,
    cell_writer,
    finest_labels,
    geojson_writer,
    in_batches,
)
from sgcldff.models.checkpoint import CONFUSION_FILE, SPEC_FILE, read_spec
from sgcldff.models.reference import reference_digest
from sgcldff.results.batch import BATCH_PAGE, SlideSummary, known_sha256, write_origin, write_summary
from sgcldff.results.exports import export_named
from sgcldff.results.facts import run_facts, slide_facts
from sgcldff.results.folder import CELLS, DIFFERENTIAL, LABELS, MANUAL, READ_AGAIN, REPORT, ZOOM, held
from sgcldff.results.gallery import Gallery
from sgcldff.results.review.apply import recount_reviewed
from sgcldff.results.slide_page import write_report
from sgcldff.results.standing import mark_signed, read_standing, set_earlier_review_aside
from sgcldff.slides import ScaledSlide, SlideEntry, open_slide
from sgcldff.slides.images import sha256_of
from sgcldff.slides.opener import OpenedSlide
from sgcldff.slides.scale_group import ScaleGroup

if TYPE_CHECKING:
    import geopandas

logger = logging.getLogger(__name__)

OVERVIEW_PX = 2048
"""Longer side of the overview image that lies under the labels."""
LAYOUT = 7
"""Of the files of a slide's results together; results of an earlier layout are written again from committed shards."""
IMAGE_STEPS = {Step.WRITE: "label image of cells", Step.PYRAMID: "coarser label images"}
FILES = (CELLS, DIFFERENTIAL, "cells.geojson", REPORT, MANUAL)

TallyProgress = Callable[[Tally], None]
"""Called with the work done by every pass over a shard."""
StartProgress = Callable[[int, Tally], AbstractContextManager[TallyProgress]]
"""Called with the number of shards and the work that earlier runs committed."""
Announce = Callable[[str, int], None]
"""Called with what is done next beside the passes over shards, and its number of parts; 0 where it has none."""


def no_progress(shards: int, done: Tally) -> AbstractContextManager[TallyProgress]:
    """Report no progress."""
    return nullcontext(lambda tally: None)


def no_announcement(doing: str, parts: int) -> None:
    """Announce nothing."""


@dataclass(frozen=True)
class SlideJob:
    """A slide to read, with everything that decides the result."""

    slide: SlideEntry
    model: str
    """Folder of the model."""
    reference: ModelRef
    out: str
    """Results go to a folder below, named after the slide."""
    spec: InferSpec
    """With the engine and the precision that are really used."""
    goal: Goal | None = None
    """Read only a random sample that is large enough for this."""
    manual: Counts | None = None
    """A manual count of the same smear."""
    specimen: Specimen | None = None
    """What the laboratory knows of the blood."""
    scale_group: ScaleGroup | None = None
    """Slides of the same scale, whose red cells are measured together with its own."""
    outlines: str | None = None
    """File of outlines of cells, which are classified instead of those that would be found."""
    also: tuple[str, ...] = ()
    """Formats of `sgcldff.results.exports` that are written too."""
    in_batch: bool = False
    """Whether the folder of the results has a page of the batch, to which the report leads back."""

    @property
    def options(self) -> dict[str, str]:
        """What was asked for beside the settings, as a report shows it."""
        widths = {} if self.goal is None else self.goal.widths
        goal = ", ".join(f"{label} to {width:g}" for label, width in widths.items())
        known = {
            "Counted until": f"intervals are narrow enough ({goal}), on a random sample of the slide" if goal else "",
            "Cells outlined by": PurePath(self.outlines).name if self.outlines else "",
        }
        return {name: value for name, value in known.items() if value}

    @property
    def folder(self) -> Path:
        """Folder of the slide's results."""
        return Path(self.out) / self.slide.id


@dataclass(frozen=True)
class SlideResult:
    """The results of one slide, as they lie in its folder."""

    folder: Path
    summary: SlideSummary
    differential: Differential
    _holds: TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)
    """Folder that is removed with this object, where the caller named none."""

    @cached_property
    def cells(self) -> pa.Table:
        """The table of cells, one row per cell; columns as in `sgcldff.core.records.cell_schema`."""
        try:
            return read_table(self.folder / CELLS, READ_AGAIN)
        except StoreError as error:
            raise InputError(f"{error}") from error

    @property
    def outlines(self) -> list[NDArray[np.float64]]:
        """Outline of each cell, closed, (x, y) in px of level 0, shape (N, 2); in the order of `cells`."""
        import shapely

        return [shapely.get_coordinates(outline) for outline in shapely.from_wkb(self.cells["outline"].to_pylist())]

    def to_geopandas(self) -> "geopandas.GeoDataFrame":
        """Return the cells with `outline` as active geometry and `nucleus` as a second one, px of level 0.

        Raises
        ------
        ImportError
            If geopandas is not installed (extra `geo`).
        """
        import geopandas
        import shapely

        table = self.cells.to_pandas()
        for name in ("outline", "nucleus"):
            table[name] = geopandas.GeoSeries(shapely.from_wkb(table[name].to_numpy()), index=table.index)
        return geopandas.GeoDataFrame(table, geometry="outline")


def read_results(folder: str | Path) -> SlideResult:
    """Return the results of a slide that was read before.

    Parameters
    ----------
    folder
        Of one slide: the one that holds `cells.parquet` and `differential.json`.

    Raises
    ------
    MissingInputError
        If the folder holds no results of a slide.
    InputError
        If the slide was skipped, or a file is damaged.
    """
    folder = Path(folder)
    if not (folder / "summary.json").is_file():
        raise MissingInputError(f"{folder}: no results of a slide (summary.json is missing): name a slide's own folder")
    summary = SlideSummary.read(folder)
    if summary.found is None:
        raise InputError(f"{folder}: this slide was skipped ({summary.reason}): mend the cause and read it again")
    return SlideResult(folder, summary, summary.found)


def read_slide_job(
    job: SlideJob, run: Runner, start: StartProgress = no_progress, announce: Announce = no_announcement
) -> SlideResult:
    """Find, outline and classify the cells of a slide, and write its results; goes on where an earlier run stopped.

    Parameters
    ----------
    run
        Runs the tasks on shards, for instance `sgcldff.inference.serially`.
    start
        Makes the progress display.
    announce
        Shows what is done before and after the passes over shards.

    Raises
    ------
    InputError
        If the slide or the model cannot be read.
    Exception
        As `sgcldff.inference.run_plan`.
    """
    work = _Work(run, announce)
    with held(job.folder), ExitStack() as opened:
        with work.doing("see", "looking at the whole slide"):
            known = known_sha256(job.folder, job.slide.uri)
            entry = job.slide
            slide = opened.enter_context(closing(open_slide(entry.uri, entry.mpp, entry.id, known, job.scale_group)))
            model, reference = read_spec(Path(job.model) / SPEC_FILE), reference_digest(job.model)
            given = read_outlines(job.outlines, slide.ref) if job.outlines else None
            known_as = sha256_of(job.outlines) if job.outlines else ""
            plan = plan_slide(slide, model, job.reference, job.spec, job.folder, reference, known_as)
            if given is not None:
                keep_outlines(plan, given)
            write_origin(job.folder, job.slide.uri, slide.ref.sha256)
            for name in job.also:
                export_named(name).prepare(job.folder, slide.file)
            done = committed_work(plan) if job.goal is None else sampled_work(plan)
        with start(len(plan.grid), done) as work.progress:
            shards = _run(plan, run, work.advance, job.goal)
            marker = _marker(plan, job)
            if not _are_written(marker, job.folder):
                _write_results(plan, shards, slide, job, work)
                write_json(marker, {"files": _checksums(job.folder)})
            for name in job.also:
                export_named(name).write(job.folder)
    return read_results(job.folder)


class _Work:
    """The work on a slide: who does it, who is told of it, and how long it has taken."""

    def __init__(self, run: Runner, announce: Announce) -> None:
        self.run, self.announce = run, announce
        self.progress: TallyProgress = lambda tally: None
        self.began, self.tally, self.watch = time.monotonic(), Tally(), Stopwatch()

    def advance(self, tally: Tally) -> None:
        """Count the work of a task."""
        self.tally += tally
        self.progress(tally)

    def execute(self, tasks: Sequence[SlideTask]) -> None:
        """Run tasks on label images."""
        if tasks:
            self.announce(IMAGE_STEPS[tasks[0].step], len(tasks))
            run_tasks(tasks, self.run, self.advance)

    @contextmanager
    def doing(self, stage: str, told: str) -> Iterator[None]:
        """Time a stage of this process, and say what it does."""
        self.announce(told, 0)
        with self.watch(stage):
            yield

    def finish(self) -> dict[str, float]:
        """Count the stages of this process, and return where the time of the slide went."""
        here = self.tally.workers <= this_worker()
        self.advance(Tally(seconds=self.watch.seconds, busy=sum(self.watch.seconds.values()) if here else 0.0))
        return self.tally.where_time_went(self.seconds)

    @property
    def seconds(self) -> float:
        """Time since the slide was opened, s."""
        return time.monotonic() - self.began


def _run(plan: Plan, run: Runner, progress: TallyProgress, goal: Goal | None) -> list[int] | None:
    """Read a slide as a whole (None), or as many of its shards, in random order, as a goal asks for."""
    if goal is None:
        run_plan(plan, run, progress)
        return None

    def reached(cells: Iterable[CellRow]) -> bool:
        return goal.reached(_differential(Counter((cell.shard, _counted_as(cell)) for cell in cells), plan))

    return run_sample(plan, run, reached, progress)


def _counted_as(cell: CellRow) -> str | None:
    """Return the label under which a cell is counted; None outside the usable area of the smear."""
    return cell.label if cell.counted else None


def _differential(counts: Mapping[tuple[int, str | None], int], plan: Plan) -> Differential:
    """Make the differential of counts by shard and label."""
    shards: dict[int, dict[str, int]] = defaultdict(dict)
    for (shard, label), number in counts.items():
        if label is not None:
            shards[shard][label] = number
    excluded = sum(number for (_, label), number in counts.items() if label is None)
    found = from_parts(list(shards.values()), plan.model.labels.classes, excluded=excluded)
    return replace(found, abstains=plan.abstains)


def _marker(plan: Plan, job: SlideJob) -> Path:
    """Name the file that exists once all results are written."""
    confusion = Confusion.read(Path(job.model) / CONFUSION_FILE)
    told = (job.manual and dict(job.manual), job.specimen and asdict(job.specimen))
    pooled = job.scale_group is not None and job.scale_group.pools
    wanted = (job.goal and asdict(job.goal), job.in_batch, *told, plan.slide.id, plan.slide.scale_from, pooled)
    key = digest((LAYOUT, plan.type_key, asdict(plan.lineage), wanted, confusion and asdict(confusion)))
    return plan.shards / plan.type_key / f"written-{key}.json"


def _are_written(marker: Path, folder: Path) -> bool:
    try:
        written = read_json(marker, READ_AGAIN)["files"]
        skipped = SlideSummary.read(folder).reason  # a later run may have failed to open the slide
    except (InputError, StoreError, LookupError):
        return False
    return not skipped and written.items() <= _checksums(folder).items()


def _checksums(folder: Path) -> dict[str, str]:
    """Hash the files of a slide's results, whose names are relative to the folder; not those that change later.

    The finest labels, by far the largest part, are left out: the markers of the shards prove them.
    """
    below = (place for name in (LABELS, ZOOM) for place in (folder / name).rglob("*"))
    places = (*(folder / name for name in FILES), *below)
    proven = finest_labels(folder / LABELS)
    return {
        place.relative_to(folder).as_posix(): sha256_of(place)
        for place in places
        if place.is_file() and proven not in place.parents
    }


def _write_results(plan: Plan, shards: list[int] | None, slide: OpenedSlide, job: SlideJob, work: _Work) -> None:
    """Write every file of a slide's results; memory does not grow with the number of its cells."""
    folder, scaled, step = plan.labels.parent, ScaledSlide(slide, plan.model.mpp), _step(shards)
    with work.doing("tables", "writing the tables of cells"):
        gallery, counts = _write_cells(plan, slide, shards)
    number = Counter[int]()
    for (shard, _), cells in counts.items():
        number[shard] += cells
    write_label_images(plan, step, number, scaled.overview(OVERVIEW_PX), work.execute)
    with work.doing("report", "writing the report"):
        if aside := set_earlier_review_aside(folder):
            where = aside.relative_to(folder.parent)
            logger.warning("slide %s: reviewed results of an earlier reading now lie in %s", slide.ref.id, where)
        found = _differential(counts, plan)
        if job.goal is not None:
            found = job.goal.settled(found)
        if plan.confidence_only:  # how typical labelled cells are, and where their evidence lies, is not known
            found = found.adjusted_for(Confusion.read(Path(job.model) / CONFUSION_FILE), plan.min_confidence)
        scale = SlideScale(slide.ref.mpp, slide.ref.scale_from, slide.red_cells)
        found = replace(found, specimen=job.specimen).measured_at(scale)
        write_differential(folder / DIFFERENTIAL, found, slide.ref.id, plan.lineage, slide.ref.orientation)
        recount_reviewed(folder)
        mark_signed(folder)
        agreements = _agreements(found, job, plan)
        tally = committed_work(plan) if shards is None else sampled_work(plan)
        areas = _area_shares(slide_areas(plan)) if shards is None else {}
        how = replace(plan.spec, min_confidence=plan.min_confidence)
        facts = slide_facts(slide.ref, plan.lineage, plan.model.calibrated)
        facts += run_facts(how, tally, areas, job.options)
        batch = f"../{BATCH_PAGE}" if job.in_batch else ""
        write_report(folder, scaled, gallery, found, facts, agreements, read_standing(folder), batch)
    summary = SlideSummary(
        slide.ref.id,
        job.slide.shown_name,
        areas=areas,
        tiles=tally.tiles,
        skipped=tally.skipped,
        seconds=work.seconds,
        stages=work.finish(),
        model=job.reference,
    )
    write_summary(folder, summary)


def _write_cells(
    plan: Plan, slide: OpenedSlide, shards: list[int] | None
) -> tuple[Gallery, Counter[tuple[int, str | None]]]:
    """Write the tables of cells in one pass; return the cells to be shown, and counts by shard and label."""
    folder, classes = plan.labels.parent, plan.model.labels.classes
    gallery, counts = Gallery(), Counter[tuple[int, str | None]]()
    cells = read_cells(plan, _step(shards), shards)
    first, width = list(islice(cells, 1)), -1 if plan.spec.embeddings else None
    if first and first[0].embedding is not None:
        width = len(first[0].embedding)
    with (
        cell_writer(folder / CELLS, classes, slide.ref.mpp, plan.lineage, width) as write_table,
        geojson_writer(folder / "cells.geojson", classes) as write_outlines,
    ):
        for batch, shapes in in_batches(chain(first, cells)):
            write_table(batch, shapes)
            write_outlines(batch, shapes)
            counts.update((cell.shard, _counted_as(cell)) for cell in batch)
            for cell, pair in zip(batch, shapes, strict=True):
                gallery.add(cell, pair)
    return gallery, counts


def _step(shards: list[int] | None) -> Step:
    """Return the step that committed the cells of the whole slide (None), or of a sample of its shards."""
    return Step.TYPE if shards is None else Step.SAMPLE


def _area_shares(areas: NDArray[np.uint8]) -> dict[str, float]:
    """Return the part of the slide that each kind of area takes up."""
    return {area.name.lower(): float((areas == area).mean()) for area in Area}


def _agreements(found: Differential, job: SlideJob, plan: Plan) -> tuple[Agreement, ...]:
    """Compare with the manual count and write how they agree, or remove what an earlier run wrote."""
    path = job.folder / MANUAL
    if job.manual is None:
        path.unlink(missing_ok=True)
        return ()
    agreements = compare(found, job.manual)
    write_agreements(path, agreements, job.slide.id, plan.lineage)
    return agreements
