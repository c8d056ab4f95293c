"""Measure the gate: cells kept, tiles left unread, areas told apart, and what the look at a slide costs.

    python benchmarks/slides/gate_recall.py [--side 32768] [--skip-cost]

Reads $SGCLDFF_DATA (default ../shared/datasets) and prints Markdown tables. Recall and share read are of the data sets
there that mark cells in fields or crops; statistics are each data set's own, from the pixels beside the marked cells.
A tile is 128 px at 0.2 um/px. The gain is that of reading tiles over places instead of all tiles, at one white cell to
750 red ones as dense as in BCCD. Times are CPU seconds of one thread, so that other work on the machine does not enter.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import tifffile

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box, TileGrid
from sgcldff.core.records import Sample
from sgcldff.core.settings import MODEL_MPP, GateSpec
from sgcldff.data.adapters import detect
from sgcldff.data.synthetic import SmearSpec, random_smear, render_field
from sgcldff.inference.gate import Area, Gate, Recall, choose_threshold
from sgcldff.inference.gate.threshold import Marked, fit_gates, keeping_scores, marked
from sgcldff.inference.plan import at_gate_scale
from sgcldff.slides import ScaledSlide, open_slide
from sgcldff.slides.images import read_rgb, rescale

MARKED = ("bccd", "jtsc", "all_idb2")
SCALES = (0.4, 0.8, 1.0, 1.2, 1.6)
THRESHOLDS = (0.15, 0.2, 0.25, 0.3, 0.35)
TILE_UM = 128 * MODEL_MPP
TILES_PER_WHITE = 750 / 8700 * 1e6 / TILE_UM**2
"""Tiles of a smear with one white cell to 750 red ones, and 8,700 red cells to a square millimetre."""
SLIDE_MPP = 0.25
SHARD_PX = 2048
"""Side of a shard at the gate's scale, px."""
Samples = Mapping[str, Sequence[Sample]]


def tiles_read(images: Sequence[Marked], gates: Mapping[str, Gate], spec: GateSpec) -> tuple[float, float]:
    """Give the tiles a marked cell takes, and the share of the tiles read where no cell is marked.

    A place takes as many tiles as its bounding box needs.
    """
    side = TILE_UM / spec.mpp
    cells = whole = beside = area = 0.0
    for image in images:
        places = replace(gates[image.sample.group], spec=spec).places(image.rgb)
        _, ids, stats, _ = cv2.connectedComponentsWithStats(places.astype(np.uint8), connectivity=8)
        tiles = np.ceil(stats[:, cv2.CC_STAT_WIDTH] / side) * np.ceil(stats[:, cv2.CC_STAT_HEIGHT] / side)
        held = np.isin(np.arange(len(stats)), ids[image.taken])
        tiles[0] = 0
        beside, area = beside + tiles[~held].sum(), area + (~image.taken).sum() / side**2
        if image.cells and len(image.cells) == cv2.connectedComponents(image.taken.astype(np.uint8))[0] - 1:
            cells, whole = cells + tiles[held].sum(), whole + len(image.cells)
    return cells / whole, beside / area


def print_recall(data: Samples) -> None:
    """Print cells kept and tiles read by scale and threshold."""
    print("| um/px | threshold | data | kept | exact 95 % interval | tiles a cell | tiles read beside cells | gain |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for mpp in SCALES:
        for name, samples in data.items():
            found = [marked(sample, mpp) for sample in samples]
            gates = fit_gates(found, GateSpec(mpp=mpp))
            scores = keeping_scores(found, gates)
            for threshold in THRESHOLDS if mpp == GateSpec().mpp else (0.25,):
                spec = GateSpec(mpp=mpp, threshold=threshold)
                recall = Recall(int((scores >= threshold).sum()), len(scores))
                low, high = recall.interval()
                per_cell, beside = tiles_read(found, gates, spec)
                gain = TILES_PER_WHITE / (per_cell + beside * TILES_PER_WHITE)
                kept = f"{recall.kept} of {recall.of} | {low:.4f}-{high:.4f}"
                print(f"| {mpp} | {threshold} | {name} | {kept} | {per_cell:.2f} | {beside:.4f} | {gain:.0f} |")


def print_calibration(data: Samples) -> None:
    """Print what calibration chooses on half of the groups, and how the other half does."""
    print(
        "\n| um/px | threshold chosen | kept of the half that chose | kept of the other half | interval | area read |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for mpp in SCALES:
        found = choose_threshold([sample for samples in data.values() for sample in samples], GateSpec(mpp=mpp))
        low, high = found.held_out.interval()
        halves = " | ".join(f"{part.kept} of {part.of}" for part in (found.chosen_on, found.held_out))
        print(f"| {mpp} | {found.spec.threshold} | {halves} | {low:.4f}-{high:.4f} | {found.read:.4f} |")


def print_areas(fields: Sequence[Rgb]) -> None:
    """Print what blocks of real and drawn fields are called, sharp and blurred."""
    print("\n| field | " + " | ".join(area.name.lower().replace("_", " ") for area in Area) + " |")
    print("| --- |" + " --- |" * len(Area))
    mpp = GateSpec().mpp
    if fields:
        whole = np.concatenate([field.reshape(-1, 1, 3) for field in fields])
        gate = Gate.fit(GateSpec(), whole, mpp)
        for blur in (0, 1, 1.5, 2, 3):
            print_row(f"BCCD, blurred by {blur} um", [gate.areas(blurred(field, blur)) for field in fields])
    for cover, whites in ((0.0, 0), (0.0, 350), (0.05, 0), (0.3, 350), (0.5, 350), (0.75, 350), (1.0, 350), (1.5, 350)):
        for blur in (0, 2) if cover in (0.3, 0.75) else (0,):
            codes = [drawn_areas(seed, cover, whites, blur) for seed in range(8)]
            print_row(f"drawn, red cells cover {cover}, {whites} WBC/mm2, blurred by {blur} um", codes)


def print_row(name: str, codes: Sequence[np.ndarray]) -> None:
    counts = np.bincount(np.concatenate([part.ravel() for part in codes]), minlength=len(Area))
    print(f"| {name} | " + " | ".join(map(str, counts)) + " |")


def blurred(rgb: Rgb, um: float) -> Rgb:
    return cv2.GaussianBlur(rgb, (0, 0), um / GateSpec().mpp) if um else rgb


def drawn_areas(seed: int, cover: float, whites: float, blur: float) -> np.ndarray:
    """Fit a gate to a monolayer of a random stain and show it another field of that smear."""
    stain, mpp = random_smear(seed), GateSpec().mpp
    fields = [
        rescale(render_field(spec, (1024, 1024), np.random.default_rng(seed)).rgb, spec.mpp, mpp)
        for spec in (stain, replace(stain, red_coverage=cover, wbc_per_mm2=whites))
    ]
    return Gate.fit(GateSpec(), fields[0], mpp).areas(blurred(fields[1], blur))


def write_slide(path: Path, side: int) -> None:
    """Write a pyramid of three levels by laying one drawn field again and again."""
    field = render_field(replace(SmearSpec(wbc_per_mm2=60), mpp=SLIDE_MPP), (4096, 4096), np.random.default_rng(0)).rgb
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number, shrink in enumerate((1, 4, 16)):
            level = cv2.resize(field, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
            file.write(
                tiles_of(level, side // shrink // 256),
                shape=(side // shrink, side // shrink, 3),
                dtype=np.uint8,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=min(number, 1),
                resolution=(1e4 / (SLIDE_MPP * shrink),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def tiles_of(level: Rgb, count: int) -> Iterator[Rgb]:
    """Cut `count` x `count` tiles out of an image that is repeated without end."""
    step = max(1, level.shape[0] // 256)
    for row in range(count):
        for column in range(count):
            y, x = (row % step) * 256, (column % step) * 256
            yield np.ascontiguousarray(level[y : y + 256, x : x + 256])


def seconds(slide: ScaledSlide, gate: Gate | None, shards: Sequence[Box]) -> tuple[float, float, int]:
    """Give the CPU seconds of reading and of looking at shards, and the pixels to be read."""
    reading = looking = 0.0
    opened = 0
    for shard in shards:
        start = time.process_time()
        rgb = slide.read_mirrored(shard.grow(gate.reach_px if gate else 0))
        between = time.process_time()
        if gate:
            inner = Box.of(shard.shape).shift(gate.reach_px, gate.reach_px).slices
            opened += int(gate.places(rgb)[inner].sum())
            gate.areas(np.ascontiguousarray(rgb[inner]))
        reading, looking = reading + between - start, looking + time.process_time() - between
    return reading, looking, opened


def print_cost(side: int) -> None:
    """Print what it takes to look at a whole slide, beside decoding the level alone."""
    spec = GateSpec(threshold=0.25)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tiff"
        write_slide(path, side)
        source = open_slide(path)
        slide = at_gate_scale(source, spec.mpp)
        gate = Gate.fit(spec, slide.survey(2048), slide.mpp)
        shards = TileGrid(slide.shape, 256, 0, SHARD_PX).shards
        floor, _, _ = seconds(slide, None, shards)
        reading, looking, opened = seconds(slide, gate, shards)
        finest = ScaledSlide(source, spec.mpp)
        corner = shards[:1]
        fine, _, _ = seconds(finest, gate, corner)
        size = level_bytes(path, slide.level)
        source.close()
    pixels, times = slide.shape[0] * slide.shape[1] / 1e6, (100_000 / side) ** 2
    print(
        f"\n{side} x {side} px at {SLIDE_MPP} um/px, levels 1, 4, 16, JPEG; {opened / pixels / 1e6:.3f} of it is read\n"
    )
    print("| | s | MPix/s | s for 100,000 x 100,000 px |")
    print("| --- | --- | --- | --- |")
    decoded = f"level {slide.level}: {pixels:.0f} MPix, {size / 1e6:.0f} MB"
    rows = {f"floor: decode {decoded}": floor, "read, with margins": reading}
    rows |= {"places and areas": looking, "the whole look": reading + looking}
    rows |= {f"reading, were level {finest.level} taken (from one shard)": fine * pixels * 1e6 / corner[0].height ** 2}
    for name, took in rows.items():
        print(f"| {name} | {took:.2f} | {pixels / took:.0f} | {took * times:.1f} |")


def level_bytes(path: Path, level: int) -> int:
    with tifffile.TiffFile(path) as file:
        return sum(file.pages[level].databytecounts)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=32768, help="side of the slide whose look is timed, px")
    parser.add_argument("--skip-cost", action="store_true", help="leave the slide out")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    folder = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))
    sources = {source.adapter: source for source in detect(folder)} if folder.is_dir() else {}
    data = {
        name: [item for item in sources[name].scan() if isinstance(item, Sample)] for name in MARKED if name in sources
    }
    if data:
        print_recall(data)
        print_calibration(data)
    fields = [rescale(read_rgb(sample.image), sample.mpp, GateSpec().mpp) for sample in data.get("bccd", ())]
    print_areas(fields)
    if not arguments.skip_cost:
        print_cost(arguments.side)


if __name__ == "__main__":
    main()
