"""The bar in the terminal, and the numbers of a batch of slides."""

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgcldff.core.tally import Tally
from tasks.progress import BatchProgress, bar, in_words
from tests.tasks.clock import Clock

SEGMENTED = Tally(passes=1, tiles=3, skipped=97, seconds={"read": 1.0, "model": 7.0})
TYPED = Tally(passes=1, cells={"lymphocyte": 2, "blast": 1}, seconds={"cells": 2.0})


def test_progress_is_shown_on_standard_error(capsys):
    with bar("priors") as progress:
        progress(1, 3)
        progress(3, 3)
    shown = capsys.readouterr()
    assert "priors" in shown.err
    assert "3/3" in shown.err
    assert shown.out == ""


def test_where_nothing_was_to_do_no_bar_is_shown(capsys):
    with bar("priors"):
        pass
    assert "priors" not in capsys.readouterr().err


def read(progress: BatchProgress, clock: Clock, slide: str, shards: int, passes: int, pass_s: float = 8.0) -> None:
    """Pass over shards of a slide that is running; typing takes a quarter of the time."""
    for done in range(passes):
        typing = done >= shards
        clock.now += pass_s / 4 if typing else pass_s
        progress.advance(slide, TYPED if typing else SEGMENTED)


def test_a_slide_is_segmented_then_typed_then_written(clock):
    progress = BatchProgress(1, clock)
    progress.begin("a", 4, Tally())
    told = []
    for passes in (0, 3, 1, 2, 2):
        for _ in range(passes):
            progress.advance("a", SEGMENTED)
        (slide,) = progress.status().running
        told.append((slide.stage, slide.share))
    assert told == [
        ("segmenting, 0 of 4 parts done", 0.0),
        ("segmenting, 3 of 4 parts done", 0.375),
        ("classifying, 0 of 4 parts done", 0.5),
        ("classifying, 2 of 4 parts done", 0.75),
        ("writing results", 1.0),
    ]


def test_what_is_done_beside_the_passes_is_named(clock):
    progress = BatchProgress(1, clock)
    assert progress.announce("a", "looking at the whole slide", 0)
    told = [progress.status().running[0].stage]
    progress.begin("a", 2, Tally())
    told.append(progress.status().running[0].stage)
    read(progress, clock, "a", 2, 4)
    for _ in range(2):
        progress.announce("a", "coarser label images", 3)
        progress.advance("a", Tally(seconds={"pyramid": 1.0}))
    assert not progress.announce("a", "coarser label images", 0)
    assert told == ["looking at the whole slide", "segmenting, 0 of 2 parts done"]
    assert progress.status().tally.seconds["pyramid"] == 2.0


def test_workers_are_idle_for_what_is_left_of_their_time():
    work = Tally(seconds={"read": 4.0, "network": 9.0}, busy=10.0, workers=frozenset("a"))
    both = work + Tally(seconds={"network": 1.0}, busy=1.0, workers=frozenset("b"))
    assert list(both.where_time_went(12.0).items()) == [("idle", 13.0), ("network", 10.0), ("read", 4.0)]
    assert Tally().where_time_went(5.0) == {}


def test_all_is_summed_over_slides_that_are_done_and_that_are_running(clock):
    progress = BatchProgress(3, clock)
    for slide, passes in (("a", 4), ("b", 3)):
        progress.begin(slide, 2, Tally())
        read(progress, clock, slide, 2, passes)
    progress.finish("a")
    status = progress.status()
    assert (status.done, status.skipped, [slide.slide for slide in status.running]) == (1, 0, ["b"])
    assert status.tally == Tally(7, 12, 388, {"lymphocyte": 6, "blast": 3}, {"read": 4.0, "model": 28.0, "cells": 6.0})
    assert status.cells == 9
    assert status.skipped_share == 0.97
    assert status.share == pytest.approx((1 + 3 / 4) / 3)
    assert status.elapsed_s == 8 + 8 + 2 + 2 + 8 + 8 + 2


def test_a_slide_that_is_begun_again_counts_once(clock):
    progress = BatchProgress(1, clock)
    progress.begin("a", 2, Tally())
    read(progress, clock, "a", 2, 3)
    committed = progress.status().tally
    progress.drop("a")
    assert progress.status().tally == Tally()
    progress.begin("a", 2, committed)
    progress.advance("a", TYPED)
    assert progress.finish("a").tally.passes == 4
    assert progress.status().tally == committed + TYPED
    assert progress.status().done == 1


def test_a_slide_set_aside_is_not_done_and_its_cells_do_not_count(clock):
    progress = BatchProgress(2, clock)
    progress.begin("a", 2, Tally())
    read(progress, clock, "a", 2, 4)
    progress.skip("a")
    progress.skip("a")
    progress.advance("a", TYPED)
    assert progress.finish("a") is None
    status = progress.status()
    assert (status.done, status.skipped, status.cells, status.share) == (0, 1, 0, 0.5)


def test_speed_and_time_left_are_unknown_at_first(clock):
    progress = BatchProgress(2, clock)
    assert (progress.status().tiles_per_s, progress.status().left_s) == (None, None)
    progress.begin("a", 10, Tally())
    read(progress, clock, "a", 10, 3)
    assert (progress.status().tiles_per_s, progress.status().left_s) == (None, None)
    read(progress, clock, "a", 10, 1)
    status = progress.status()
    assert status.tiles_per_s == pytest.approx(3 / 8)
    assert status.left_s == pytest.approx(8 * (6 + 10) + 2 * (10 + 10))


def test_what_former_runs_did_is_shown_and_is_not_speed(clock):
    former = Tally(9, 27, 873, {"blast": 5}, {"model": 1.0})
    progress = BatchProgress(1, clock)
    progress.begin("a", 10, former)
    assert progress.status().tally == former
    assert progress.status().tiles_per_s is None
    for tally, seconds in ((SEGMENTED, 8), (TYPED, 2), (TYPED, 2), (TYPED, 2)):
        clock.now += seconds
        progress.advance("a", tally)
    assert progress.status().tiles_per_s == pytest.approx(3 / 14)
    assert progress.status().left_s == pytest.approx(7 * 2)


def test_slides_that_were_complete_do_not_hide_how_slow_the_rest_is(clock):
    progress = BatchProgress(100, clock)
    for number in range(90):
        progress.begin(str(number), 4, Tally(passes=8, tiles=10))
        clock.now += 1
        progress.finish(str(number))
    progress.begin("new", 4, Tally())
    read(progress, clock, "new", 4, 4)
    assert progress.status().left_s == pytest.approx(4 * 2 + 9 * 4 * (8 + 2))


def test_the_speed_is_that_of_late(clock):
    progress = BatchProgress(1, clock)
    progress.begin("a", 1000, Tally())
    read(progress, clock, "a", 1000, 50, pass_s=100.0)
    assert progress.status().tiles_per_s == pytest.approx(3 / 100)
    read(progress, clock, "a", 1000, 800, pass_s=1.0)
    assert progress.status().tiles_per_s == pytest.approx(3, rel=0.01)


def test_a_measured_cost_of_typing_takes_the_place_of_the_assumed_one(clock):
    progress = BatchProgress(1, clock)
    progress.begin("a", 40, Tally())
    for _ in range(40):
        clock.now += 10
        progress.advance("a", Tally(1, 5, 0, {}, {"model": 10.0}))
    for _ in range(20):
        clock.now += 0.1
        progress.advance("a", Tally(1, seconds={"cells": 0.1}))
    for _ in range(300):
        progress.status()
        clock.now += 1
    assert progress.status().left_s == pytest.approx(20 * 0.1, abs=2)


def test_while_nothing_happens_the_time_left_grows_slowly(clock):
    progress = BatchProgress(1, clock)
    progress.begin("a", 100, Tally())
    read(progress, clock, "a", 100, 50)
    told = []
    for _ in range(3600):
        clock.now += 1
        told.append(progress.status().left_s)
    assert told[-1] > 2 * told[0]
    assert max(abs(after - before) for before, after in pairwise(told)) < 5


def batch(rng: random.Random, sizes: list[int]) -> list[tuple[float, float | None]]:
    """Read slides of so many shards and note every second how much time was left and what was told, s."""
    clock, noted = Clock(), []
    progress, at = BatchProgress(len(sizes), clock), clock.now
    for slide, shards in enumerate(sizes):
        progress.begin(str(slide), shards, Tally())
        for passes in range(2 * shards):
            at += (2.0 if passes >= shards else 8.0) * rng.lognormvariate(0, 0.7)
            while clock.now < at:
                clock.now += 1
                noted.append((clock.now, progress.status().left_s))
            progress.advance(str(slide), TYPED if passes >= shards else SEGMENTED)
        progress.finish(str(slide))
    return [(clock.now - then, told) for then, told in noted]


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_time_left_is_about_right(seed):
    noted = batch(random.Random(seed), [20] * 20)
    whole = noted[0][0]
    assert sum(told is None for _, told in noted) < 0.05 * whole
    assert all(0.5 * left < told < 2 * left for left, told in noted if 0.1 * whole < left < 0.9 * whole)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(10, 60), min_size=5, max_size=20))
def test_the_time_left_never_jumps(seed, sizes):
    """Among slides of like size; a slide many times as large as all before it cannot be foreseen."""
    known = [told for _, told in batch(random.Random(seed), sizes) if told is not None]
    assert all(abs(after - (before - 1)) <= max(10, 0.15 * before) for before, after in pairwise(known))


def test_threads_lose_nothing():
    progress = BatchProgress(8)

    def slide(name: str) -> None:
        progress.begin(name, 200, Tally())
        for passes in range(400):
            progress.advance(name, SEGMENTED if passes < 200 else TYPED)
            progress.status()
        progress.finish(name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(slide, "abcdefgh"))
    status = progress.status()
    assert (status.done, status.running, status.share) == (8, (), 1)
    assert status.tally.passes == 8 * 400
    assert status.tally.tiles == 8 * 600
    assert status.tally.cells == {"lymphocyte": 3200, "blast": 1600}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "5 s"),
        (43, "45 s"),
        (57.4, "55 s"),
        (57.5, "1 min"),
        (89, "1 min 30 s"),
        (3569, "59 min"),
        (3571, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86_399, "1 d 0 h"),
        (200_000, "2 d 7 h"),
    ],
)
def test_times_are_told_as_people_do(seconds, words):
    assert in_words(seconds) == words
