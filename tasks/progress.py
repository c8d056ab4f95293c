"""How far work has come: a bar for one task, and the numbers of a batch of slides."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sgcldff.core.tally import Tally
from sgcldff.core.wording import counted

Clock = Callable[[], float]
"""Tells seconds that never go back."""

RECENT_PASSES, RECENT_S = 32, 600.0
"""Speed is measured over at least as many passes over shards, and over as many seconds where those hold more."""
KNOWN_PASSES = 4
"""Passes from which on the speed counts as known."""
TYPING_COST = 0.25
"""Time that typing a shard takes over segmenting it, until both have been measured."""
SMOOTH_S = 30.0
"""Time within which the time left that is told follows a new estimate."""


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while the block runs; call the value with (done, total). Nothing done, no bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as shown:
        line = shown.add_task(title, total=None, visible=False)
        yield lambda done, total: shown.update(line, completed=done, total=total, visible=True)


@dataclass(frozen=True)
class SlideStanding:
    """Where a slide stands that is being read."""

    slide: str
    shards: int
    """Shards of the slide; each is passed over twice, to segment it and to type its cells."""
    tally: Tally
    """What is done, former runs included."""
    begun: float
    """When this run took the slide up, s."""

    @property
    def stage(self) -> str:
        """What is being done, and how far it is; the parts are shards."""
        if self.tally.passes >= 2 * self.shards:
            return "writing results"
        done = f"{self.passed} of {counted(self.shards, 'part')} done"
        return f"{'classifying' if self.typing else 'segmenting'}, {done}"

    @property
    def typing(self) -> bool:
        """Whether all shards are segmented."""
        return self.tally.passes >= self.shards

    @property
    def passed(self) -> int:
        """Shards that are through the stage."""
        return min(self.tally.passes - self.typing * self.shards, self.shards)

    @property
    def share(self) -> float:
        """Share of the passes that is done, in [0, 1]."""
        return min(1.0, self.tally.passes / max(1, 2 * self.shards))


@dataclass(frozen=True)
class Standing:
    """Where a batch stands."""

    slides: int
    """Slides of the batch."""
    done: int
    set_aside: int
    running: tuple[SlideStanding, ...]
    tally: Tally
    """Sum over the slides that are done or running."""
    elapsed_s: float
    tiles_per_s: float | None
    """Tiles that the network saw a second, of late; None until it is known."""
    left_s: float | None
    """Time left, s; None until it is known."""

    @property
    def share(self) -> float:
        """Share of the slides that is through, those that are running in part, in [0, 1]."""
        through = self.done + self.set_aside + sum(slide.share for slide in self.running)
        return min(1.0, through / max(1, self.slides))

    @property
    def cells(self) -> int:
        """Cells found."""
        return sum(self.tally.cells.values())

    @property
    def skipped_share(self) -> float:
        """Share of the tiles that the gate spared, in [0, 1]."""
        return self.tally.skipped / max(1, self.tally.tiles + self.tally.skipped)


class Mark(NamedTuple):
    """What this run had done at a moment."""

    at: float
    segmented: int
    typed: int
    tiles: int


class Pace:
    """Speed of late, and the time that is left at that speed; work of former runs is not part of it.

    Segmenting a shard and typing its cells take different times, so work is counted in shards to segment, and a shard
    to type is the part of one that the measured times say.
    """

    def __init__(self, start: float) -> None:
        self._segmented, self._typed = Tally(), Tally()
        self._marks = deque([Mark(start, 0, 0, 0)])
        self._told: tuple[float, float] | None = None

    def add(self, now: float, tally: Tally, typing: bool) -> None:
        """Count what a pass has done."""
        if typing:
            self._typed += tally
        else:
            self._segmented += tally
        self._marks.append(Mark(now, self._segmented.passes, self._typed.passes, self._segmented.tiles))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while len(self._marks) > RECENT_PASSES + 1 and self._marks[1].at < now - RECENT_S:
            self._marks.popleft()

    @property
    def typing_cost(self) -> float:
        """Time that typing a shard takes over segmenting it."""
        segment, typing = _mean_seconds(self._segmented), _mean_seconds(self._typed)
        return typing / segment if segment and typing else TYPING_COST

    def _work(self, segmented: int, typed: int) -> float:
        return segmented + typed * self.typing_cost

    def tiles_per_s(self, now: float) -> float | None:
        """Give the tiles a second of late, or None while too little is known."""
        first, last = self._marks[0], self._marks[-1]
        return (last.tiles - first.tiles) / (now - first.at) if self._known(now) else None

    def _known(self, now: float) -> bool:
        first, last = self._marks[0], self._marks[-1]
        return last.segmented + last.typed - first.segmented - first.typed >= KNOWN_PASSES and now > first.at

    def left(self, now: float, segment: int, typing: int) -> float | None:
        """Give the time left for passes of both kinds, s, or None while too little is known.

        What is told counts down and follows new estimates within `SMOOTH_S`, so that it does not jump.
        """
        if not self._known(now):
            return None
        first, last = self._marks[0], self._marks[-1]
        done = self._work(last.segmented - first.segmented, last.typed - first.typed)
        estimate = self._work(segment, typing) * (now - first.at) / done
        before, told = self._told or (now, estimate)
        counted = max(0.0, told - (now - before))
        self._told = (now, estimate + (counted - estimate) * math.exp((before - now) / SMOOTH_S))
        return self._told[1]


def _mean_seconds(tally: Tally) -> float:
    return sum(tally.seconds.values()) / max(1, tally.passes)


class BatchProgress:
    """Counts what is done of a batch of slides, from any number of threads.

    Parameters
    ----------
    slides
        Slides of the batch.
    clock
        Tells the time, s.
    """

    def __init__(self, slides: int, clock: Clock = time.monotonic) -> None:
        self._slides, self._clock, self._start = slides, clock, clock()
        self._lock = Lock()
        self._running: dict[str, SlideStanding] = {}
        self._set_aside: set[str] = set()
        self._done, self._done_tally = 0, Tally()
        self._planned: dict[str, int] = {}
        self._pace: Pace | None = None

    def begin(self, slide: str, shards: int, done: Tally) -> None:
        """Take a slide up, of which `done` was done by former runs."""
        with self._lock:
            self._running[slide] = SlideStanding(slide, shards, done, self._clock())
            self._planned[slide] = shards
            if self._pace is None and done.passes < 2 * shards:
                self._pace = Pace(self._clock())

    def advance(self, slide: str, tally: Tally) -> None:
        """Add a pass over a shard of a slide that is running."""
        with self._lock:
            before = self._running.get(slide)
            if before is None or self._pace is None:
                return
            self._running[slide] = replace(before, tally=before.tally + tally)
            self._pace.add(self._clock(), tally, before.typing)

    def finish(self, slide: str) -> SlideStanding | None:
        """Count a slide as done and say how it stood, unless it was set aside."""
        with self._lock:
            ended = self._running.pop(slide, None)
            if ended is not None:
                self._done, self._done_tally = self._done + 1, self._done_tally + ended.tally
            return ended

    def drop(self, slide: str) -> None:
        """Forget what was done of a slide that failed; it may be begun anew or be set aside."""
        with self._lock:
            self._running.pop(slide, None)

    def set_aside(self, slide: str) -> None:
        """Count a slide as set aside."""
        with self._lock:
            self._running.pop(slide, None)
            self._set_aside.add(slide)

    def standing(self) -> Standing:
        """Say where the batch stands now."""
        with self._lock:
            now, running = self._clock(), tuple(self._running.values())
            tally = sum((slide.tally for slide in running), self._done_tally)
            speed, left = (self._pace.tiles_per_s(now), self._left(now)) if self._pace else (None, None)
            counts = (self._slides, self._done, len(self._set_aside), running)
            return Standing(*counts, tally, now - self._start, speed, left)

    def _left(self, now: float) -> float | None:
        """Take slides that were not begun for as large as the others are on average."""
        assert self._pace is not None
        waiting = max(0, self._slides - self._done - len(self._set_aside) - len(self._running))
        unseen = round(waiting * sum(self._planned.values()) / len(self._planned))
        missing = [(slide.shards, 2 * slide.shards - slide.tally.passes) for slide in self._running.values()]
        segment = sum(max(0, passes - shards) for shards, passes in missing)
        typing = sum(min(shards, max(0, passes)) for shards, passes in missing)
        return self._pace.left(now, segment + unseen, typing + unseen)

    def elapsed(self, since: float) -> float:
        """Seconds since a moment of the clock."""
        return self._clock() - since


def in_words(seconds: float) -> str:
    """Tell a time in its two largest units, and the shorter the finer.

    Examples
    --------
    >>> in_words(43), in_words(765), in_words(7500), in_words(200_000)
    ('45 s', '13 min', '2 h 5 min', '2 d 7 h')
    """
    if seconds < 57.5:
        return f"{5 * max(1, round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def by_count(cells: Mapping[str, int]) -> list[tuple[str, int]]:
    """Sort types by the number of their cells, the most frequent first."""
    return sorted(cells.items(), key=lambda item: (-item[1], item[0]))
