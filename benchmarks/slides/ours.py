"""One reading of a slide by sgcldff, in a process of its own, for the tables of this folder.

    python benchmarks/slides/ours.py MODEL SLIDE OUT [--engine torch] [--precision fp32] [--gate] [--workers 2]

Prints one line of JSON: began and ended (s of the monotonic clock), tiles, skipped, threads, stages (s, summed over
workers). The time runs from opening the slide to the committed labels; starting Python and Dask workers, loading the
model and three batches to warm up lie before it. With `--cells` it runs on to the committed cells, which the others do
not give. With `--traced FOLDER` the network is `network.pt` of traced.py: what the other contenders run; with `--stub`
it costs nothing and takes the prior for the nucleus. `--labels` leaves OUT/labels.npy to compare with, whole in memory.
`--workers 0` (default) reads in this process.
"""

import argparse
import functools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgcldff.cluster import LocalSpec, connect, load_once, loaded, map_bounded
from sgcldff.core.arrays import Rgb
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import Engine, GateSpec, InferSpec, ModelSpec, Precision
from sgcldff.inference import Plan, Runner, ShardTask, Step, Tally, label_array, plan_slide, serially
from sgcldff.models.checkpoint import SPEC_FILE, read_spec
from sgcldff.models.runtimes import Runtime, Types, load_runtime, resolve
from sgcldff.models.runtimes.openvino_runtime import thread_count
from sgcldff.slides import open_slide

READ_PX = 320
STUB = Path("stub")


@dataclass(frozen=True)
class Traced:
    """The exported network as a runtime; it segments only."""

    spec: ModelSpec
    module: Any
    """`torch.jit.ScriptModule`; torch is imported where it is used, for its memory is part of what is measured."""
    engine: Engine = Engine.TORCH
    precision: Precision = Precision.FP32
    typicality: None = None

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> Types:
        raise NotImplementedError("the exported file tells no types: leave out --cells")

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> NDArray[np.uint8]:
        import torch

        with torch.inference_mode():
            background, cytoplasm, nucleus = self.module(torch.from_numpy(rgb), torch.from_numpy(prior)).unbind(dim=-1)
            second = (nucleus > background) & (nucleus > cytoplasm)
            return torch.where(second, 2, (cytoplasm > background).to(torch.uint8)).to(torch.uint8).numpy()


@dataclass(frozen=True)
class Stub:
    """Cells where the prior is high, all of the first type."""

    spec: ModelSpec
    engine: Engine = Engine.TORCH
    precision: Precision = Precision.FP32
    typicality: None = None

    def segment(self, rgb: Rgb, prior: NDArray[np.float32]) -> NDArray[np.uint8]:
        return (prior[:, 0] > 0.5).astype(np.uint8) + (prior[:, 0] > 0.25)

    def classify(self, rgb: Rgb, prior: NDArray[np.float32]) -> Types:
        first = np.eye(1, len(self.spec.labels.classes), dtype=np.float32).repeat(len(rgb), axis=0)
        return Types(first, np.zeros((len(rgb), 1), np.float32))


def load(model: Path, network: Path | None, engine: Engine, precision: Precision) -> Runtime:
    """Load and warm up: what `save_model` wrote, the exported file in a folder, or (`STUB`) nothing."""
    spec = read_spec(model / SPEC_FILE)
    if network is None:
        runtime = load_runtime(model, engine, precision)
    else:
        runtime = Stub(spec) if network == STUB else traced(spec, network / "network.pt")
    for _ in range(3):
        runtime.segment(*blank(READ_PX))
    if not isinstance(runtime, Traced):
        runtime.classify(*blank(spec.crop_px))
    return runtime


def traced(spec: ModelSpec, file: Path) -> Traced:
    import torch

    return Traced(spec, torch.jit.load(file))


def blank(side: int) -> tuple[Rgb, NDArray[np.float32]]:
    batch = InferSpec().batch_size
    return np.zeros((batch, side, side, 3), np.uint8), np.zeros((batch, 1, side, side), np.float32)


@dataclass(frozen=True)
class Span:
    """Moments of the monotonic clock, s."""

    began: float
    ended: float


def on_worker(task: ShardTask) -> Tally:
    return task(loaded("model"))


def ready(_: int) -> None:
    loaded("model")
    time.sleep(1)


@contextmanager
def runner(workers: int, loader: functools.partial[Runtime]) -> Iterator[Runner]:
    """Give what runs tasks, its model loaded."""
    if workers == 0:
        yield serially(loader())
        return
    with connect(LocalSpec(workers)) as client:
        load_once(client, "model", loader)
        for _ in map_bounded(client, ready, range(4 * workers), workers):
            pass

        def run(tasks: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, Tally | BaseException]]:
            return map_bounded(client, on_worker, tasks, 2 * workers)

        yield run


def read(slide: Path, model: Path, spec: InferSpec, folder: Path, run: Runner, cells: bool) -> tuple[Plan, Tally, Span]:
    start = time.perf_counter()
    seen = read_spec(model / SPEC_FILE)
    plan = plan_slide(open_slide(slide), seen, ModelRef("benchmark", "0", "0"), spec, folder)
    total = Tally()
    for step in (Step.SEGMENT, Step.TYPE)[: 2 if cells else 1]:
        for _, outcome in run([ShardTask(plan, step, index) for index in plan.missing(step)]):
            if isinstance(outcome, BaseException):
                raise outcome
            total += outcome
    return plan, total, Span(start, time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "slide", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--engine", type=Engine, default=Engine.TORCH)
    parser.add_argument("--precision", type=Precision, default=Precision.FP32)
    parser.add_argument("--traced", type=Path)
    parser.add_argument("--stub", action="store_const", const=STUB, dest="traced")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--cells", action="store_true")
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    engine, precision = resolve(args.engine, args.precision)
    spec = InferSpec(engine=engine, precision=precision)
    spec = spec if args.gate else replace(spec, gate=GateSpec(enabled=False))
    loader = functools.partial(load, args.model, args.traced, engine, precision)
    with runner(args.workers, loader) as run:
        plan, total, span = read(args.slide, args.model, spec, args.out, run, args.cells)
    if args.labels:
        np.save(args.out / "labels.npy", np.asarray(label_array(plan)[:]))
    told = {
        "began": span.began,
        "ended": span.ended,
        "tiles": total.tiles,
        "skipped": total.skipped,
        "stages": total.seconds,
    }
    print(json.dumps(told | {"threads": thread_count()}))


if __name__ == "__main__":
    main()
