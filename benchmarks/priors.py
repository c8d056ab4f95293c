"""Measure the saliency priors: average precision on real smears, and speed on one core beside the floor.

    python benchmarks/priors.py [--every 3]

Reads $SGCLDFF_DATA (default ../shared/datasets) and prints two Markdown tables.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from sgcldff.core.arrays import Rgb
from sgcldff.core.records import Sample
from sgcldff.core.settings import CELL_UM, MODEL_MPP, PriorSpec
from sgcldff.data.adapters import Source, detect
from sgcldff.saliency.priors import PRIORS, SaliencyPrior, build
from sgcldff.saliency.priors.resize import decimate, enlarge
from sgcldff.slides.images import read_grey, read_rgb

DATA_SETS = ("bccd", "all_idb2", "jtsc")
FIRST = 1
"""Free constants were chosen on images 0, 9, 18, ...: start beside them."""
FAULTY = ("BloodImage_00177", "Im032_1", "044")
"""Shifted mask, unlabelled neighbours."""
SIDE_PX = 4032
REPEATS = 5


@dataclass(frozen=True)
class Truth:
    """An image and its masks."""

    rgb: Rgb
    cell: NDArray[np.bool_]
    nucleus: NDArray[np.bool_]
    mpp: float


def truths(source: Source, every: int) -> Iterator[Truth]:
    """Read every so many images whose mask fits and shows a cell with a nucleus."""
    masked = [item for item in source.scan() if isinstance(item, Sample) and item.mask and item.mask_code]
    for sample in masked[FIRST::every]:
        rgb, mask, code = read_rgb(sample.image), read_grey(sample.mask), sample.mask_code
        truth = Truth(rgb, mask >= code.cytoplasm, mask >= code.nucleus, sample.mpp)
        usable = mask.shape == rgb.shape[:2] and truth.nucleus.sum() >= 20 and Path(sample.image).stem not in FAULTY
        if usable:
            yield truth


def precision(name: str, images: list[Truth]) -> tuple[float, float]:
    """Average over images the average precision of nucleus and cell, on every second row and column."""
    scores = []
    for truth in images:
        saliency = build(PriorSpec((name,), mpp=truth.mpp))(truth.rgb)[0, ::2, ::2].ravel()
        masks = (truth.nucleus, truth.cell)
        scores.append([average_precision_score(mask[::2, ::2].ravel(), saliency) for mask in masks])
    nucleus, cell = np.mean(scores, axis=0)
    return float(nucleus), float(cell)


def print_precision(data: dict[str, list[Truth]]) -> None:
    """Print the average precision of every prior on every data set."""
    print("| prior | " + " | ".join(f"{name} ({len(images)})" for name, images in data.items()) + " |")
    print("| --- |" + " --- |" * len(data))
    for name in sorted(PRIORS):
        cells = ["{:.3f} / {:.3f}".format(*precision(name, images)) for images in data.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")


def megapixels_per_second(function: Callable[[Rgb], object], image: Rgb) -> float:
    """Time the best of several runs; the others only show what else the machine was doing."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function(image)
        seconds.append(time.perf_counter() - start)
    return image.shape[0] * image.shape[1] / min(seconds) / 1e6


def floors(factor: int) -> dict[str, Callable[[Rgb], object]]:
    """Name what no prior can avoid: reading every pixel once, and writing a float for each."""
    return {
        "floor: decimation": lambda rgb: decimate(rgb, factor),
        "floor: decimation, enlargement": lambda rgb: enlarge(
            decimate(rgb, factor)[..., 0].astype(np.float32), factor, (rgb.shape[0], rgb.shape[1])
        ),
    }


def print_speed(field: Rgb, mpp: float) -> None:
    """Print MPix/s of the floor and of every prior, on a mosaic of one field."""
    repeats = (-(-SIDE_PX // field.shape[0]), -(-SIDE_PX // field.shape[1]), 1)
    image = np.ascontiguousarray(np.tile(field, repeats)[:SIDE_PX, :SIDE_PX])
    factor = max(1, round(CELL_UM / mpp / 32))
    speeds = {name: megapixels_per_second(function, image) for name, function in floors(factor).items()}
    floor = speeds["floor: decimation, enlargement"]
    for name in sorted(PRIORS):
        prior: SaliencyPrior = build(PriorSpec((name,), mpp=mpp)).priors[0]
        speeds[name] = megapixels_per_second(prior, image)
        speeds[f"{name}, slide statistics"] = megapixels_per_second(prior.fit(image), image)
    print(f"\n{SIDE_PX}x{SIDE_PX} px at {mpp} um/px\n\n| | MPix/s | share of the floor |\n| --- | --- | --- |")
    for name, speed in speeds.items():
        print(f"| {name} | {speed:.0f} | {speed / floor:.2f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=3, help="use one image of so many (default 3)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    sources = {source.adapter: source for source in detect(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))}
    data = {name: list(truths(sources[name], arguments.every)) for name in DATA_SETS if name in sources}
    print_precision(data)
    if "bccd" in data:
        field = data["bccd"][0]
        for mpp in (field.mpp, MODEL_MPP):
            print_speed(field.rgb, mpp)


if __name__ == "__main__":
    main()
