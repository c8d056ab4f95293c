"""The live view of a batch of slides: on the terminal, as lines in a log, and as artifacts of Prefect."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from datetime import timedelta
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sgcldff.core.tally import Tally
from sgcldff.core.wording import counted
from tasks import metrics
from tasks.artifacts import away
from tasks.progress import BatchProgress, Clock, SlideStanding, Standing, by_count, in_words
from tasks.stages import in_flow_run

logger = logging.getLogger(__name__)

FRAMES_PER_S = 2
"""How often the view on a terminal is drawn."""
LINE_S = 30.0
"""Time between the lines in a log."""
ARTIFACT_S = 10.0
"""Time between updates of the artifacts."""
LOOK_S = 1.0
"""How often it is looked whether a line or an update is due."""
PATIENCE_S = 5.0
"""Time that the end of a batch waits for a server that does not answer."""
SHOWN_SLIDES = 8
"""Running slides, at the most, that have a line of their own."""
PROGRESS_KEY, NUMBERS_KEY = "infer-progress", "infer-numbers"
"""Names of the artifacts."""


class BatchView:
    """Shows how a batch of slides goes on, while the block runs; slides report from any number of threads.

    On a terminal it is a view that is drawn anew, elsewhere a line now and then; both also get a line for each slide
    that ends. Within a Prefect flow the same numbers are kept up to date in two artifacts; a server that is away costs
    them and nothing else. Keep it in one process: it is neither hashed nor pickled.

    Parameters
    ----------
    slides
        Slides of the batch.
    timed
        Whether to show at the end how much time each stage took.
    console
        Where to show it; standard error where left out.
    clock
        Tells the time, s.

    Examples
    --------
    >>> with BatchView(1, console=Console(quiet=True)) as view, view.slide("smear", shards=2) as progress:
    ...     progress(Tally(passes=1, tiles=10, skipped=90))
    """

    def __init__(
        self,
        slides: int,
        *,
        timed: bool = False,
        console: Console | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._progress, self._timed = BatchProgress(slides, clock), timed
        self._dashboard: str | None = None
        self._console = console or Console(stderr=True)
        self._line, self._update = Rate(LINE_S, clock), Rate(ARTIFACT_S, clock)
        self._artifacts, self._open = Artifacts(), ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(metrics.slides_counted(self.standing))
            if in_flow_run():
                opened.enter_context(repeating(self.publish))
            if self._console.is_interactive:
                opened.enter_context(self._live())
            else:
                opened.enter_context(repeating(self.log))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        if self._timed and (seconds := self.stages()):
            self._console.print(stage_table(seconds))

    def dashboard_at(self, address: str) -> None:
        """Say where the dashboard of the workers is, now that there are any."""
        self._dashboard = self._artifacts.dashboard = address
        if not self._console.is_interactive:
            self._say(Text(f"Dask dashboard: {address}"))

    @contextmanager
    def slide(self, slide: str, shards: int, done: Tally | None = None) -> Iterator[Callable[[Tally], None]]:
        """Show a slide while the block runs; call the value after each pass over a shard with what the pass has done.

        A slide whose block ends with an error counts as waiting: it may be begun anew, or be set aside.

        Parameters
        ----------
        slide
            Name of the slide; no two slides of a batch share it.
        shards
            Shards of the slide. Each is passed over twice.
        done
            What former runs have committed of the slide. It is shown, and does not count as speed.
        """
        self._progress.begin(slide, shards, done or Tally())
        with ExitStack() as unfinished:
            unfinished.callback(self._progress.drop, slide)
            yield lambda tally: self._advance(slide, tally)
            unfinished.pop_all()
        ended = self._progress.finish(slide)
        if ended is not None:
            self._say(farewell(ended, self._progress.elapsed(ended.begun)))

    def _advance(self, slide: str, tally: Tally) -> None:
        self._progress.advance(slide, tally)
        metrics.count(tally)

    def set_aside(self, slide: str, reason: str) -> None:
        """Count a slide as set aside, and say why."""
        self._progress.set_aside(slide)
        self._say(Text(f"{slide}: skipped: {' '.join(reason.split())}", style="yellow"))

    def standing(self) -> Standing:
        """Say where the batch stands."""
        return self._progress.standing()

    def stages(self) -> Mapping[str, float]:
        """Give the time that each stage took, s, summed over workers; the longest first."""
        seconds = self.standing().tally.seconds
        return dict(sorted(seconds.items(), key=lambda item: -item[1]))

    def log(self, last: bool = False) -> None:
        """Write a line if one is due, or the last."""
        if self._line.due(last):
            self._say(Text(sentence(self.standing())))

    def publish(self, last: bool = False) -> None:
        """Bring the artifacts up to date if that is due, or for the last time."""
        if self._update.due(last):
            self._artifacts.update(self.standing())

    def _live(self) -> Live:
        return Live(
            console=self._console,
            get_renderable=lambda: screen(self.standing(), self._dashboard),
            refresh_per_second=FRAMES_PER_S,
            redirect_stdout=sys.stdout.isatty(),
        )

    def _say(self, line: Text | None) -> None:
        if line is not None:
            self._console.print(line, soft_wrap=not self._console.is_interactive, highlight=False)


class Rate:
    """Bounds how often something is done."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds, self._clock, self._lock = seconds, clock, Lock()
        self._last = clock()

    def due(self, now: bool = False) -> bool:
        """Tell whether it is time again, or say that it is."""
        with self._lock:
            at = self._clock()
            if not now and at - self._last < self._seconds:
                return False
            self._last = at
            return True


@contextmanager
def repeating(function: Callable[[bool], None]) -> Iterator[None]:
    """Call a function again and again while the block runs, and with True at its end.

    It runs in a thread of its own, which has the context of this one, so that nothing waits for what it does.
    """
    over = Event()

    def repeat() -> None:
        while not over.wait(LOOK_S):
            function(False)
        function(True)

    thread = Thread(target=copy_context().run, args=(repeat,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE_S)


class Artifacts:
    """The artifacts of a batch in Prefect: the share that is done, and a table of the numbers."""

    def __init__(self) -> None:
        self.dashboard: str | None = None
        self._progress: UUID | None = None
        self._table: UUID | None = None
        self._away = False

    def update(self, standing: Standing) -> None:
        """Bring both up to date; where the server is away that is said once and tried again the next time."""
        try:
            link = f" [Dask dashboard]({self.dashboard})" if self.dashboard else ""
            self._bring(100 * standing.share, sentence(standing) + link, numbers(standing))
        except away() as error:
            self._progress = self._table = None
            if not self._away:
                logger.warning("Prefect does not take the progress of the slides, which go on: %s", error)
            self._away = True
        else:
            self._away = False

    def _bring(self, percent: float, told: str, rows: list[dict[str, Any]]) -> None:
        from prefect.artifacts import TableArtifact, create_progress_artifact, update_progress_artifact
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactUpdate

        if self._progress is None or self._table is None:
            self._progress = create_progress_artifact(percent, PROGRESS_KEY, told)
            self._table = TableArtifact(key=NUMBERS_KEY, description="Slides", table=rows).create().id
            return
        update_progress_artifact(self._progress, percent, told)
        get_client(sync_client=True).update_artifact(self._table, ArtifactUpdate(data=json.dumps(rows)))


def numbers(standing: Standing) -> list[dict[str, Any]]:
    """List the numbers of a batch as rows of a table."""
    tally, speed, left = standing.tally, standing.tiles_per_s, standing.left_s
    rows = {
        "slides": standing.slides,
        "slides done": standing.done,
        "slides skipped": standing.set_aside,
        "slides running": len(standing.running),
        "tiles read": tally.tiles,
        "tiles skipped by the gate": tally.skipped,
        "tiles/s": None if speed is None else round(speed, 1),
        "time left": None if left is None else in_words(left),
        "cells": standing.cells,
    }
    running = {slide.slide: slide.stage for slide in standing.running}
    cells = {f"cells: {label}": count for label, count in by_count(tally.cells)}
    return [{"number": name, "value": value} for name, value in (rows | cells | running).items()]


def sentence(standing: Standing) -> str:
    """Tell where a batch stands in one line."""
    parts = [slides_in_words(standing), tiles_in_words(standing), cells_in_words(standing.tally)]
    return "; ".join([*parts, time_in_words(standing)])


def slides_in_words(standing: Standing) -> str:
    """Say how many slides are done, skipped and running."""
    counts = {"skipped": standing.set_aside, "running": len(standing.running)}
    rest = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return f"{standing.done}/{counted(standing.slides, 'slide')} done{rest}"


def tiles_in_words(standing: Standing) -> str:
    """Tell the tiles that were read and skipped, and the speed."""
    tally, speed = standing.tally, standing.tiles_per_s
    skipped = f", {tally.skipped:,} skipped by the gate ({standing.skipped_share:.1%})" if tally.skipped else ""
    return f"{tally.tiles:,} tiles read{skipped}" + ("" if speed is None else f", {speed:,.1f} tiles/s")


def cells_in_words(tally: Tally) -> str:
    """Tell the cells by type."""
    types = ", ".join(f"{label} {count:,}" for label, count in by_count(tally.cells))
    return counted(sum(tally.cells.values()), "cell") + (f": {types}" if types else "")


def time_in_words(standing: Standing) -> str:
    """Tell the time that has passed and, once it is known, the time that is left."""
    left = "" if standing.left_s is None or standing.share == 1 else f", about {in_words(standing.left_s)} left"
    return f"{to_the_second(standing.elapsed_s)} so far{left}"


def to_the_second(seconds: float) -> str:
    """Tell a time that has passed, as in `1:02:03`."""
    return str(timedelta(seconds=round(seconds)))


def farewell(slide: SlideStanding, seconds: float) -> Text:
    """Tell what came out of a slide."""
    tally = slide.tally
    read = f"{tally.tiles:,} of {tally.tiles + tally.skipped:,} tiles read"
    return Text(f"{slide.slide}: done in {to_the_second(seconds)}, {read}, {sum(tally.cells.values()):,} cells")


def screen(standing: Standing, dashboard: str | None) -> Group:
    """Draw where a batch stands."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Slides", re.sub(" slides?", "", slides_in_words(standing), count=1))
    table.add_row("Tiles", tiles_in_words(standing).replace(" tiles read", " read"))
    table.add_row("Cells", re.sub(" cells?", "", cells_in_words(standing.tally), count=1))
    table.add_row("Time", time_in_words(standing))
    if dashboard:
        table.add_row("Dask", Text(dashboard, style=f"link {dashboard}", overflow="fold"))
    return Group(bars(standing), table)


def bars(standing: Standing) -> Table:
    """Draw a bar for the batch and one for each running slide."""
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column(ratio=3)
    table.add_column(no_wrap=True, min_width=20)
    table.add_row(Text("All slides", style="bold"), ProgressBar(1.0, standing.share), f"{standing.share:.0%}")
    for slide in standing.running[:SHOWN_SLIDES]:
        table.add_row(Text(slide.slide), ProgressBar(1.0, slide.share), slide.stage)
    if (more := len(standing.running) - SHOWN_SLIDES) > 0:
        table.add_row(Text(f"and {more} more", style="dim"))
    return table


def stage_table(seconds: Mapping[str, float]) -> Table:
    """Draw the time that each stage took, summed over workers, with its share."""
    total = sum(seconds.values())
    table = Table("stage", "all workers, s", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage, spent in seconds.items():
        table.add_row(stage, f"{spent:,.1f}", f"{spent / total:.0%}" if total else "")
    return table
