"""What a user sees of a batch of slides: on a terminal, in a log, in Prefect."""

import io
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from prefect import flow, task
from prefect.artifacts import Artifact
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from sgcldff.core.tally import Tally
from tasks import live_view
from tasks.live_view import NUMBERS_KEY, PROGRESS_KEY, Artifacts, BatchView, numbers, screen, status_line
from tests.tasks.clock import Clock

SEGMENTED = Tally(passes=1, tiles=30, skipped=970, seconds={"read": 1.0, "model": 3.0})
TYPED = Tally(passes=1, cells={"lymphocyte": 2, "blast": 1}, seconds={"cells": 1.0})
DASHBOARD = "http://127.0.0.1:8787/status"


@pytest.fixture
def written() -> Console:
    """Give a console that writes into a file, as a log does."""
    return Console(file=io.StringIO(), width=80)


def terminal(width: int) -> Console:
    """Give a console that is a terminal to the view."""
    return Console(file=io.StringIO(), width=width, height=24, force_terminal=True, force_interactive=True, record=True)


def read(progress, clock: Clock, shards: int, passes: int) -> None:
    """Pass over shards of a slide, a minute each to segment and a quarter of that to type."""
    for done in range(passes):
        clock.now += 15 if done >= shards else 60
        progress(TYPED if done >= shards else SEGMENTED)


def drawn(view: BatchView, width: int) -> list[str]:
    """Give the lines of the view at a terminal's width."""
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(screen(view.status(), DASHBOARD))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_the_view_shows_all_that_counts(clock, written, width):
    with BatchView(10, console=written, clock=clock) as view:
        view.dashboard_at(DASHBOARD)
        with view.slide("smear-1", 4) as progress:
            read(progress, clock, 4, 8)
        view.skip("smear-2", "corrupt")
        with view.slide("smear-3", 8) as progress, view.slide("smear-4 " + "x" * 200, 20) as other:
            read(other, clock, 20, 2)
            read(progress, clock, 8, 11)
            lines = drawn(view, width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert re.search(r"^All slides .* 27%$", text, re.M)
    assert re.search(r"^smear-3 .* classifying, 3 of 8 parts done$", text, re.M)
    assert re.search(r"^smear-4 x+… .* segmenting, 2 of 20 parts done$", text, re.M)
    assert "Slides  1/10 done, 1 skipped, 2 running" in text
    assert re.search(r"^Tiles   420 read, 13,580 skipped by the gate \(97.0%\), 0.4 tiles/s$", text, re.M)
    assert "Cells   21: lymphocyte 14, blast 7" in text
    assert re.search(r"^Time    0:15:45 so far, about 1 h \d+ min left$", text, re.M)
    assert f"Dask    {DASHBOARD}" in text


def test_a_terminal_is_drawn_on_while_lines_for_ended_slides_stay_above(clock):
    console = terminal(80)
    with BatchView(2, console=console, clock=clock) as view:
        with view.slide("[red]smear[/red]", 2) as progress:
            read(progress, clock, 2, 4)
        view.skip("smear-2", "the tile at\n(0, 8192) is corrupt")
    text = console.export_text()
    assert "[red]smear[/red]: done in 0:02:30, 60 of 2,000 tiles read, 6 cells" in text
    assert "smear-2: skipped: the tile at (0, 8192) is corrupt" in text
    last = text[text.rindex("All slides") :]
    assert re.match(r"All slides .* 100%", last)
    assert "Slides  1/2 done, 1 skipped" in last
    assert "left" not in last
    assert "Dask" not in text


def test_many_running_slides_leave_room_on_the_screen(clock, written):
    with BatchView(50, console=written, clock=clock) as view, ExitStack() as running:
        for number in range(12):
            running.enter_context(view.slide(f"smear-{number}", 4))
        lines = drawn(view, 80)
    assert len(lines) <= 20
    assert "and 4 more" in "\n".join(lines)


def test_a_log_gets_a_line_now_and_then_and_no_control_characters(clock, written):
    with BatchView(2, console=written, clock=clock) as view:
        view.dashboard_at(DASHBOARD)
        with view.slide("smear-1", 40) as progress:
            for _ in range(40):
                clock.now += 10
                progress(SEGMENTED)
                view.log()
        view.skip("smear-2", "corrupt")
    text = written.file.getvalue()
    lines = text.splitlines()
    assert lines[0] == f"Dask dashboard: {DASHBOARD}"
    assert len(lines) == 1 + 40 * 10 // 30 + 3
    assert lines[1].startswith("0/2 slides done, 1 running; 90 tiles read, 2,910 skipped by the gate (97.0%); 0 cells;")
    assert lines[-3] == "smear-1: done in 0:06:40, 1,200 of 40,000 tiles read, 0 cells"
    assert lines[-2] == "smear-2: skipped: corrupt"
    assert lines[-1].startswith("1/2 slides done, 1 skipped; 1,200 tiles read")
    assert lines[-1].endswith("; 0:06:40 so far")
    assert text.isascii()
    assert text.replace("\n", "").isprintable()


def test_a_slide_that_failed_may_be_read_again(clock, written):
    def fail(view: BatchView) -> None:
        with view.slide("smear", 2) as progress:
            read(progress, clock, 2, 1)
            raise OSError("reset")

    with BatchView(1, console=written, clock=clock) as view:
        with pytest.raises(OSError, match="reset"):
            fail(view)
        assert (view.status().done, view.status().running) == (0, ())
        with view.slide("smear", 2, SEGMENTED) as progress:
            read(progress, clock, 1, 3)
    assert (view.status().done, view.status().tally.passes) == (1, 4)


def test_the_time_of_each_stage_is_shown_when_asked_for(clock, written):
    with BatchView(1, timed=True, console=written, clock=clock) as view, view.slide("smear", 2) as progress:
        read(progress, clock, 2, 4)
    assert list(view.stages().items()) == [("model", 6.0), ("read", 2.0), ("cells", 2.0)]
    assert re.search(r"model\W+6\.0\W+60%", written.file.getvalue())


def test_threads_share_a_view():
    console = terminal(80)

    def slide(view: BatchView, name: str) -> None:
        with view.slide(name, 50) as progress:
            for passes in range(100):
                progress(SEGMENTED if passes < 50 else TYPED)

    with BatchView(16, console=console) as view, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: slide(view, f"smear-{number}"), range(16)))
    assert view.status().tally.tiles == 16 * 50 * 30
    assert view.status().cells == 16 * 50 * 3
    assert len(re.findall(r"smear-\d+: done in", console.export_text())) == 16


def test_outside_a_flow_nothing_is_published(clock, written, monkeypatch):
    monkeypatch.setattr(Artifacts, "update", lambda *_: pytest.fail("published"))
    monkeypatch.setattr(live_view, "POLL_S", 0.001)
    with BatchView(1, console=written, clock=clock) as view, view.slide("smear", 1):
        clock.now += 100
    assert "1/1 slide done" in written.file.getvalue()


@task(cache_policy=NO_CACHE)
def read_in_a_task(view: BatchView, name: str) -> None:
    """Read a slide, as the tasks of `infer` do."""
    with view.slide(name, 2) as progress:
        for passes in range(4):
            progress(SEGMENTED if passes < 2 else TYPED)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def batch_flow(view: BatchView) -> tuple[Artifact, Artifact]:
    """Read two slides of three, and look at the artifacts meanwhile."""
    with view:
        for future in [read_in_a_task.submit(view, name) for name in ("smear-1", "smear-2")]:
            future.result()
        view.publish(last=True)
        found = Artifact.get(PROGRESS_KEY), Artifact.get(NUMBERS_KEY)
        view.skip("smear-3", "corrupt")
    return found


@pytest.mark.slow
def test_prefect_has_the_same_numbers(clock, written):
    from prefect.testing.utilities import prefect_test_harness

    view = BatchView(3, console=written, clock=clock)
    view.dashboard_at(DASHBOARD)
    with prefect_test_harness(server_startup_timeout=60):
        before, numbers_before = flow(batch_flow.fn, task_runner=batch_flow.task_runner, validate_parameters=False)(
            view
        )
        progress, table = Artifact.get(PROGRESS_KEY), Artifact.get(NUMBERS_KEY)
    told = {row["number"]: row["value"] for row in json.loads(numbers_before.data)}
    assert before.data == pytest.approx(200 / 3)
    assert (told["slides"], told["slides done"], told["tiles read"], told["cells: lymphocyte"]) == (3, 2, 120, 8)
    assert progress.data == 100
    assert progress.description == f"{status_line(view.status())} [Dask dashboard]({DASHBOARD})"
    assert json.loads(table.data) == numbers(view.status())
    assert (progress.id, table.id) == (before.id, numbers_before.id), "updates made new artifacts"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Artifact creation outside")
def test_a_server_that_is_away_is_told_once_and_fails_nothing(clock, written, caplog):
    view = BatchView(1, console=written, clock=clock)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.now += 60
            view.publish()
    assert len([record for record in caplog.records if record.name == live_view.__name__]) == 1


def test_artifacts_are_brought_up_to_date_every_few_seconds_at_most(clock, written, monkeypatch):
    updates = []
    monkeypatch.setattr(Artifacts, "update", lambda _, standing: updates.append(standing.elapsed_s))
    view = BatchView(1, console=written, clock=clock)
    for _ in range(100):
        clock.now += 1
        view.publish()
    assert updates == list(range(10, 101, 10))
