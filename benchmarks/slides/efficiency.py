"""What reading a slide costs beyond the network itself.

    python benchmarks/slides/efficiency.py pipeline MODEL SLIDE [--engine auto] [--precision auto]
    python benchmarks/slides/efficiency.py workers MODEL SLIDE    # two workers over one, beside two bare processes
    python benchmarks/slides/efficiency.py gate MODEL SLIDE       # tiles that are read, cells that are kept
    python benchmarks/slides/efficiency.py memory MODEL SLIDE     # peaks of 8k and 64k slides laid of SLIDE

MODEL is a folder that training or the registry wrote, SLIDE one of mosaics.py's. `pipeline` times in one process, in
turn: the bare runtime, on as many tiles as the slide has, which lie in memory; the first pass, to committed labels;
both passes, to committed cells. All shares are of one round, and the table has medians. `memory` reads with a network
that costs nothing, so that what is measured is all that is not the network.
"""

import argparse
import functools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import tifffile
from ours import load, read
from rivals import Contender, race

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import CELL_UM, Engine, GateSpec, InferSpec, Precision
from sgcldff.evaluation.matching import match_cells
from sgcldff.inference import Tally, plan_slide, read_cells, run_plan, serially
from sgcldff.models.checkpoint import SPEC_FILE, read_spec
from sgcldff.models.runtimes import Runtime, resolve
from sgcldff.slides import ScaledSlide, open_slide

HERE = Path(__file__).parent
SIDES = (8192, 65536)
LEVELS = (1, 4, 16)
NO_GATE = GateSpec(enabled=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("model", type=Path)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--engine", type=Engine, default=Engine.AUTO)
    parser.add_argument("--precision", type=Precision, default=Precision.AUTO)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    engine, precision = resolve(args.engine, args.precision)
    spec = InferSpec(gate=NO_GATE, engine=engine, precision=precision)
    print(f"{args.slide}, {engine} {precision}, {cv2.getNumThreads()} threads\n")
    WHAT[args.what](args.model, args.slide, spec, args.rounds)


def pipeline(model: Path, slide: Path, spec: InferSpec, rounds: int) -> None:
    runtime = load(model, None, spec.engine, spec.precision)
    contenders = {
        "network alone": functools.partial(bare, runtime, slide, spec),
        "labels": functools.partial(labels, runtime, model, slide, spec),
        "labels and cells": functools.partial(labels, runtime, model, slide, spec, True),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    tallies = {}
    for number in range(rounds):
        for name in sorted(contenders, key=lambda name: (list(contenders).index(name) + number) % len(contenders)):
            tallies[name], seconds = contenders[name]()
            times[name].append(seconds)
    print("| | tiles/s, network alone = 1 |\n| --- | --- |")
    for name, taken in times.items():
        print(f"| {name} | {np.median(np.divide(times['network alone'], taken)):.3f} |")
    spent = tallies["labels and cells"].seconds
    whole = times["labels and cells"][-1]
    print("\n| stage | share of the time of labels and cells |\n| --- | --- |")
    for stage, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {stage} | {seconds / whole:.4f} |")


def bare(runtime: Runtime, slide: Path, spec: InferSpec) -> tuple[Tally, float]:
    """Time the network on tiles of the middle of the slide, as many as the slide has."""
    source = open_slide(slide)
    scaled = ScaledSlide(source, runtime.spec.mpp)
    tiles = int(np.prod([-(-side // spec.tile_px) for side in scaled.shape]))
    rgb = np.stack(list(middle_tiles(scaled, spec)))
    prior = np.zeros((len(rgb), len(runtime.spec.prior.names), *rgb.shape[1:3]), np.float32)
    start = time.perf_counter()
    for at in range(0, tiles, len(rgb)):
        runtime.segment(rgb[: tiles - at], prior[: tiles - at])
    return Tally(tiles=tiles), time.perf_counter() - start


def middle_tiles(slide: ScaledSlide, spec: InferSpec) -> Iterator[Rgb]:
    y, x = (side // 2 for side in slide.shape)
    side = spec.tile_px + 2 * spec.halo_px
    for number in range(spec.batch_size):
        yield slide.read_mirrored(Box(0, 0, side, side).shift(y, x + number * spec.tile_px))


def labels(runtime: Runtime, model: Path, slide: Path, spec: InferSpec, cells: bool = False) -> tuple[Tally, float]:
    with tempfile.TemporaryDirectory() as folder:
        _, total, span = read(slide, model, spec, Path(folder), serially(runtime), cells)
    return total, span.ended - span.began


def workers(model: Path, slide: Path, spec: InferSpec, rounds: int) -> None:
    """Compare what a second worker adds with what a second bare process adds, as many cores as either has processes.

    A lone worker on two cores would read ahead on the second: it would be measured with a core that is not its own.
    """
    gains = []
    for _ in range(rounds):
        one, two = (bare_processes(model, slide, spec, count) for count in (1, 2))
        slow, fast = (children(model, slide, spec, count) for count in (1, 2))
        gains.append((2 * one / two, slow / fast))
    alone, together = np.median(gains, axis=0)
    share = np.median([ours / theirs for theirs, ours in gains])
    print("| | two over one |\n| --- | --- |")
    print(f"| bare processes | {alone:.2f} |\n| workers | {together:.2f} |\n| share | {share:.3f} |")


def bare_processes(model: Path, slide: Path, spec: InferSpec, count: int) -> float:
    """Time processes that run the network at the same moment, each over the whole slide's number of tiles."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(count), context.Queue()
    started = [context.Process(target=bare_process, args=(model, slide, spec, barrier, queue)) for _ in range(count)]
    with cores(count):
        for process in started:
            process.start()
    seconds = [queue.get() for _ in started]
    for process in started:
        process.join()
    return max(seconds)


def bare_process(model: Path, slide: Path, spec: InferSpec, barrier: Barrier, queue: Queue) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    runtime = load(model, None, spec.engine, spec.precision)
    barrier.wait()
    queue.put(bare(runtime, slide, spec)[1])


def children(model: Path, slide: Path, spec: InferSpec, count: int) -> float:
    command = (sys.executable, "-W", "ignore", str(HERE / "ours.py"), str(model), str(slide), "OUT/result")
    options = ("--engine", spec.engine, "--precision", spec.precision, "--workers", str(count))
    with tempfile.TemporaryDirectory() as folder, cores(count):
        return race(Contender((*command, *options), None, 1), Path(folder)).seconds


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, to the first of its cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def gate(model: Path, slide: Path, spec: InferSpec, rounds: int) -> None:
    """Compare what the gate reads and keeps with a reading of everything; the usable area is left out of it."""
    runtime = load(model, None, spec.engine, spec.precision)
    found = {}
    for name, gated in (("off", NO_GATE), ("on", GateSpec())):
        asked = replace(spec, gate=gated, usable_only=False)
        with tempfile.TemporaryDirectory() as folder:
            start, tallies = time.perf_counter(), []
            seen = read_spec(model / SPEC_FILE)
            plan = plan_slide(open_slide(slide), seen, ModelRef("benchmark", "0", "0"), asked, folder)
            run_plan(plan, serially(runtime), tallies.append)
            places = np.array([cell.centroid for cell in read_cells(plan)]).reshape(-1, 2)
            found[name] = (sum(tallies, Tally()), places * plan.slide.mpp, time.perf_counter() - start)
    (full, every, slow), (part, kept, fast) = found["off"], found["on"]
    pairs = match_cells(kept, every, CELL_UM / 2)
    area = (spec.tile_px + 2 * spec.halo_px) ** 2 / (GateSpec().tile_px + 2 * spec.halo_px) ** 2
    print("| | gate off | gate on | ratio |\n| --- | --- | --- | --- |")
    print(f"| tiles read | {full.tiles} | {part.tiles} | {full.tiles / part.tiles:.1f} |")
    print(f"| pixels read | | | {full.tiles / part.tiles * area:.1f} |")
    print(f"| time to the cells | | | {slow / fast:.1f} |")
    print(f"| cells | {len(every)} | {len(kept)} | {len(pairs.pairs)} the same |")
    truth = slide.with_name("truth.parquet")
    true = np.stack([pq.read_table(truth)[axis].to_numpy() for axis in ("y", "x")], axis=1) * plan.slide.mpp
    print(f"| of {len(true)} true cells | {hits(every, true)} | {hits(kept, true)} | |")


def hits(found: np.ndarray, true: np.ndarray) -> int:
    return len(match_cells(found, true, CELL_UM / 2).pairs)


def memory(model: Path, slide: Path, spec: InferSpec, rounds: int) -> None:
    source = open_slide(slide)
    mosaic = source.read(Box.of(source.shapes[0]), 0)
    print("| side, px | gate | peak of one process, MB |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        for side in SIDES:
            path = Path(scratch) / f"{side}.tiff"
            write_repeated(path, mosaic, side, source.ref.mpp)
            for name, options in (("off", ()), ("on", ("--gate",))):
                command = (sys.executable, "-W", "ignore", str(HERE / "ours.py"), str(model), str(path), "OUT/result")
                done = race(Contender((*command, "--stub", "--cells", *options), None, 2), Path(scratch) / name)
                print(f"| {side} | {name} | {done.peak_mb:.0f} |", flush=True)


def write_repeated(path: Path, mosaic: Rgb, side: int, mpp: float) -> None:
    """Lay a mosaic again and again until a slide has `side` px, tile by tile."""
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level, step in enumerate(LEVELS):
            size = (mosaic.shape[1] // step, mosaic.shape[0] // step)
            small = np.asarray(cv2.resize(mosaic, size, interpolation=cv2.INTER_AREA), np.uint8)
            writer.write(
                repeated_tiles(small, side // step),
                shape=(side // step, side // step, 3),
                dtype=np.uint8,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                subfiletype=min(level, 1),
                resolution=(1e4 / (mpp * step),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def repeated_tiles(image: Rgb, side: int) -> Iterator[Rgb]:
    for y in range(0, side, 256):
        rows = np.arange(y, y + 256) % image.shape[0]
        for x in range(0, side, 256):
            yield image[np.ix_(rows, np.arange(x, x + 256) % image.shape[1])]


WHAT: dict[str, Callable[[Path, Path, InferSpec, int], None]] = {
    "pipeline": pipeline,
    "workers": workers,
    "gate": gate,
    "memory": memory,
}

if __name__ == "__main__":
    main()
