"""Progress: a bar for one task, and the numbers of a batch of slides."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBars

from sgcldff.core.tally import Progress, Tally
from sgcldff.core.wording import counted

Clock = Callable[[], float]
"""Returns monotonic seconds."""

RECENT_PASSES, RECENT_S = 200, 600.0
"""Speed is measured over at least this many passes over shards, or over this time if it contains more. Passes differ
greatly: over 32 of them, the remaining time can come out at half or twice what it is."""
MIN_PASSES = 4
"""Passes after which the speed counts as known."""
CLASSIFY_COST = 0.25
"""Time to classify the cells of a shard, relative to segmenting it, until both have been measured."""
SMOOTHING_S = 30.0
"""Time constant with which the remaining time follows new estimates."""


@contextmanager
def bar(title: str) -> Iterator[Progress]:
    """Show a bar on standard error while the block runs; call the value with (done, total), or there is no bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        line = progress.add_task(title, total=None, visible=False)
        yield lambda done, total: progress.update(line, completed=done, total=total, visible=True)


@dataclass(frozen=True)
class SlideStatus:
    """Progress of a slide that is being read."""

    slide: str
    shards: int
    """Shards of the slide; there are two passes over each, to segment it and to classify its cells."""
    tally: Tally
    """Finished work, including that of earlier runs."""
    start: float
    """When this run started the slide, s."""
    doing: str = ""
    """What is done beside the passes; empty during those."""
    parts: int = 0
    """Parts of that; 0 where it has none."""
    parts_done: int = 0

    @property
    def stage(self) -> str:
        """The current stage with its progress; the parts are shards."""
        if self.doing:
            return self.doing + (f", {self.parts_done} of {counted(self.parts, 'part')} done" if self.parts else "")
        if self.tally.passes >= 2 * self.shards:
            return "writing results"
        done = min(self.tally.passes - self.classifying * self.shards, self.shards)
        name = "classifying" if self.classifying else "segmenting"
        return f"{name}, {done} of {counted(self.shards, 'part')} done"

    @property
    def classifying(self) -> bool:
        """Whether all shards are segmented."""
        return self.tally.passes >= self.shards

    @property
    def share(self) -> float:
        """Share of the passes that is done, in [0, 1]."""
        return min(1.0, self.tally.passes / max(1, 2 * self.shards))


@dataclass(frozen=True)
class BatchStatus:
    """Progress of a batch."""

    slides: int
    """Slides of the batch."""
    done: int
    skipped: int
    running: tuple[SlideStatus, ...]
    tally: Tally
    """Sum over the slides that are done or running."""
    elapsed_s: float
    tiles_per_s: float | None
    """Recent speed of the network; None until it is known."""
    left_s: float | None
    """Remaining time, s; None until it is known."""

    @property
    def share(self) -> float:
        """Share of the slides that is finished, counting running ones in part, in [0, 1]."""
        finished = self.done + self.skipped + sum(slide.share for slide in self.running)
        return min(1.0, finished / max(1, self.slides))

    @property
    def cells(self) -> int:
        """Cells found."""
        return sum(self.tally.cells.values())

    @property
    def skipped_share(self) -> float:
        """Share of the tiles that the gate skipped, in [0, 1]."""
        return self.tally.skipped / max(1, self.tally.tiles + self.tally.skipped)


class Checkpoint(NamedTuple):
    """Work done by this run at a point in time."""

    at: float
    segmented: int
    classified: int
    tiles: int


class Pace:
    """Recent speed, and the remaining time at that speed; work of earlier runs does not count.

    Segmenting a shard and classifying its cells take different times, so work is measured in shards to segment, and
    classification is converted by the ratio of the measured times.
    """

    def __init__(self, start: float) -> None:
        self._segmented, self._classified = Tally(), Tally()
        self._recent = deque([Checkpoint(start, 0, 0, 0)])
        self._last_estimate: tuple[float, float] | None = None

    def add(self, now: float, tally: Tally, classifying: bool) -> None:
        """Count the work of a pass."""
        if classifying:
            self._classified += tally
        else:
            self._segmented += tally
        passes = self._segmented.passes, self._classified.passes
        self._recent.append(Checkpoint(now, *passes, self._segmented.tiles))
        while len(self._recent) > RECENT_PASSES + 1 and self._recent[1].at < now - RECENT_S:
            self._recent.popleft()

    def estimate(self, now: float, segment: int, classify: int) -> tuple[float | None, float | None]:
        """Return the tiles per second, and the remaining time for passes of both kinds, s; None until they are known.

        The remaining time counts down and follows new estimates with the time constant `SMOOTHING_S`, so that it does
        not jump.
        """
        first, last = self._recent[0], self._recent[-1]
        segmented, classified = last.segmented - first.segmented, last.classified - first.classified
        if segmented + classified < MIN_PASSES or now <= first.at:
            return None, None
        segment_s, classify_s = (
            sum(kind.seconds.values()) / max(1, kind.passes) for kind in (self._segmented, self._classified)
        )
        cost = classify_s / segment_s if segment_s and classify_s else CLASSIFY_COST
        estimate = (segment + classify * cost) * (now - first.at) / (segmented + classified * cost)
        before, previous = self._last_estimate or (now, estimate)
        expected = max(0.0, previous - (now - before))
        left = estimate + (expected - estimate) * math.exp((before - now) / SMOOTHING_S)
        self._last_estimate = (now, left)
        return (last.tiles - first.tiles) / (now - first.at), left


class BatchProgress:
    """Counts the finished work of a batch of slides; thread-safe.

    Parameters
    ----------
    slides
        Slides of the batch.
    clock
        Returns the time, s.
    """

    def __init__(self, slides: int, clock: Clock = time.monotonic) -> None:
        self._slides, self._clock, self._start = slides, clock, clock()
        self._lock = Lock()
        self._running: dict[str, SlideStatus] = {}
        self._skipped: set[str] = set()
        self._done, self._done_tally = 0, Tally()
        self._planned: dict[str, int] = {}
        self._pace: Pace | None = None

    def begin(self, slide: str, shards: int, done: Tally) -> None:
        """Start a slide, of which earlier runs have finished `done`."""
        with self._lock:
            before = self._running.get(slide)
            self._running[slide] = SlideStatus(slide, shards, done, before.start if before else self._clock())
            self._planned[slide] = shards
            if self._pace is None and done.passes < 2 * shards:
                self._pace = Pace(self._clock())

    def announce(self, slide: str, doing: str, parts: int) -> bool:
        """Say what is done with a slide before and after the passes over its shards; return whether that is new."""
        with self._lock:
            before = self._running.get(slide) or SlideStatus(slide, 0, Tally(), self._clock())
            self._running[slide] = replace(before, doing=doing, parts=parts, parts_done=0)
            return doing != before.doing

    def advance(self, slide: str, tally: Tally) -> None:
        """Add a pass over a shard of a running slide, or a part of what is done beside them."""
        with self._lock:
            before = self._running.get(slide)
            if before is None:
                return
            done = before.parts_done + bool(before.parts)
            self._running[slide] = replace(before, tally=before.tally + tally, parts_done=min(before.parts, done))
            if self._pace is not None and tally.passes:
                self._pace.add(self._clock(), tally, before.classifying)

    def finish(self, slide: str) -> SlideStatus | None:
        """Count a slide as done and return its final status, unless it was skipped."""
        with self._lock:
            ended = self._running.pop(slide, None)
            if ended is not None:
                self._done, self._done_tally = self._done + 1, self._done_tally + ended.tally
            return ended

    def drop(self, slide: str) -> None:
        """Forget the work on a slide that failed; it may be retried or skipped."""
        with self._lock:
            self._running.pop(slide, None)

    def skip(self, slide: str) -> None:
        """Count a slide as skipped."""
        with self._lock:
            self._running.pop(slide, None)
            self._skipped.add(slide)

    def status(self) -> BatchStatus:
        """Return the current status of the batch."""
        with self._lock:
            now, running = self._clock(), tuple(self._running.values())
            tally = sum((slide.tally for slide in running), self._done_tally)
            speed, left = self._pace.estimate(now, *self._missing()) if self._pace else (None, None)
            counts = (self._slides, self._done, len(self._skipped), running)
            return BatchStatus(*counts, tally, now - self._start, speed, left)

    def _missing(self) -> tuple[int, int]:
        """Return the passes left to segment and to classify; waiting slides count as the average of the others."""
        waiting = max(0, self._slides - self._done - len(self._skipped) - len(self._running))
        waiting_shards = round(waiting * sum(self._planned.values()) / max(1, len(self._planned)))
        missing = [(slide.shards, 2 * slide.shards - slide.tally.passes) for slide in self._running.values()]
        segment = sum(max(0, passes - shards) for shards, passes in missing)
        classify = sum(min(shards, max(0, passes)) for shards, passes in missing)
        return segment + waiting_shards, classify + waiting_shards


def in_words(seconds: float) -> str:
    """Write a duration in its one or two largest units, rounded.

    Examples
    --------
    >>> in_words(43), in_words(205), in_words(765), in_words(7500), in_words(200_000)
    ('45 s', '3 min 30 s', '13 min', '2 h 5 min', '2 d 7 h')
    """
    if seconds < 57.5:
        return f"{5 * max(1, round(seconds / 5))} s"
    if seconds < 285:
        minutes, half = divmod(max(2, round(seconds / 30)), 2)
        return f"{minutes} min 30 s" if half else f"{minutes} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def by_count(cells: Mapping[str, int]) -> list[tuple[str, int]]:
    """Sort types by the number of their cells, the most frequent first."""
    return sorted(cells.items(), key=lambda item: (-item[1], item[0]))
