"""Losses of SG-CLDFF for targets that are sets of allowed classes.

For a set A of allowed classes, the cross-entropy is -ln sum_{k in A} p_k (the superset-label loss of Cour et al., JMLR
2011). One class gives the usual cross-entropy; all classes, a missing target, give 0 and no gradient.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from sgcldff.core.label_codes import MAY_BE_BACKGROUND
from sgcldff.core.labels import LabelSpace
from sgcldff.core.settings import LossSpec
from sgcldff.models.nets import Prediction

SEGMENTATION_WEIGHTS = (0.6, 1.2, 1.2)
"""Weights of background, cytoplasm and nucleus: cells cover less of a smear than background."""


@dataclass(frozen=True)
class LossTerms:
    """Weighted terms of one batch, scalars; `total` is minimised."""

    segmentation: Tensor
    cell_type: Tensor
    alignment: Tensor
    centre: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of the terms."""
        return self.segmentation + self.cell_type + self.alignment + self.centre


def allowed_from_bits(target: Tensor, classes: int = 3) -> Tensor:
    """Unpack bits (B, H, W) uint8 into masks (B, classes, H, W) bool."""
    bits = 2 ** torch.arange(classes, device=target.device, dtype=torch.uint8)
    return (target[:, None] & bits[None, :, None, None]) > 0


def set_cross_entropy(logits: Tensor, allowed: Tensor, weights: Tensor) -> Tensor:
    """Average -ln sum_{k in A} p_k over the elements that exclude some class.

    Parameters
    ----------
    logits
        (B, K, ...).
    allowed
        bool, as `logits`; at least one class everywhere.
    weights
        (K,); an element weighs the mean weight of its allowed classes.

    Returns
    -------
    Tensor
        Scalar; exactly 0, without a gradient, if no element excludes a class.
    """
    p, mask = logits.float().softmax(dim=1), allowed.float()
    members = mask.sum(dim=1)
    cost = -(p * mask).sum(dim=1).clamp_min(torch.finfo(p.dtype).tiny).log()
    weight = (weights.view(1, -1, *[1] * (logits.ndim - 2)) * mask).sum(dim=1) / members
    weight = weight * (members < mask.shape[1])
    return (cost * weight).sum() / weight.sum().clamp_min(1e-6)


def soft_dice(logits: Tensor, allowed: Tensor) -> Tensor:
    """Average 1 - Dice over classes and images (Milletari et al. 2016), each over the pixels where it is decided.

    A class is decided where it is the only one allowed, or not allowed: in the mask of an entire cell, background is
    ruled out, while cytoplasm and nucleus stay open. A class that is decided nowhere in an image is not averaged.
    """
    mask = allowed.float()
    known = (~allowed | (mask.sum(dim=1, keepdim=True) == 1)).float()
    p, t = logits.float().softmax(dim=1) * known, mask * known
    overlap = 2 * (p * t).sum(dim=(2, 3)) + 1
    dice = overlap / (p.sum(dim=(2, 3)) + t.sum(dim=(2, 3)) + 1)
    decided = (known.sum(dim=(2, 3)) > 0).float()
    return ((1 - dice) * decided).sum() / decided.sum().clamp_min(1)


def alignment(evidence: Tensor, prior: Tensor, target: Tensor) -> Tensor:
    """Pull evidence onto the prior and off the background.

    1 - soft Dice of evidence and mean prior, plus the share of background that shows evidence. The paper leaves the
    form open. The prior counts as 0 where a mask says background, since it may be wrong there. Images whose prior is 0
    everywhere were not shown a prior and do not count.

    Parameters
    ----------
    evidence
        (B, 1, h, w) in [0, 1].
    prior
        (B, P, H, W) in [0, 1].
    target
        uint8 bits, (B, H, W).
    """
    background = (target == MAY_BE_BACKGROUND).float()[:, None]
    size = (evidence.shape[-2], evidence.shape[-1])
    guide = adaptive_avg_pool2d(prior.mean(dim=1, keepdim=True) * (1 - background), size)
    off = adaptive_avg_pool2d(background, size)
    evidence = evidence.float()
    dice = (2 * (evidence * guide).sum(dim=(1, 2, 3)) + 1) / ((evidence**2 + guide**2).sum(dim=(1, 2, 3)) + 1)
    stray = (evidence * off).sum(dim=(1, 2, 3)) / off.sum(dim=(1, 2, 3)).clamp_min(1)
    shown = (prior.amax(dim=(1, 2, 3)) > 0).float()
    return ((1 - dice + stray) * shown).sum() / shown.sum().clamp_min(1)


class CentreLoss(nn.Module):
    """Distance of unit-length embeddings from their class's learned centre (Wen et al., ECCV 2016)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(normalize(torch.randn(classes, width), dim=1))

    def forward(self, embedding: Tensor, allowed: Tensor) -> Tensor:
        """Average the squared distance over the examples (B, D) whose class is certain; 0 if there are none."""
        certain = (allowed.sum(dim=1) == 1).float()
        own = allowed.float() @ self.centres
        squared = ((normalize(embedding.float(), dim=1) - own) ** 2).sum(dim=1)
        return (squared * certain).sum() / certain.sum().clamp_min(1)


def class_weights(labels: Iterable[str | None], space: LabelSpace, beta: float = 0.999) -> Tensor:
    """Weight classes by the inverse of their effective number of samples (Cui et al., CVPR 2019), mean 1.

    A coarse label counts equally towards all its classes; a class without samples gets weight 1.
    """
    counts = torch.zeros(len(space.classes), dtype=torch.float64)
    for label, n in Counter(label for label in labels if label is not None).items():
        allowed = torch.from_numpy(space.allowed(label))
        counts += n * allowed / allowed.sum()
    effective = (1 - beta**counts) / (1 - beta)
    seen = counts > 0
    weights = torch.ones_like(counts)
    weights[seen] = 1 / effective[seen]
    weights[seen] /= weights[seen].mean().clamp_min(1e-12)
    return weights.float()


class SmearLoss(nn.Module):
    """All loss terms of SG-CLDFF; those with weight 0 are not computed.

    Parameters
    ----------
    spec
        Weights of the terms.
    weights
        Class weights (C,) of the classification term.
    embedding
        Width of the embeddings.
    """

    weights: Tensor
    segmentation_weights: Tensor

    def __init__(self, spec: LossSpec, weights: Tensor, embedding: int) -> None:
        super().__init__()
        self.spec = spec
        ones = torch.ones(3)
        areas = torch.tensor(SEGMENTATION_WEIGHTS) if spec.class_weighting else ones
        self.register_buffer("segmentation_weights", areas, persistent=False)
        self.register_buffer("weights", weights if spec.class_weighting else torch.ones_like(weights), persistent=False)
        self.centre = CentreLoss(len(weights), embedding) if spec.centre else None

    def forward(self, prediction: Prediction, prior: Tensor, target: Tensor, allowed: Tensor) -> LossTerms:
        """Compare a prediction with targets: bits (B, H, W) and allowed types (B, C)."""
        spec, pixels = self.spec, allowed_from_bits(target)
        logits = prediction.segmentation.float().contiguous()
        outlines = set_cross_entropy(logits, pixels, self.segmentation_weights)
        outlines = outlines + soft_dice(logits, pixels)
        types = set_cross_entropy(prediction.cell_type, allowed, self.weights)
        zero = outlines.new_zeros(())
        aligned = alignment(prediction.evidence, prior, target) if spec.alignment else zero
        centred = self.centre(prediction.embedding, allowed) if self.centre else zero
        return LossTerms(
            spec.segmentation * outlines, spec.cell_type * types, spec.alignment * aligned, spec.centre * centred
        )
