"""Send the tasks of many large slides through a cluster with a model that does nothing: memory and overhead.

    python benchmarks/slides/scale.py [--slides 100] [--workers 2]

Scheduler, workers and client are processes of their own on 127.0.0.1. Tasks are those of `infer` on slides of
100,000 x 100,000 px at 0.25 um/px: a real plan travels with each, two passes over 256 shards a slide, two slides under
way at once, a client a slide. The workers only send back counts, so that all the time that passes is overhead; it is
set beside what the work would take at SECONDS_A_SHARD. Prints a Markdown table with resident memory along the way.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import ceil
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import psutil

from sgcldff.cluster import connect, gpu_share, load_once, loaded, map_bounded
from sgcldff.cluster.dask_settings import SCHEDULER_SETTINGS, environment, variable
from sgcldff.core.records import ModelRef, SlideRef
from sgcldff.core.settings import InferSpec, ModelSpec
from sgcldff.core.tally import Tally
from sgcldff.inference import Plan, ShardTask, Step
from sgcldff.inference.gate import Gate
from sgcldff.saliency.priors import build

SIDE_PX, MPP = 100_000, 0.25
SPEC, MODEL = InferSpec(), ModelSpec()
SHARDS = ceil(SIDE_PX * MPP / MODEL.mpp / SPEC.shard_px) ** 2
SECONDS_A_SHARD = (60 + 200) * 0.015
"""Both passes with the gate: about 60 tiles and 200 crops, 15 ms each on a core."""
LANES = 2
ROWS = 10
COUNTS = Tally(1, 60, 900, {"neutrophil": 120, "lymphocyte": 60, "monocyte": 20}, {"read": 0.2, "model": 1.0})


def plan_of(number: int) -> Plan:
    """Plan a slide that is not there, as far as a task carries it."""
    survey = np.random.default_rng(number).integers(0, 256, (256, 256, 3), np.uint8)
    slide = SlideRef(f"slide-{number:04d}", f"/slides/slide-{number:04d}.svs", f"{number:064x}", MPP, (SIDE_PX,) * 2, 9)
    gate = Gate.fit(SPEC.gate, survey, SPEC.gate.mpp)
    reference = ModelRef("sgcldff", "1", "0" * 16)
    return Plan(slide, MODEL, reference, SPEC, build(MODEL.prior).fit(survey), gate, f"results/{slide.id}")


def nothing() -> Tally:
    """Load the stub of a model."""
    return COUNTS


def run_shard(name: str, task: ShardTask) -> Tally:
    """Do nothing with a shard, as a worker."""
    return loaded(name)


class Watch:
    """Memory and processor time of client and scheduler as slides are done."""

    def __init__(self, slides: int, scheduler: psutil.Process) -> None:
        self.slides = slides
        self.processes = (psutil.Process(), scheduler)
        self.done = 0
        self.began = time.perf_counter()
        self.busy = self.processor_s()
        self.peaks = [0, 0]
        self.lock = threading.Lock()

    def processor_s(self) -> float:
        """Sum the processor time of both, s."""
        times = [process.cpu_times() for process in self.processes]
        return sum(spent.user + spent.system for spent in times)

    def slide_done(self) -> None:
        """Count a slide, and print a row now and then."""
        with self.lock:
            self.done += 1
            memory = [process.memory_info().rss for process in self.processes]
            self.peaks = [max(pair) for pair in zip(self.peaks, memory, strict=True)]
            if self.done % max(1, self.slides // ROWS) == 0 or self.done == self.slides:
                client, scheduler = (f"{size / 2**20:.0f} MiB" for size in memory)
                spent = f"{self.a_task_ms():.2f} ms | {self.processor_a_task_ms():.2f} ms"
                print(f"| {self.done} | {self.tasks:,} | {client} | {scheduler} | {spent} |", flush=True)

    @property
    def tasks(self) -> int:
        """Tasks done."""
        return 2 * SHARDS * self.done

    def a_task_ms(self) -> float:
        """Time a task, ms, the start of workers included."""
        return 1e3 * (time.perf_counter() - self.began) / self.tasks

    def processor_a_task_ms(self) -> float:
        """Processor time of client and scheduler a task, ms."""
        return 1e3 * (self.processor_s() - self.busy) / self.tasks


def read_slide(address: str, watch: Watch, number: int) -> None:
    """Send the tasks of a slide, as `infer` does."""
    plan = plan_of(number)
    with connect(address) as client:
        load_once(client, "stub", nothing)
        for step in (Step.SEGMENT, Step.TYPE):
            tasks = [ShardTask(plan, step, index) for index in range(SHARDS)]
            found = map_bounded(client, partial(run_shard, "stub"), tasks, resources=gpu_share(client))
            total = sum((tally for _, tally in found), start=Tally())
            assert total.passes == SHARDS
    watch.slide_done()


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and workers; gives the scheduler's address and process."""
    settings = {f"DASK_{variable(name)}": str(value) for name, value in SCHEDULER_SETTINGS.items()}
    env = os.environ | settings | environment() | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command, options = [sys.executable, "-m"], ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    start = partial(subprocess.Popen, env=env, stderr=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scheduler.json")
        known = ["--scheduler-file", str(file)]
        scheduler = start([*command, "distributed.cli.dask_scheduler", "--port", "0", *options, *known])
        nannies = start(
            [*command, "distributed.cli.dask_worker", "--nthreads", "1", "--nworkers", str(workers), *options, *known]
        )
        try:
            while not file.exists():
                time.sleep(0.1)
            yield json.loads(file.read_text())["address"], psutil.Process(scheduler.pid)
        finally:
            for process in (nannies, scheduler):
                process.terminate()
                process.wait()


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    size = len(pickle.dumps(ShardTask(plan_of(0), Step.SEGMENT, 0)))
    print(f"{asked.slides} slides of {SIDE_PX:,} x {SIDE_PX:,} px, {SHARDS} shards each, a task of {size:,} bytes\n")
    print("| slides | tasks | client | scheduler | a task | of the processor |\n|" + " --- |" * 6)
    with cluster(asked.workers) as (address, scheduler), ThreadPoolExecutor(LANES) as lanes:
        watch = Watch(asked.slides, scheduler)
        list(lanes.map(partial(read_slide, address, watch), range(asked.slides)))
        client, peak = (size / 2**20 for size in watch.peaks)
        spent, busy = watch.a_task_ms(), watch.processor_a_task_ms()
    work = 1e3 * SECONDS_A_SHARD / 2
    print(
        f"\npeaks: client {client:.0f} MiB, scheduler {peak:.0f} MiB; overhead {spent:.2f} ms a task, {busy:.2f} ms "
        f"of it processor time of client and scheduler, beside {work:.0f} ms of work: {spent / work:.2%}"
    )


if __name__ == "__main__":
    main()
