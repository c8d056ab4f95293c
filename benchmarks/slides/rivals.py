"""Whole slide in, labels out: sgcldff beside TIAToolbox and beside a plain loop, same network, same tiles, same cores.

    python benchmarks/slides/mosaics.py MOSAICS
    python benchmarks/slides/rivals.py MODEL MOSAICS/sparse/slide.tiff --tiatoolbox-python TIA/bin/python

MODEL is a folder that training or the registry wrote. Every contender runs in a process of its own, on the same
`--threads` cores; the order is turned by one in each of the rounds. Speeds are the slide's tiles a second over those of
the bare model in the same round; the table has medians over rounds. Memory is the largest sum of resident memory over a
contender's processes, looked at 20 times a second; pages that processes share count once for each. Processor time is
theirs in the time measured: other work on the machine disturbs it less than it does the time. Labels are compared with
the plain loop's in tiles that lie inside the slide: beyond its border sgcldff sees it mirrored, the others white.
TIAToolbox is no dependency: it needs an environment of its own, and without `--tiatoolbox-python` it is left out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import zarr
from numpy.typing import NDArray

HERE = Path(__file__).parent
BARE, PLAIN, TIATOOLBOX = "bare model", "plain loop", "TIAToolbox 2.1.3"
CORE_PX, HALO_PX = 256, 32
SAMPLE_S = 0.05
TIMEOUT_S = 7200


@dataclass(frozen=True)
class Contender:
    """A command that reads a slide and prints JSON; OUT in it is replaced by a folder that is made for it."""

    command: tuple[str, ...]
    labels: str | None
    """Where under OUT its labels lie."""
    threads: int
    """Of each process."""


@dataclass(frozen=True)
class Race:
    """One run of a contender."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    told: Mapping[str, object]
    labels: NDArray[np.uint8] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--tiatoolbox-python", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="words; contenders named with none of them are left out")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    with tempfile.TemporaryDirectory() as scratch:
        traced = Path(scratch) / "traced"
        subprocess.run([sys.executable, HERE / "traced.py", args.model, args.slide, traced], check=True)
        chosen = contenders(args.model, args.slide, traced, args.threads)
        chosen |= tiatoolbox(args.tiatoolbox_python, args.slide, traced, args.threads)
        names = [name for name in chosen if name == BARE or not args.only or any(word in name for word in args.only)]
        rounds = [round_of(chosen, turned(names, number), Path(scratch)) for number in range(args.rounds)]
    print(f"\n{args.slide}, {args.threads} cores, median of {args.rounds} rounds\n")
    table(names, rounds)
    stages(names, rounds)


def contenders(model: Path, slide: Path, traced: Path, threads: int) -> dict[str, Contender]:
    loop = (sys.executable, "-W", "ignore", str(HERE / "plain_loop.py"), str(traced / "whole.pt"), str(slide))
    return {
        BARE: Contender((*loop, "OUT", "--bare"), None, threads),
        PLAIN: Contender((*loop, "OUT/labels.npy"), "labels.npy", threads),
        f"{PLAIN}, 1 process reads ahead": Contender(
            (*loop, "OUT/labels.npy", "--loaders", "1"), "labels.npy", threads
        ),
        **ours(model, slide, traced, threads),
    }


def ours(model: Path, slide: Path, traced: Path, threads: int) -> dict[str, Contender]:
    """Give our own variants: the same file of the network, our torch, and the fastest; one process or workers."""
    command = (sys.executable, "-W", "ignore", str(HERE / "ours.py"), str(model), str(slide), "OUT/result", "--labels")
    runtimes = {
        "same file": ("--traced", str(traced)),
        "torch fp32": ("--engine", "torch", "--precision", "fp32"),
        "fastest": ("--engine", "auto", "--precision", "auto"),
    }
    gated = {f"{name}, gate on": (*options, "--gate") for name, options in runtimes.items() if name != "same file"}
    named = {f"{name}, gate off": options for name, options in runtimes.items()} | gated
    return {
        f"sgcldff, {name}, {how}": Contender((*command, *options, *spread), "result/labels.npy", each)
        for name, options in named.items()
        for how, spread, each in (
            (f"1 process of {threads}", (), threads),
            (f"{threads} workers of 1", ("--workers", str(threads)), 1),
        )
    }


def tiatoolbox(python: Path | None, slide: Path, traced: Path, threads: int) -> dict[str, Contender]:
    if python is None:
        return {}
    command = (str(python), "-W", "ignore", str(HERE / "tiatoolbox_rival.py"), str(traced / "whole.pt"), str(slide))
    labels = f"out/{slide.stem}.zarr"
    return {
        TIATOOLBOX: Contender((*command, "OUT/out"), labels, threads),
        f"{TIATOOLBOX}, 1 process reads ahead": Contender((*command, "OUT/out", "--loaders", "1"), labels, threads),
    }


def turned(names: Sequence[str], by: int) -> list[str]:
    at = by % len(names)
    return [*names[at:], *names[:at]]


def round_of(chosen: Mapping[str, Contender], names: Sequence[str], scratch: Path) -> dict[str, Race]:
    races = {}
    for name in names:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            races[name] = race(chosen[name], Path(folder))
        done = races[name]
        print(f"{name}: {done.seconds:.1f} s, {done.cpu_seconds:.1f} CPU s, {done.peak_mb:.0f} MB", file=sys.stderr)
    return races


def race(contender: Contender, folder: Path) -> Race:
    """Run a contender once, watching the memory of its processes."""
    command = [part.replace("OUT", str(folder), 1) if part.startswith("OUT") else part for part in contender.command]
    environment = os.environ | {"OMP_NUM_THREADS": str(contender.threads)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        watch = Watch(process.pid)
        watch.start()
        output, _ = process.communicate(timeout=TIMEOUT_S)
        watch.join()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: ended with {process.returncode}")
    told = json.loads(output.strip().splitlines()[-1])
    spent = watch.spent(told["began"], told["ended"])
    return Race(told["ended"] - told["began"], spent, watch.peak / 1e6, told, labels_of(contender, folder))


class Watch(threading.Thread):
    """Looks at a process and all below it until it ends: resident memory, bytes, and processor time, s."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root = psutil.Process(pid)
        self.peak = 0
        self.samples: list[tuple[float, float]] = []

    def run(self) -> None:
        with suppress(psutil.Error):
            while self.root.status() != psutil.STATUS_ZOMBIE:
                self.look()
                time.sleep(SAMPLE_S)

    def look(self) -> None:
        resident, spent = 0, 0.0
        for process in (self.root, *self.root.children(recursive=True)):
            with suppress(psutil.Error):
                resident += process.memory_info().rss
                spent += sum(process.cpu_times()[:4])
        self.peak = max(self.peak, resident)
        self.samples.append((time.perf_counter(), spent))

    def spent(self, began: float, ended: float) -> float:
        """Give the processor time between two moments, that of children that have ended included."""
        moments, total = zip(*self.samples, strict=True)
        first, last = np.interp((began, ended), moments, np.maximum.accumulate(total))
        return float(last - first)


def labels_of(contender: Contender, folder: Path) -> NDArray[np.uint8] | None:
    if contender.labels is None:
        return None
    place = folder / contender.labels
    pixels = np.load(place) if place.suffix == ".npy" else zarr.open_group(place, mode="r")["predictions"][:]
    return np.asarray(pixels, np.uint8)


def table(names: Sequence[str], rounds: Sequence[Mapping[str, Race]]) -> None:
    print("| contender | tiles/s, bare = 1 | TIAToolbox = 1 | processor time, bare = 1 | peak memory, MB |", end="")
    print(" equal pixels | IoU of white cells |\n| --- | --- | --- | --- | --- | --- | --- |")
    truth = rounds[0][PLAIN].labels if PLAIN in rounds[0] else None
    for name in names:
        share = median(rounds, name, BARE)
        rival = f"{median(rounds, name, TIATOOLBOX):.2f}" if TIATOOLBOX in rounds[0] else ""
        spent = np.median([races[name].cpu_seconds / races[BARE].cpu_seconds for races in rounds])
        peak = max(races[name].peak_mb for races in rounds)
        told = agreement(rounds[0][name].labels, truth)
        print(f"| {name} | {share:.3f} | {rival} | {spent:.3f} | {peak:.0f} | {told} |")


def median(rounds: Sequence[Mapping[str, Race]], name: str, other: str) -> float:
    """How many times as fast as another, over the same slide."""
    return float(np.median([races[other].seconds / races[name].seconds for races in rounds]))


def agreement(labels: NDArray[np.uint8] | None, truth: NDArray[np.uint8] | None) -> str:
    if labels is None or truth is None:
        return "|"
    inner = tuple(slice(CORE_PX, (side - HALO_PX) // CORE_PX * CORE_PX) for side in truth.shape)
    labels, truth = labels[inner], truth[inner]
    both, either = ((labels > 0) & (truth > 0)).sum(), ((labels > 0) | (truth > 0)).sum()
    return f"{(labels == truth).mean():.5f} | {both / max(1, either):.4f}"


def stages(names: Sequence[str], rounds: Sequence[Mapping[str, Race]]) -> None:
    print("\n| stages, s summed over workers | tiles read | time |\n| --- | --- | --- |")
    for name in names:
        told = rounds[0][name].told
        if isinstance(spent := told.get("stages"), dict):
            parts = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in spent.items())
            print(f"| {name} | {told['tiles']} | {parts} |")


if __name__ == "__main__":
    main()
