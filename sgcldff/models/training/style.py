"""MixStyle (Zhou et al., ICLR 2021): images of a batch exchange parts of the style of their early features.

Mean and standard deviation of an early feature map depend on stain and light rather than on a cell's shape. Mixing
those of images of different data sets shows a network styles between and around them.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Beta

CONCENTRATION = 0.3
"""Both parameters of the beta distribution of the mixing weight: mostly, one of two styles dominates."""
SMALLEST = 1e-6
"""Added to variances, which may be 0."""


class StyleMixing:
    """A forward hook that mixes styles while training, in a share of the steps."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, layer: nn.Module, _inputs: object, features: Tensor) -> Tensor:
        """Return the features (B, channels, h, w) of a layer in mixed styles; unchanged in evaluation mode."""
        if not layer.training or torch.rand(()) >= self.share:
            return features
        return mix_styles(features)


def mix_styles(features: Tensor) -> Tensor:
    """Replace each image's mean and standard deviation by a random mixture with those of another image of the batch.

    Parameters
    ----------
    features
        (B, channels, h, w). No gradient flows through the statistics.

    Returns
    -------
    Tensor
        Like `features`.
    """
    exact = features.float()
    variance, mean = torch.var_mean(exact.detach(), dim=(2, 3), keepdim=True)
    spread = torch.sqrt(variance + SMALLEST)
    partner = torch.randperm(len(features))
    weight = Beta(CONCENTRATION, CONCENTRATION).sample((len(features), 1, 1, 1)).to(exact.device)
    new_spread = weight * spread + (1 - weight) * spread[partner]
    new_mean = weight * mean + (1 - weight) * mean[partner]
    return ((exact - mean) / spread * new_spread + new_mean).to(features.dtype)
