"""What one writes without a pipeline: OpenSlide, batches, NumPy stitching; and the bare model, its floor.

    python benchmarks/slides/plain_loop.py MODULE SLIDE OUT [--loaders N] [--bare]

MODULE is `whole.pt` of traced.py. Needs torch, openslide and NumPy only. Prints one line of JSON: began and ended (s of
the monotonic clock), tiles, threads. The time runs from opening the slide to the labels on disk; loading the model and
three batches to warm up lie before it. With `--loaders N`, N processes of a torch DataLoader read. With `--bare`, the
model sees as many tiles, the first batch again and again, and nothing is read or written.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import openslide
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

READ_PX, CORE_PX, BATCH = 320, 256, 8
HALO_PX = (READ_PX - CORE_PX) // 2


class Tiles(Dataset):
    """The tiles of a slide, row by row: where their cores begin and what they show."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slide: openslide.OpenSlide | None = None
        width, height = openslide.OpenSlide(path).dimensions
        self.shape = (height, width)
        self.corners = [(y, x) for y in range(0, height, CORE_PX) for x in range(0, width, CORE_PX)]

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, at: int) -> tuple[int, int, NDArray[np.uint8]]:
        self.slide = self.slide or openslide.OpenSlide(self.path)
        y, x = self.corners[at]
        seen = self.slide.read_region((x - HALO_PX, y - HALO_PX), 0, (READ_PX, READ_PX))
        rgba = np.asarray(seen)
        return y, x, np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])


@torch.inference_mode()
def segment(module: torch.jit.ScriptModule, slide: Path, out: Path, loaders: int) -> int:
    tiles = Tiles(slide)
    height, width = tiles.shape
    labels = np.zeros(tiles.shape, np.uint8)
    for ys, xs, rgb in DataLoader(tiles, BATCH, num_workers=loaders):
        told = module(rgb).numpy().argmax(axis=-1)
        for y, x, core in zip(ys.tolist(), xs.tolist(), told, strict=True):
            labels[y : y + CORE_PX, x : x + CORE_PX] = core[: height - y, : width - x]
    np.save(out, labels)
    return len(tiles)


@torch.inference_mode()
def repeat(module: torch.jit.ScriptModule, batch: torch.Tensor, tiles: int) -> int:
    for at in range(0, tiles, BATCH):
        module(batch[: tiles - at])
    return tiles


def first_batch(slide: Path) -> torch.Tensor:
    tiles = Tiles(slide)
    return torch.from_numpy(np.stack([tiles[at][2] for at in range(BATCH)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("module", "slide", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--loaders", type=int, default=0)
    parser.add_argument("--bare", action="store_true")
    args = parser.parse_args()
    module, batch = torch.jit.load(args.module), first_batch(args.slide)
    repeat(module, batch, 3 * BATCH)
    start = time.perf_counter()
    if args.bare:
        tiles = repeat(module, batch, len(Tiles(args.slide)))
    else:
        tiles = segment(module, args.slide, args.out, args.loaders)
    print(
        json.dumps({"began": start, "ended": time.perf_counter(), "tiles": tiles, "threads": torch.get_num_threads()})
    )


if __name__ == "__main__":
    main()
