"""Runs on a real Prefect server: their names, logs and artifacts, and how they end when their process does."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest
from PIL import Image

from flows.recorded import recorded_flow
from sgcldff.data.adapters import Source
from tasks.artifacts import link_to, show_image, show_markdown
from tasks.stages import stage
from tests.servers import web
from tests.terminal import outside

WALK = """
import signal, sys, time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from flows.recorded import recorded_flow
from tasks.stages import stage

@stage("look", ["slides"], subject=lambda place: "at it")
def look(place):
    print("looking", flush=True)
    time.sleep(600)

@recorded_flow("walk", "places")
def walk(places: list[str]):
    ThreadPoolExecutor(1).submit(copy_context().run, look, places[0])
    time.sleep(600)

signal.signal(signal.SIGINT, signal.default_int_handler)  # programs that a shell starts with & ignore Ctrl-C
walk(sys.argv[1:])
"""


@stage("draw", ["data"], subject=lambda folder: folder.name)
def draw(folder: Path) -> None:
    logging.getLogger("sgcldff.test").info("drawn with care")
    Image.new("RGBA", (3000, 40), (200, 0, 0, 255)).save(folder / "a.png")
    show_image(folder / "a.png", key="drawing")
    show_markdown(f"Report: {link_to(folder / 'report 1.html')}", key="report")


@recorded_flow("draw", "sources")
def draw_all(sources: list[Source]) -> None:
    for source in sources:
        draw(Path(source.folder))


def of_server(server: str, kind: str, **conditions: object) -> list[dict]:
    answer = web.post(f"{server}/{kind}/filter", json=conditions)
    return answer.raise_for_status().json()


def run_named(server: str, name: str) -> dict:
    (run,) = of_server(server, "flow_runs", flow_runs={"name": {"any_": [name]}})
    return run


def tasks_of(server: str, run: dict) -> dict[str, str]:
    found = of_server(server, "task_runs", flow_runs={"id": {"any_": [run["id"]]}})
    return {task["name"]: task["state_type"] for task in found}


@pytest.fixture
def walker(server, tmp_path):
    """Give the function that starts a run in a process of its own and returns once a task is under way."""
    started = []

    def start(place: str) -> subprocess.Popen:
        own = {"PREFECT_API_URL": server, "PREFECT_HOME": str(tmp_path / "prefect")}
        command = [sys.executable, "-c", WALK, place]
        process = subprocess.Popen(command, env=outside() | own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started.append(process)
        assert process.stdout.readline() == b"looking\n"
        run = run_named(server, f"walk {Path(place).name}")
        while tasks_of(server, run) != {"look at it": "RUNNING"}:
            assert process.poll() is None
            time.sleep(0.05)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_run_is_named_after_its_input_and_shows_no_file_that_a_browser_refuses(server, tmp_path, monkeypatch):
    folder = tmp_path / "ward 7"
    folder.mkdir()
    monkeypatch.setenv("SGCLDFF_SERVED", f"{tmp_path}=https://files.example.org/lab/")
    draw_all([Source("auto", str(folder))])
    run = run_named(server, "draw ward 7")
    assert tasks_of(server, run) == {"draw ward 7": "COMPLETED"}
    shown = {one["key"]: one["data"] for one in of_server(server, "artifacts", flow_runs={"id": {"any_": [run["id"]]}})}
    assert "](https://files.example.org/lab/ward%207/report%201.html)" in shown["report"]
    assert shown["drawing"].startswith("data:image/jpeg;base64,")
    assert "file:" not in json.dumps(shown)
    monkeypatch.delenv("SGCLDFF_SERVED")
    assert link_to(folder / "report 1.html").startswith(f"`{folder}/report 1.html` on ")


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_what_is_interrupted_does_not_stay_running(server, walker, number):
    place = f"/slides/{number.name}.svs"
    process = walker(place)
    process.send_signal(number)
    run = run_named(server, f"walk {number.name}.svs")
    while run["state_type"] == "RUNNING" or "RUNNING" in tasks_of(server, run).values():
        time.sleep(0.05)
        run = run_named(server, run["name"])
    assert (run["state_type"], tasks_of(server, run)) == ("CRASHED", {"look at it": "CRASHED"})


def test_what_is_killed_is_ended_by_the_next_run_and_what_lives_is_not(server, walker):
    killed = walker("/slides/killed.svs")
    killed.send_signal(SIGKILL)
    killed.wait()
    assert run_named(server, "walk killed.svs")["state_type"] == "RUNNING"
    walker("/slides/alive.svs")
    walker("/slides/next.svs")
    run = run_named(server, "walk killed.svs")
    assert (run["state_type"], run["state"]["message"]) == ("CRASHED", "Its process was killed.")
    assert tasks_of(server, run) == {"look at it": "CRASHED"}
    assert run_named(server, "walk alive.svs")["state_type"] == "RUNNING"
