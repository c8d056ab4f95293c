"""Size and computational cost of a network."""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sgcldff.core.settings import STRIDE, ModelSpec, Pretrained, require
from sgcldff.models.nets.base import build


def parameters(net: nn.Module) -> int:
    """Count the learned weights of a network, without buffers."""
    return sum(weight.numel() for weight in net.parameters())


def flops(net: nn.Module, side_px: int, priors: int = 1) -> int:
    """Count the floating-point operations of one image of `side_px` x `side_px` px in evaluation mode.

    A multiply-add counts as two operations. Convolutions, matrix products and attention are counted, as torch does;
    normalisation, activation and interpolation are not, nor is the computation of priors.

    Parameters
    ----------
    net
        A network, which is not changed.
    priors
        Channels of the prior that it takes.

    Raises
    ------
    InputError
        If the side is not a positive multiple of `STRIDE`.
    """
    valid = side_px > 0 and side_px % STRIDE == 0
    require(valid, f"side_px is {side_px}: must be a positive multiple of {STRIDE} px")
    copy = deepcopy(net).eval()
    weight = next(copy.parameters())
    image, prior = (weight.new_zeros(1, channels, side_px, side_px) for channels in (3, priors))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy(image, prior)
    return int(counter.get_total_flops())


def untrained(spec: ModelSpec) -> nn.Module:
    """Build a network with random weights, just to measure it; torch's random state is left unchanged."""
    with torch.random.fork_rng(devices=[]):
        return build(replace(spec, net=replace(spec.net, pretrained=Pretrained.OFF)))
