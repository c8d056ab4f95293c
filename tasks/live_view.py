"""The live view of a batch of slides: on the terminal, as lines in a log, and as Prefect artifacts."""

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
from typing import Any, Self, cast
from uuid import UUID

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sgcldff.core.tally import Tally
from sgcldff.core.wording import counted
from tasks import metrics
from tasks.artifacts import client_errors
from tasks.progress import BatchProgress, BatchStatus, Clock, by_count, in_words
from tasks.stages import in_flow_run

logger = logging.getLogger(__name__)

FRAMES_PER_S = 2
"""How often the view on a terminal is redrawn."""
LINE_S = 30.0
"""Time between the lines in a log."""
ARTIFACT_S = 10.0
"""Time between updates of the artifacts."""
POLL_S = 1.0
"""Interval at which lines and updates that are due are written."""
SHUTDOWN_S = 5.0
"""Time that the end of a batch waits for a server that does not answer."""
SHOWN_SLIDES = 8
"""Largest number of running slides with a line of their own."""
PROGRESS_KEY, NUMBERS_KEY = "infer-progress", "infer-numbers"
"""Names of the artifacts."""


class BatchView:
    """Shows the progress of a batch of slides while the block runs; slides may report from any number of threads.

    On a terminal it is redrawn in place, elsewhere a line is written regularly; both also get a line for each slide
    that ends. Within a Prefect flow two artifacts show the same numbers; if the server is unavailable, only they are
    lost. It can be neither hashed nor pickled, and stays in one process.

    Parameters
    ----------
    slides
        Slides of the batch.
    timed
        Whether to show the time of each stage at the end.
    console
        Where to show it; by default standard error.
    clock
        Returns the time, s.

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
        self._progress, self._timed, self._clock = BatchProgress(slides, clock), timed, clock
        self._dashboard: str | None = None
        self._console = console or Console(stderr=True)
        self._line, self._update = RateLimit(LINE_S, clock), RateLimit(ARTIFACT_S, clock)
        self._artifacts, self._open = Artifacts(), ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(metrics.slides_counted(self.status))
            if in_flow_run():
                opened.enter_context(repeating(self.publish))
            if self._console.is_interactive:
                live = Live(
                    console=self._console,
                    get_renderable=lambda: screen(self.status(), self._dashboard),
                    refresh_per_second=FRAMES_PER_S,
                    redirect_stdout=sys.stdout.isatty(),
                )
                opened.enter_context(live)
            else:
                opened.enter_context(repeating(self.log))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        if self._timed and (seconds := self.stages()):
            total = sum(seconds.values())
            table = Table("stage", "all workers, s", "share")
            for column in table.columns[1:]:
                column.justify = "right"
            for stage, spent in seconds.items():
                table.add_row(stage, f"{spent:,.1f}", f"{spent / total:.0%}" if total else "")
            self._console.print(table)

    def dashboard_at(self, address: str) -> None:
        """Show the address of the workers' dashboard, once there are workers."""
        self._dashboard = self._artifacts.dashboard = address
        if not self._console.is_interactive:
            self._print(Text(f"Dask dashboard: {address}"))

    @contextmanager
    def slide(self, slide: str, shards: int, done: Tally | None = None) -> Iterator[Callable[[Tally], None]]:
        """Show a slide while the block runs; call the value with the work of each pass over a shard.

        A slide whose block ends with an error counts as waiting: it may be retried or skipped.

        Parameters
        ----------
        slide
            Name of the slide, unique in the batch.
        shards
            Shards of the slide. There are two passes over each.
        done
            Work that earlier runs have finished. It is shown, but does not count towards the speed.
        """

        def advance(tally: Tally) -> None:
            self._progress.advance(slide, tally)
            metrics.count_pass(tally)

        self._progress.begin(slide, shards, done or Tally())
        with ExitStack() as unfinished:
            unfinished.callback(self._progress.drop, slide)
            yield advance
            unfinished.pop_all()
        ended = self._progress.finish(slide)
        if ended is not None:
            tally, seconds = ended.tally, hours_minutes_seconds(self._clock() - ended.start)
            read = f"{tally.tiles:,} of {tally.tiles + tally.skipped:,} tiles read"
            self._print(Text(f"{slide}: done in {seconds}, {read}, {sum(tally.cells.values()):,} cells"))

    def announce(self, slide: str, doing: str, parts: int) -> None:
        """Show what is done with a slide before and after the passes over its shards, in how many parts (0: in one)."""
        if self._progress.announce(slide, doing, parts) and not self._console.is_interactive:
            self._print(Text(f"{slide}: {doing}"))

    def skip(self, slide: str, reason: str) -> None:
        """Count a slide as skipped, and show the reason."""
        self._progress.skip(slide)
        self._print(Text(f"{slide}: skipped: {' '.join(reason.split())}", style="yellow"))

    def status(self) -> BatchStatus:
        """Return the current status of the batch."""
        return self._progress.status()

    def stages(self) -> Mapping[str, float]:
        """Return where the time went by stage, the longest first, s, summed over workers."""
        status = self.status()
        return status.tally.where_time_went(status.elapsed_s)

    def log(self, last: bool = False) -> None:
        """Write a line if one is due, or the last one."""
        if self._line.due(last):
            self._print(Text(status_line(self.status())))

    def publish(self, last: bool = False) -> None:
        """Update the artifacts if that is due, or for the last time."""
        if self._update.due(last):
            self._artifacts.update(self.status())

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=not self._console.is_interactive, highlight=False)


class RateLimit:
    """Limits how often something is done."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds, self._clock, self._lock = seconds, clock, Lock()
        self._last = clock()

    def due(self, now: bool = False) -> bool:
        """Return whether enough time has passed, or `now` is set, and start the next interval if so."""
        with self._lock:
            at = self._clock()
            if not now and at - self._last < self._seconds:
                return False
            self._last = at
            return True


@contextmanager
def repeating(function: Callable[[bool], None]) -> Iterator[None]:
    """Call a function repeatedly while the block runs, and with True at its end.

    It runs in a separate thread with this thread's context, so that nothing waits for it.
    """
    over = Event()

    def repeat() -> None:
        while not over.wait(POLL_S):
            function(False)
        function(True)

    thread = Thread(target=copy_context().run, args=(repeat,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(SHUTDOWN_S)


class Artifacts:
    """The Prefect artifacts of a batch: the finished share, and a table of the numbers."""

    def __init__(self) -> None:
        self.dashboard: str | None = None
        self._progress: UUID | None = None
        self._table: UUID | None = None
        self._failing = False

    def update(self, status: BatchStatus) -> None:
        """Update both; if the server is unavailable this is logged once, and retried with the next update."""
        try:
            self._write(status)
            self._failing = False
        except client_errors() as error:
            self._progress = self._table = None
            if not self._failing:
                logger.warning("Prefect does not accept the progress of the slides, which continue: %s", error)
            self._failing = True

    def _write(self, status: BatchStatus) -> None:
        from prefect.artifacts import TableArtifact, create_progress_artifact, update_progress_artifact
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactUpdate

        percent, rows = 100 * status.share, numbers(status)
        text = status_line(status) + (f" [Dask dashboard]({self.dashboard})" if self.dashboard else "")
        if self._progress is None or self._table is None:
            table = TableArtifact(key=NUMBERS_KEY, description="Slides", table=rows)
            self._progress = cast(UUID, create_progress_artifact(percent, PROGRESS_KEY, text))
            self._table = cast(Any, table.create()).id
            return
        update_progress_artifact(self._progress, percent, text)
        get_client(sync_client=True).update_artifact(self._table, ArtifactUpdate(data=json.dumps(rows)))


def numbers(status: BatchStatus) -> list[dict[str, Any]]:
    """Return the numbers of a batch as rows of a table."""
    tally, speed, left = status.tally, status.tiles_per_s, status.left_s
    rows = {
        "slides": status.slides,
        "slides done": status.done,
        "slides skipped": status.skipped,
        "slides running": len(status.running),
        "tiles read": tally.tiles,
        "tiles skipped by the gate": tally.skipped,
        "tiles/s": None if speed is None else round(speed, 1),
        "time left": None if left is None else in_words(left),
        "cells": status.cells,
    }
    cells = {f"cells: {label}": count for label, count in by_count(tally.cells)}
    running = {slide.slide: slide.stage for slide in status.running}
    return [{"number": name, "value": value} for name, value in (rows | cells | running).items()]


def status_line(status: BatchStatus) -> str:
    """Describe the status of a batch in one line."""
    slides, tiles, cells, duration = status_texts(status)
    return f"{status.done}/{counted(status.slides, 'slide')} {slides}; {tiles}; {cells}; {duration}"


def status_texts(status: BatchStatus) -> tuple[str, str, str, str]:
    """Describe slides (after their number), tiles, cells and time."""
    tally, speed = status.tally, status.tiles_per_s
    slides = "done"
    slides += f", {status.skipped} skipped" if status.skipped else ""
    slides += f", {len(status.running)} running" if status.running else ""
    tiles = f"{tally.tiles:,} tiles read"
    tiles += f", {tally.skipped:,} skipped by the gate ({status.skipped_share:.1%})" if tally.skipped else ""
    tiles += "" if speed is None else f", {speed:,.1f} tiles/s"
    types = ", ".join(f"{label} {count:,}" for label, count in by_count(tally.cells))
    cells = counted(status.cells, "cell") + (f": {types}" if types else "")
    duration = f"{hours_minutes_seconds(status.elapsed_s)} so far"
    duration += "" if status.left_s is None or status.share == 1 else f", about {in_words(status.left_s)} left"
    return slides, tiles, cells, duration


def hours_minutes_seconds(seconds: float) -> str:
    """Write a duration as in `1:02:03`."""
    return str(timedelta(seconds=round(seconds)))


def screen(status: BatchStatus, dashboard: str | None) -> Group:
    """Draw the status of a batch: bars for the batch and its running slides, and the numbers."""
    bars = Table.grid(padding=(0, 2, 0, 0), expand=True)
    bars.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    bars.add_column(ratio=3)
    bars.add_column(no_wrap=True, min_width=20)
    bars.add_row(Text("All slides", style="bold"), ProgressBar(1.0, status.share), f"{status.share:.0%}")
    for slide in status.running[:SHOWN_SLIDES]:
        bars.add_row(Text(slide.slide), ProgressBar(1.0, slide.share), slide.stage)
    if (more := len(status.running) - SHOWN_SLIDES) > 0:
        bars.add_row(Text(f"and {more} more", style="dim"))
    slides, tiles, cells, duration = status_texts(status)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Slides", f"{status.done}/{status.slides:,} {slides}")
    table.add_row("Tiles", tiles.replace(" tiles read", " read", 1))
    table.add_row("Cells", re.sub(" cells?", "", cells, count=1))
    table.add_row("Time", duration)
    if dashboard:
        table.add_row("Dask", Text(dashboard, style=f"link {dashboard}", overflow="fold"))
    return Group(bars, table)
