"""EfficientSwin: EfficientNet stages for local detail, Swin blocks for context, features at strides 2 to 32.

The name is from SG-CLDFF (arXiv 2510.17278), which leaves the split open. By default, convolutions are used down to
stride 16, and Swin blocks (Liu et al., ICCV 2021) at stride 32: all of ImageNet's features but the last are kept.
"""

from typing import Any

import timm
import torch
from timm.models.swin_transformer import SwinTransformerStage
from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.core.settings import Mixing, NetSpec
from sgcldff.models.nets.pretrained import initialise

STRIDES = (2, 4, 8, 16, 32)
SWIN_WIDTHS = {2: 24, 4: 48, 8: 96, 16: 160, 32: 256}
WINDOW = 8
"""Side of an attention window, in positions: at stride 32, the width of four cells."""


class Normalise(nn.Module):
    """Normalises images in [0, 1] as the ImageNet weights of a timm backbone expect."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str) -> None:
        super().__init__()
        expected = timm.get_pretrained_cfg(backbone)
        self.register_buffer("mean", torch.tensor(expected.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(expected.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) to the same shape."""
        return (image - self.mean) / self.std


class Encoder(nn.Module):
    """Maps image and prior to features at strides 2, 4, 8, 16 and 32.

    Parameters
    ----------
    spec
        `mixing` determines where Swin blocks are used: after `convolutions` stages (hybrid), nowhere, or from stride 4.
    prior_channels
        Channels of the prior that are fed in beside the image; 0 leaves the prior out.
    """

    def __init__(self, spec: NetSpec, prior_channels: int) -> None:
        super().__init__()
        convolutions = {Mixing.HYBRID: spec.convolutions, Mixing.CONVOLUTION: 5, Mixing.SWIN: 1}[spec.mixing]
        self.convolutional = efficientnet_stages(spec, convolutions)
        widen(self.convolutional, prior_channels)
        self.stages = list(range(convolutions))
        widths = [info["num_chs"] for info in self.convolutional.feature_info[:convolutions]]
        self.swin = nn.ModuleList()
        for stride in STRIDES[convolutions:]:
            self.swin.append(swin_stage(widths[-1], SWIN_WIDTHS[stride]))
            widths.append(SWIN_WIDTHS[stride])
        self.widths = tuple(widths)
        self.normalise = Normalise(spec.backbone)

    def forward(self, image: Tensor, prior: Tensor | None) -> list[Tensor]:
        """Return five feature maps (B, width, H/stride, W/stride) of an image in [0, 1]."""
        stacked = self.normalise(image)
        if prior is not None:
            stacked = torch.cat((stacked, prior), dim=1)
        features: list[Tensor] = self.convolutional.forward_intermediates(stacked, self.stages, intermediates_only=True)
        for stage in self.swin:
            deeper = stage(features[-1].permute(0, 2, 3, 1))
            features.append(deeper.permute(0, 3, 1, 2))
        return features


def efficientnet_stages(spec: NetSpec, stages: int) -> Any:
    """Create the first `stages` stages (strides 2, 4, ...) of a timm EfficientNet, pretrained if the spec says so.

    Raises
    ------
    InputError
        If weights are required but not installed, or timm does not know the backbone.
    """
    if not timm.is_model(spec.backbone):
        raise InputError(
            f"backbone {spec.backbone!r} is unknown to timm: name an EfficientNet such as tf_efficientnet_lite0"
        )
    model = timm.create_model(spec.backbone, num_classes=0)
    initialise(model, spec.backbone, spec.pretrained)
    model.prune_intermediate_layers(list(range(stages)), prune_norm=True)
    return model


def widen(model: Any, channels: int) -> None:
    """Let a model's first convolution take `channels` more inputs, with small weights that change its output little."""
    if channels == 0:
        return
    stem = model.conv_stem
    extra = torch.empty(stem.out_channels, channels, *stem.kernel_size).normal_(
        std=0.1 * float(stem.weight.detach().std())
    )
    stem.weight = nn.Parameter(torch.cat((stem.weight.detach(), extra), dim=1))
    stem.in_channels += channels


def swin_stage(width: int, out_width: int) -> nn.Module:
    """Create a stage that halves the resolution and applies two Swin blocks, the second with shifted windows."""
    stage: nn.Module = SwinTransformerStage(
        dim=width,
        out_dim=out_width,
        input_resolution=(2 * WINDOW, 2 * WINDOW),
        depth=2,
        num_heads=max(1, out_width // 32),
        window_size=WINDOW,
        always_partition=True,
        dynamic_mask=True,
        drop_path=0.05,
    )
    return stage
