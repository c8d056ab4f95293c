"""TIAToolbox's semantic segmentor on the same network and tiles; runs in an environment that has TIAToolbox 2.1.3.

    TIA/bin/python benchmarks/slides/tiatoolbox_rival.py MODULE SLIDE OUT [--loaders N]

MODULE is `whole.pt` of traced.py; OUT becomes a folder with the Zarr group that TIAToolbox writes. Settings are those
that its documentation gives for whole slides (WSI mode, Zarr output, memory threshold of 80 %), batches of 8. Its
tissue mask is off, so that it reads all tiles as the others do. Prints one line of JSON: began and ended (s of the
monotonic clock), tiles, threads. The time is that of `run`; loading the model and three batches to warm up lie before
it.
"""

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from tiatoolbox import logger
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC

READ_PX, CORE_PX, BATCH = 320, 256, 8
MPP = 0.2


class Traced(ModelABC):
    """The exported network as TIAToolbox wants it: batches of uint8 tiles to probabilities, channels last."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = torch.jit.load(path)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return self.network(tiles)

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        with torch.inference_mode():
            return model(batch_data.to(device)).cpu().numpy()

    @staticmethod
    def postproc(image: np.ndarray) -> np.ndarray:
        return image.argmax(axis=-1)


def config() -> IOSegmentorConfig:
    scale = [{"units": "mpp", "resolution": MPP}]
    return IOSegmentorConfig(
        input_resolutions=scale,
        output_resolutions=scale,
        patch_input_shape=(READ_PX, READ_PX),
        patch_output_shape=(CORE_PX, CORE_PX),
        stride_shape=(CORE_PX, CORE_PX),
        save_resolution=scale[0],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("module", "slide", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--loaders", type=int, default=0)
    args = parser.parse_args()
    logger.setLevel(logging.ERROR)
    model = Traced(args.module)
    engine = SemanticSegmentor(model, batch_size=BATCH, num_workers=args.loaders, device="cpu", verbose=False)
    for _ in range(3):
        Traced.infer_batch(model, torch.zeros(BATCH, READ_PX, READ_PX, 3, dtype=torch.uint8), device="cpu")
    start = time.perf_counter()
    engine.run(
        [args.slide],
        patch_mode=False,
        ioconfig=config(),
        save_dir=args.out,
        overwrite=True,
        output_type="zarr",
        auto_get_mask=False,
        wsireader_kwargs={"mpp": (MPP, MPP)},
    )
    ended = time.perf_counter()
    tiles = len(engine.dataloader.dataset)
    print(json.dumps({"began": start, "ended": ended, "tiles": tiles, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
