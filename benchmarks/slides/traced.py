"""Export a network with its prior as one TorchScript file, so that every contender runs the same numbers.

    python benchmarks/slides/traced.py MODEL SLIDE OUT

writes OUT/whole.pt, from uint8 tiles (B, 320, 320, 3) to probabilities (B, 256, 256, 3) of their cores, and
OUT/network.pt, from such tiles and their priors (B, 1, 320, 320) to probabilities (B, 320, 320, 3). The prior of
`whole.pt` is RAMF in torch operations with the statistics of SLIDE. Both are frozen (batch norms folded) and keep
channels last.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box
from sgcldff.inference.plan import SURVEY_PX
from sgcldff.models.model import load_model
from sgcldff.saliency.priors import build
from sgcldff.saliency.priors.ramf import HALF_SATURATION, Ramf, RamfStatistics
from sgcldff.slides import ScaledSlide, open_slide

READ_PX, HALO_PX = 320, 32


class Network(nn.Module):
    """A tile and its prior to the probabilities of its pixels, channels last."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rgb: Tensor, prior: Tensor) -> Tensor:
        image = rgb.permute(0, 3, 1, 2).float() / 255
        probabilities: Tensor = self.net(image, prior).segmentation.softmax(dim=1)
        return probabilities.permute(0, 2, 3, 1)


class Prior(nn.Module):
    """RAMF with frozen statistics, at half the resolution as for cells of 67 px."""

    kernel: Tensor
    weights: Tensor
    offset: Tensor

    def __init__(self, cell_px: float, statistics: RamfStatistics) -> None:
        super().__init__()
        sigma = 0.2 * cell_px / 2
        reach = (round(sigma * 8 + 1) | 1) // 2
        bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1.0) / sigma) ** 2)
        weights = np.array(statistics.weights)
        offset = weights @ (np.log(np.array(statistics.white) + 1) - statistics.mean)
        self.reach = reach
        self.register_buffer("kernel", bell / bell.sum())
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.register_buffer("offset", torch.tensor(float(offset)))

    def forward(self, rgb: Tensor) -> Tensor:
        half = torch.floor(avg_pool2d(rgb.permute(0, 3, 1, 2).float(), 2) + 0.5)
        response = self.offset - (torch.log1p(half) * self.weights[:, None, None]).sum(dim=1, keepdim=True)
        squared = response.clamp_min(0).square()
        core = squared / (squared + HALF_SATURATION)
        wide = pad(core, [self.reach] * 4, mode="reflect")
        smooth = conv2d(conv2d(wide, self.kernel[None, None, None, :]), self.kernel[None, None, :, None])
        return interpolate((core + smooth) / 2, scale_factor=2, mode="bilinear", align_corners=False)


class Whole(nn.Module):
    """A tile alone to the probabilities of its core."""

    def __init__(self, prior: Prior, network: Network) -> None:
        super().__init__()
        self.prior = prior
        self.network = network

    def forward(self, rgb: Tensor) -> Tensor:
        probabilities: Tensor = self.network(rgb, self.prior(rgb))
        return probabilities[:, HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]


def export(model_folder: Path, slide: Path, out: Path) -> None:
    model = load_model(model_folder, "cpu")
    if model.spec.prior.names != ("ramf",):
        sys.exit(f"{model_folder}: its priors are {model.spec.prior.names}; only ramf can be exported")
    scaled = ScaledSlide(open_slide(slide), model.spec.mpp)
    fitted = build(model.spec.prior).fit(scaled.survey(SURVEY_PX))
    ramf = fitted.priors[0]
    if not isinstance(ramf, Ramf) or ramf.statistics is None or ramf.factor != 2:
        sys.exit(f"{model_folder}: RAMF must shrink by 2")
    network = Network(model.net).eval()
    whole = Whole(Prior(ramf.cell_px, ramf.statistics), network).eval()
    rgb = torch.from_numpy(np.stack([tile(scaled, at) for at in range(2)]))
    prior = torch.from_numpy(np.stack([fitted(image) for image in rgb.numpy()]))
    print(f"prior in torch and in sgcldff differ by at most {float((whole.prior(rgb) - prior).abs().max()):.2g}")
    out.mkdir(parents=True, exist_ok=True)
    save(network, (rgb, prior), out / "network.pt")
    save(whole, (rgb,), out / "whole.pt")


def tile(slide: ScaledSlide, at: int) -> Rgb:
    return slide.read(Box.of((READ_PX, READ_PX)).shift(READ_PX * at, 0))


@torch.inference_mode()
def save(module: nn.Module, example: tuple[Tensor, ...], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.trace(module, example, check_trace=False))
    frozen.save(path)
    loaded = torch.jit.load(path)
    for count in (1, 3):
        many = tuple(torch.cat([part] * 2)[:count] for part in example)
        worst = float((loaded(*many) - module(*many)).abs().max())
        if worst > 1e-3:
            sys.exit(f"{path}: differs from the network by {worst:.2g} for a batch of {count}")


if __name__ == "__main__":
    export(*map(Path, sys.argv[1:]))
