"""How fast the engines run one network on tiles in memory, and how far their answers agree, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/slides/runtimes.py [MODEL]

MODEL is the folder of a trained model. Without one the weights are random: what that costs is the same, but agreement
then says little, since random weights leave many pixels undecided. Tiles are drawn smears with a white cell in the
middle. The engines take turns, so that other work of the machine falls on all of them alike.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sgcldff.core.errors import InputError
from sgcldff.core.labels import WBC5
from sgcldff.core.settings import Engine, ModelSpec, NetSpec, Precision, Pretrained, PriorSpec
from sgcldff.data.synthetic import random_smear, render_field
from sgcldff.data.synthetic.layout import Spot
from sgcldff.models.model import save_model
from sgcldff.models.nets import build
from sgcldff.models.runtimes import Runtime, load_runtime
from sgcldff.saliency.priors import build as build_priors

ROUNDS = 9
BATCH = 8
TILE_PX, GATED_PX, CROP_PX = 320, 192, 128
SIDES_PX = {"tiles of 320 px": TILE_PX, "tiles of 192 px": GATED_PX, "crops of 128 px": CROP_PX}

Tiles = tuple[np.ndarray, np.ndarray]


def random_model(folder: str) -> Path:
    torch.manual_seed(0)
    spec = ModelSpec(net=NetSpec(pretrained=Pretrained.OFF))
    return save_model(folder, spec, build(spec).eval())


def draw(side: int, spec: PriorSpec) -> Tiles:
    rng = np.random.default_rng(side)
    spots = [[Spot(WBC5.classes[seed % len(WBC5.classes)], side / 2, side / 2)] for seed in range(BATCH)]
    fields = [render_field(random_smear(seed), (side, side), rng, spot) for seed, spot in enumerate(spots)]
    rgb = np.stack([field.rgb for field in fields])
    return rgb, np.stack([build_priors(spec)(image) for image in rgb])


def load_all(folder: Path) -> list[Runtime]:
    """Load every engine with every precision that this machine has; torch with fp32 comes first."""
    loaded = []
    for engine in (Engine.TORCH, Engine.OPENVINO):
        for precision in (Precision.FP32, Precision.BF16, Precision.FP16):
            try:
                loaded.append(load_runtime(folder, engine, precision))
            except InputError as error:
                print(error, file=sys.stderr)
    return loaded


def question(runtime: Runtime, tiles: Tiles) -> Callable[[], np.ndarray]:
    if tiles[0].shape[1] == CROP_PX:
        return lambda: runtime.classify(*tiles).probabilities
    return lambda: runtime.segment(*tiles)


def timed(call: Callable[[], np.ndarray]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def compare(runtimes: list[Runtime], tiles: Tiles) -> tuple[np.ndarray, list[np.ndarray]]:
    """Give the times of the runtimes as shares of the first one's, medians, and their answers."""
    calls = [question(runtime, tiles) for runtime in runtimes]
    answers = [call() for call in calls]
    rounds = np.array([[timed(call) for call in calls] for _ in range(ROUNDS)])
    return np.median(rounds / rounds[:, :1], axis=0), answers


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else random_model(scratch)
        runtimes = load_all(folder)
    weights = "trained" if len(sys.argv) > 1 else "random"
    print(f"Batches of {BATCH}, {torch.get_num_threads()} threads, median of {ROUNDS} rounds, {weights} weights.\n")
    print("| engine | precision |", " | ".join(SIDES_PX), "| labels that agree | type probabilities differ by |")
    print("| --- | --- |" + " --- |" * (len(SIDES_PX) + 2))
    results = {name: compare(runtimes, draw(side, runtimes[0].spec.prior)) for name, side in SIDES_PX.items()}
    _, large = results["tiles of 320 px"]
    _, types = results["crops of 128 px"]
    for place, runtime in enumerate(runtimes):
        speeds = " | ".join(f"{1 / shares[place]:.2f}" for shares, _ in results.values())
        agree, apart = np.mean(large[place] == large[0]), np.abs(types[place] - types[0]).max()
        print(f"| {runtime.engine} | {runtime.precision} | {speeds} | {agree:.5%} | {apart:.1e} |")


if __name__ == "__main__":
    main()
