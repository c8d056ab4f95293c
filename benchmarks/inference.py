"""How far inference is above its floor: the network alone on tiles that lie in memory, in the same process and run.

    python benchmarks/inference.py

Weights are random: they do not change what a tile costs. The labels of random weights are noise, so the second pass is
left out; what it costs depends on the cells of a slide.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sgcldff.inference import Step, plan_slide
from sgcldff.model import Model
from sgcldff.nets import build
from sgcldff.records import ModelRef
from sgcldff.slides import ScaledSlide, open_slide
from sgcldff.slides.opening import OpenedSlide
from sgcldff.specs import InferSpec, ModelSpec, NetSpec, Pretrained
from sgcldff.synthetic import write_slide

SIDE_PX = 8192
ROUNDS = 3
SPEC = InferSpec()
STAGES = ("network alone", "prior", "read", "segment")


def round_of(slide: OpenedSlide, model: Model, folder: Path) -> list[float]:
    """Time the stages once, one after the other, s."""
    plan = plan_slide(slide, model, ModelRef("random", folder.name, folder.name), SPEC, folder)
    scaled, shards = ScaledSlide(slide, model.spec.mpp), plan.grid.shards
    tiles = [tile for shard in shards for tile in plan.grid.tiles(shard)]
    seen = np.stack([scaled.read_mirrored(tile.read) for tile in tiles[: SPEC.batch_size]])
    prior = np.stack([plan.priors(rgb) for rgb in seen])
    ticks = [time.perf_counter()]
    for _ in range(-(-len(tiles) // SPEC.batch_size)):
        model.predict(seen, prior)
    ticks.append(time.perf_counter())
    for _ in tiles:
        plan.priors(seen[0])
    ticks.append(time.perf_counter())
    for shard in shards:
        scaled.read_mirrored(shard)
    ticks.append(time.perf_counter())
    for task in plan.missing(Step.SEGMENT):
        task(model)
    ticks.append(time.perf_counter())
    return list(np.diff(ticks))


def main() -> None:
    spec = ModelSpec(net=NetSpec(pretrained=Pretrained.OFF))
    model = Model(spec, build(spec).eval().to(memory_format=torch.channels_last), torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        slide = open_slide(write_slide(Path(folder) / "slide.tiff", (SIDE_PX, SIDE_PX)).slide)
        times = np.median([round_of(slide, model, Path(folder) / str(n)) for n in range(ROUNDS)], axis=0)
    print(f"{SIDE_PX} x {SIDE_PX} px at {slide.ref.mpp} um/px, {torch.get_num_threads()} threads, median of {ROUNDS}")
    for name, taken in zip(STAGES, times, strict=True):
        print(f"| {name} | {taken:.2f} s | {taken / times[0]:.2f} |")


if __name__ == "__main__":
    main()
