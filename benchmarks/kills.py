"""Kills while a slide is read: of the command, a worker, the scheduler, Prefect's temporary server, the whole group.

    python -m benchmarks.kills ROUNDS [KIND ...]

Every round kills at a random moment and then lets the same command finish. Counted are results of which any
byte differs from those of a quiet run, committed shards that were computed again, and processes that were left.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from flows.interruption import Interruption, exit_within_seconds
from sgcldff.cluster import LocalSpec, connect, load_once, map_bounded
from sgcldff.core.errors import SgcldffError
from sgcldff.inference import Runner, ShardTask, serially
from sgcldff.results.slide import read_slide_job
from tasks.slides import run_shard
from tests.damage.kept import files_digest, make_slide, slide_job
from tests.sgcldff.painted import ColourModel

SLOWLY_S = 0.15
"""Pause per tile batch, so that there is something to kill."""
LEFT_S = 30.0
"""Time after which a process counts as left."""
VARIES = ("summary.json", ".lock")


class SlowModel(ColourModel):
    """Takes its time."""

    def segment(self, rgb: Any, prior: Any) -> Any:
        """Wait, then segment."""
        time.sleep(SLOWLY_S)
        return super().segment(rgb, prior)


def command(kind: str, root: Path, out: Path, address: str) -> None:
    """Read the slide as a command does, with the processes that a kind of kill needs."""
    interruption = Interruption(Console(stderr=True))
    interruption.watch()
    try:
        with ExitStack() as opened:
            run: Runner = serially(SlowModel())
            if kind in ("worker", "group"):
                run = on(opened.enter_context(connect(LocalSpec(workers=1))))
            elif kind == "scheduler":
                run = on(opened.enter_context(connect(address)))
            (as_a_flow if kind == "server" else direct)(root, out, run)
    except SgcldffError as error:
        sys.stderr.write(f"{error}\n")
        exit_within_seconds(error.exit_code)
    finally:
        interruption.end()


def on(client: Any) -> Runner:
    """Run shards on a cluster."""
    load_once(client, "slow", SlowModel)

    def run(tasks: Iterable[ShardTask]) -> Iterator[Any]:
        for task, outcome in map_bounded(client, partial(run_shard, "slow", {}), tasks):
            if isinstance(outcome, SgcldffError):
                raise outcome
            yield task, outcome

    return run


def direct(root: Path, out: Path, run: Runner) -> None:
    """Read the slide."""
    read_slide_job(slide_job(root, out), run)


def as_a_flow(root: Path, out: Path, run: Runner) -> None:
    """Read the slide as a stage of a flow that a temporary server records."""
    from flows.environment import configure
    from flows.server import start_temporary_server

    configure(out.with_suffix(".workspace"))
    start_temporary_server()
    from prefect import flow

    from tasks.stages import prefect_failure, stage

    read = stage("read-slide", ["slides"])(direct)
    try:
        flow(lambda: read(root, out, run), name="kills", validate_parameters=False)()
    except Exception as error:
        raise prefect_failure(error) or error from error


def forked(log: Path, work: Callable[..., None], *given: Any) -> int:
    """Run a function in a process and session of its own, and return its id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        work(*given)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(code)


def finish(root: Path, out: Path, computed: Path) -> None:
    """Read on in one process, and note what is computed."""
    done = []

    def run(tasks: list[ShardTask]) -> Iterator[Any]:
        for task in tasks:
            done.append(f"{task.step}-{task.index:06d}")
            yield task, task(ColourModel())

    direct(root, out, run)
    computed.write_text(json.dumps(done))


def committed(out: Path) -> set[str]:
    """Name the shards that have passed a step."""
    files = (out / "slide" / "shards").rglob("*-0*.*")
    return {file.stem for file in files if not file.name.startswith((".", "written"))}


def kill(kind: str, child: int, scheduler: int | None) -> list[psutil.Process]:
    """Kill, and return all processes that there were."""
    family = [psutil.Process(child), *psutil.Process(child).children(recursive=True)]
    if kind == "worker":
        next(one for one in family if "spawn_main" in "".join(one.cmdline())).kill()
    elif kind == "server":
        next(one for one in family if "create_app" in "".join(one.cmdline())).kill()
    elif kind == "scheduler":
        os.kill(scheduler or 0, signal.SIGKILL)
    elif kind == "group":
        os.killpg(child, random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]))
    else:
        os.kill(child, signal.SIGKILL)
    return family


def round_of(kind: str, root: Path, place: Path, quiet: str) -> dict[str, Any]:
    """Kill once, finish, and compare."""
    out, log = place / "out", place / "log"
    place.mkdir()
    with ExitStack() as opened:
        scheduler, address = None, ""
        if kind == "scheduler":
            scheduler, address = scheduler_with_worker(place, opened)
        child = forked(log, command, kind, root, out, address)
        wanted = random.randint(1, 16)
        while len(committed(out)) < wanted and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.01)
        family = kill(kind, child, scheduler)
        began = time.monotonic()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds = time.monotonic() - began
        _, left = psutil.wait_procs([one for one in family if one.pid != child], LEFT_S)
    before = committed(out)
    again = forked(log, finish, root, out, place / "computed")
    assert os.waitpid(again, 0)[1] == 0, log.read_text()
    computed = set(json.loads((place / "computed").read_text()))
    return {
        "kind": kind, "code": code, "seconds": round(seconds, 1), "committed": len(before),
        "again": len(before & computed), "same": files_digest(out / "slide", VARIES) == quiet, "left": len(left),
        "lines": len(log.read_text().splitlines()), "tracebacks": log.read_text().count("Traceback"),
    }  # fmt: skip


def scheduler_with_worker(place: Path, opened: ExitStack) -> tuple[int, str]:
    """Start a scheduler and a worker."""
    file, started = place / "scheduler.json", []
    for part in (["dask_scheduler", "--port", "0"], ["dask_worker", "--nthreads", "1"]):
        words = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
        running = subprocess.Popen([sys.executable, "-m", f"distributed.cli.{part[0]}", *part[1:], *words],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        opened.callback(running.wait)
        opened.callback(running.terminate)
        started.append(running.pid)
        while not file.exists():
            time.sleep(0.05)
    return started[0], json.loads(file.read_text())["address"]


def main(rounds: int, *kinds: str) -> None:
    """Kill in turn and print each round, and the sums."""
    kinds = kinds or ("command", "worker", "scheduler", "server", "group")
    sums: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="sgcldff-kills-") as temporary:
        root = Path(temporary)
        made = forked(root / "log", make_slide, root)
        assert os.waitpid(made, 0)[1] == 0, (root / "log").read_text()
        quiet = files_digest(root / "out" / "slide", VARIES)
        for number in range(rounds):
            found = round_of(kinds[number % len(kinds)], root, root / str(number), quiet)
            print(json.dumps(found), flush=True)
            sums.update(rounds=1, again=found["again"], left=found["left"], differing=not found["same"])
    print(json.dumps(sums))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
