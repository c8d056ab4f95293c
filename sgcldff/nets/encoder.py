"""EfficientSwin: EfficientNet stages for local detail, Swin blocks for context, features at strides 2 to 32.

After "EfficientSwin" as named by SG-CLDFF (arXiv 2510.17278), which leaves the split open. Here the convolutions go all
the way down, and Swin blocks (Liu et al., ICCV 2021) refine their features at strides 16 and 32, where attention is
cheap. Their branches begin at zero, so that the encoder begins as its convolutions (after Bachlechner et al., UAI
2021): trained from scratch on some hundred smears, Swin stages in the place of convolutions learned types far slower.
"""

from typing import Any, cast

import timm
import torch
from timm.models.swin_transformer import SwinTransformerStage
from torch import Tensor, nn

from sgcldff.errors import InputError
from sgcldff.nets.pretrained import initialise
from sgcldff.specs import Mixing, NetSpec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STRIDES = (2, 4, 8, 16, 32)
SWIN_WIDTHS = {2: 24, 4: 48, 8: 96, 16: 160, 32: 256}
CONTEXT_LEVELS = 2
"""Deepest levels that Swin blocks refine in the hybrid: strides 16 and 32."""
HEAD = 32
"""Channels of an attention head."""
WINDOW = 8
"""Side of an attention window, in positions: at stride 16, two cells' width."""


class Encoder(nn.Module):
    """Image and prior to features at strides 2, 4, 8, 16 and 32.

    Parameters
    ----------
    spec
        `mixing` says where Swin blocks stand: on top of the convolutions at strides 16 and 32 (hybrid), nowhere, or in
        the place of the convolutions from stride 4 on.
    prior_channels
        Channels of the prior that are fed beside the image; 0 leaves the prior out.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: NetSpec, prior_channels: int) -> None:
        super().__init__()
        convolutions = 1 if spec.mixing is Mixing.SWIN else len(STRIDES)
        self.convolutional = efficientnet(spec, convolutions)
        widen(self.convolutional, prior_channels)
        self.stages = list(range(convolutions))
        widths = [info["num_chs"] for info in self.convolutional.feature_info[:convolutions]]
        self.swin = nn.ModuleList()
        for stride in STRIDES[convolutions:]:
            self.swin.append(swin_stage(widths[-1], SWIN_WIDTHS[stride]))
            widths.append(SWIN_WIDTHS[stride])
        refined = widths[-CONTEXT_LEVELS:] if spec.mixing is Mixing.HYBRID else []
        self.context = nn.ModuleList(context(width) for width in refined)
        self.widths = tuple(widths)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, prior: Tensor | None) -> list[Tensor]:
        """Give five feature maps (B, width, H/stride, W/stride) of an image in [0, 1]."""
        seen = (image - self.mean) / self.std
        together = seen if prior is None else torch.cat((seen, prior), dim=1)
        features: list[Tensor] = self.convolutional.forward_intermediates(
            together, self.stages, intermediates_only=True
        )
        for stage in self.swin:
            deeper = stage(features[-1].permute(0, 2, 3, 1))
            features.append(deeper.permute(0, 3, 1, 2))
        plain, refined = features[:-CONTEXT_LEVELS], features[-CONTEXT_LEVELS:]
        return [*plain, *self._in_context(refined)]

    def _in_context(self, levels: list[Tensor]) -> list[Tensor]:
        if not len(self.context):
            return levels
        pairs = zip(self.context, levels, strict=True)
        return [refine(level.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for refine, level in pairs]


def efficientnet(spec: NetSpec, stages: int) -> Any:
    """Create the first `stages` stages (strides 2, 4, ...) of a timm EfficientNet, pretrained if that can be had.

    Raises
    ------
    InputError
        If weights are required and cannot be had, or timm does not know the backbone.
    """
    if not timm.is_model(spec.backbone):
        raise InputError(f"backbone {spec.backbone!r} is unknown to timm: name an EfficientNet such as efficientnet_b0")
    return initialise(
        spec.backbone, spec.pretrained, lambda weights: _features(spec.backbone, stages, pretrained=weights)
    )


def _features(backbone: str, stages: int, *, pretrained: bool) -> Any:
    model = timm.create_model(backbone, pretrained=pretrained, num_classes=0)
    model.prune_intermediate_layers(list(range(stages)), prune_norm=True)
    return model


def widen(model: Any, channels: int) -> None:
    """Let a model's first convolution take `channels` more inputs; what it computes is at first nearly as it was."""
    if channels == 0:
        return
    stem = model.conv_stem
    extra = torch.empty(stem.out_channels, channels, *stem.kernel_size).normal_(
        std=0.1 * float(stem.weight.detach().std())
    )
    stem.weight = nn.Parameter(torch.cat((stem.weight.detach(), extra), dim=1))
    stem.in_channels += channels


def swin_stage(width: int, out_width: int) -> nn.Module:
    """Mix with two Swin blocks, the second with shifted windows, at half the resolution if the width changes.

    Maps are (B, h, w, width), of any size.
    """
    stage: nn.Module = SwinTransformerStage(
        dim=width,
        out_dim=out_width,
        input_resolution=(2 * WINDOW, 2 * WINDOW),
        downsample=width != out_width,
        depth=2,
        num_heads=max(1, out_width // HEAD),
        head_dim=HEAD,
        window_size=WINDOW,
        always_partition=True,
        dynamic_mask=True,
        drop_path=0.05,
    )
    return stage


def context(width: int) -> nn.Module:
    """Give Swin blocks that keep width and resolution, and at first the features as they are."""
    blocks = swin_stage(width, width)
    for block in cast(Any, blocks).blocks:
        for last in (block.attn.proj, block.mlp.fc2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return blocks
