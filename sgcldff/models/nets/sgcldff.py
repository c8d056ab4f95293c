"""SG-CLDFF: saliency-guided cross-layer deep feature fusion (arXiv 2510.17278); `NetSpec` switches each part."""

from typing import Any, cast

import torch
from timm.layers import EcaModule
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from sgcldff.core.settings import ModelSpec
from sgcldff.models.nets.base import Prediction, register
from sgcldff.models.nets.encoder import Encoder

EMBEDDING = 128


class PriorGate(nn.Module):
    """Strengthens or weakens features by the prior: f (1 + tanh(conv(prior))), initially the identity."""

    def __init__(self, prior_channels: int, width: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(prior_channels, width, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(cast(Tensor, self.weigh.bias))

    def forward(self, features: Tensor, prior: Tensor) -> Tensor:
        """Gate features (B, width, h, w) by a prior (B, P, H, W), which is averaged down to (h, w)."""
        return features * (1 + torch.tanh(self.weigh(shrink(prior, features))))


class CrossLayerFusion(nn.Module):
    """Brings the features of all levels to stride 4 and fuses them by grouped convolutions and ECA.

    Based on ResNeXt-CC (10.1038/s41598-024-69076-1) and ECA-Net (Wang et al., CVPR 2020). Every level has a grouped
    convolution at its own resolution. The sum over the levels equals one grouped convolution of all their channels in
    which every group sees every level, but no map has to be enlarged before it is convolved.
    """

    def __init__(self, widths: tuple[int, ...], fused: int, groups: int, prior_channels: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, fused, 1, bias=False), nn.BatchNorm2d(fused)) for width in widths
        )
        self.gate = nn.ModuleList(PriorGate(prior_channels, fused) for _ in widths if prior_channels)
        self.group = nn.ModuleList(nn.Conv2d(fused, fused, 3, padding=1, groups=groups, bias=False) for _ in widths)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(fused),
            nn.SiLU(inplace=True),
            nn.Conv2d(fused, fused, 1, bias=False),
            nn.BatchNorm2d(fused),
            EcaModule(fused),
        )

    def forward(self, features: list[Tensor], prior: Tensor) -> Tensor:
        """Fuse maps (B, width, h, w) of different resolutions into (B, fused, H/4, W/4)."""
        size = (prior.shape[-2] // 4, prior.shape[-1] // 4)
        levels = [project(level) for project, level in zip(self.project, features, strict=True)]
        if len(self.gate):
            levels = [gate(level, prior) for gate, level in zip(self.gate, levels, strict=True)]
        grouped = [group(level) for group, level in zip(self.group, levels, strict=True)]
        return nn.functional.silu(self.mix(enlarged_sum(grouped, size)) + enlarged_sum(levels, size) / len(levels))


def enlarged_sum(levels: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Sum maps (B, channels, h, w) after enlarging them to a common size (H, W)."""
    first, *others = (interpolate(level, size=size, mode="bilinear", align_corners=False) for level in levels)
    for other in others:
        first = first + other
    return first


class SegmentationHead(nn.Module):
    """Refines fused features with those of stride 2, and separates background, cytoplasm and nucleus at full size."""

    def __init__(self, fused: int, detail: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(fused, 48, 1, bias=False), nn.BatchNorm2d(48), nn.SiLU(inplace=True))
        self.refine = nn.Sequential(
            nn.Conv2d(48 + detail, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.SiLU(inplace=True)
        )
        self.logits = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, fused: Tensor, detail: Tensor | None) -> Tensor:
        """Map (B, fused, H/4, W/4) and, if used, (B, detail, H/2, W/2) to logits (B, 3, H, W)."""
        coarse = interpolate(self.reduce(fused), scale_factor=2, mode="bilinear", align_corners=False)
        refined = self.refine(coarse if detail is None else torch.cat((coarse, detail), dim=1))
        return interpolate(self.logits(refined), scale_factor=2, mode="bilinear", align_corners=False)


class TypeHead(nn.Module):
    """Classifies the cell at the centre from features averaged with the evidence as weights.

    A Gaussian window at the centre, half a cell wide, keeps neighbours out of the average.
    """

    def __init__(self, fused: int, deep: int, classes: int, cell_px: float) -> None:
        super().__init__()
        self.look = nn.Conv2d(fused, 1, 1)
        self.embed = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(fused + deep, EMBEDDING), nn.BatchNorm1d(EMBEDDING), nn.SiLU(inplace=True)
        )
        self.tell = nn.Sequential(nn.Dropout(0.2), nn.Linear(EMBEDDING, classes))
        self.sigma = 0.5 * cell_px / 4

    def forward(self, fused: Tensor, deep: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return type logits (B, C), evidence (B, 1, h, w), embedding (B, EMBEDDING) and contribution (B, 1, h, w)."""
        evidence = torch.sigmoid(self.look(fused))
        weight = evidence * centre_window(evidence, self.sigma)
        coarse = shrink(weight, deep)
        pooled = torch.cat((weighted_mean(fused, weight), weighted_mean(deep, coarse)), dim=1)
        embedding = self.embed(pooled)
        logits = self.tell(embedding)
        if self.training:
            return logits, evidence, embedding, None
        gradients = torch.split(self.gradient(pooled, logits), [fused.shape[1], deep.shape[1]], dim=1)
        parts = [position_shares(*branch) for branch in zip((fused, deep), (weight, coarse), gradients, strict=True)]
        return logits, evidence, embedding, enlarged_sum(parts, (fused.shape[-2], fused.shape[-1])).relu()

    def gradient(self, pooled: Tensor, logits: Tensor) -> Tensor:
        """Return the gradient (B, fused + deep) of each image's highest logit with respect to the pooled features.

        Written out, since exported graphs have no automatic differentiation; for evaluation mode.
        """
        linear, norm, last = (cast(Any, layer) for layer in (self.embed[1], self.embed[2], self.tell[1]))
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        before = (linear(pooled) - norm.running_mean) * scale + norm.bias
        gate = torch.sigmoid(before)
        slope = gate * (1 + before * (1 - gate))
        return cast(Tensor, (last.weight[logits.argmax(dim=1)] * slope * scale) @ linear.weight)


def position_shares(features: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return what each position adds to a logit through a weighted mean: gradient times features times weight.

    HiResCAM (Draelos and Carin, arXiv 2011.08891) of pooled features. Values are divided by the area of a position, so
    that maps of different resolutions may be added.

    Parameters
    ----------
    features
        (B, channels, h, w).
    weight
        (B, 1, h, w).
    gradient
        Of the logit with respect to the mean, (B, channels).

    Returns
    -------
    Tensor
        (B, 1, h, w); its mean is the part of the logit that is linear in the features.
    """
    share = weight / weight.mean(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return (features * gradient[:, :, None, None]).sum(dim=1, keepdim=True) * share


class Branches(nn.Module):
    """The two maps that the type head reads, for Grad-CAM: aliases, since the deep features are also fused."""

    def forward(self, fused: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps unchanged."""
        return fused.view_as(fused), deep.view_as(deep)


def shrink(features: Tensor, like: Tensor) -> Tensor:
    """Average a map (B, channels, H, W) down to the resolution of `like`."""
    return adaptive_avg_pool2d(features, (like.shape[-2], like.shape[-1]))


def centre_window(like: Tensor, sigma: float) -> Tensor:
    """Return a Gaussian (h, w) of width `sigma` positions around the centre of a map (..., h, w)."""
    y, x = (torch.arange(side, device=like.device) - (side - 1) / 2 for side in like.shape[-2:])
    return torch.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2) / sigma**2).to(like.dtype)


def weighted_mean(features: Tensor, weight: Tensor) -> Tensor:
    """Average (B, C, h, w) over positions with weights (B, 1, h, w) into (B, C)."""
    return (features * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp_min(1e-6)


class SgCldff(nn.Module):
    """The whole network; see `sgcldff.models.nets.build`."""

    embedding_width = EMBEDDING
    outlines = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        net, priors = spec.net, len(spec.prior.names)
        self.prior_input = net.prior_input
        self.cross_layer = net.cross_layer_fusion
        self.encoder = Encoder(net, priors if net.prior_input else 0)
        _, *levels = self.encoder.widths
        fused_levels = tuple(levels) if self.cross_layer else (levels[-1],)
        gates = priors if net.prior_gate else 0
        self.fusion = CrossLayerFusion(fused_levels, net.fusion_width, net.cardinality, gates)
        self.segment = SegmentationHead(net.fusion_width, self.encoder.widths[0] if self.cross_layer else 0)
        cell_px = spec.prior.cell_um / spec.mpp
        self.branches = Branches()
        self.type_head = TypeHead(net.fusion_width, levels[-1], len(spec.labels.classes), cell_px)

    @property
    def cam_layer(self) -> nn.Module:
        """The fused and the deep features, from which the cell is classified."""
        return self.branches

    @property
    def type_layer(self) -> nn.Linear:
        """The last layer of the type head."""
        return cast(nn.Linear, self.type_head.tell[1])

    def forward(self, image: Tensor, prior: Tensor) -> Prediction:
        """Map images (B, 3, H, W) and priors (B, P, H, W), both in [0, 1], to a `Prediction`."""
        detail, *levels = self.encoder(image, prior if self.prior_input else None)
        fused = self.fusion(levels if self.cross_layer else levels[-1:], prior)
        cell_type, evidence, embedding, contribution = self.type_head(*self.branches(fused, levels[-1]))
        segmentation = self.segment(fused, detail if self.cross_layer else None)
        return Prediction(segmentation, cell_type, evidence, embedding, contribution)


@register("sgcldff")
def sgcldff(spec: ModelSpec) -> nn.Module:
    """Build SG-CLDFF."""
    return SgCldff(spec)
