"""How large a network is and how much it computes."""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sgcldff.core.settings import STRIDE, ModelSpec, Pretrained, require
from sgcldff.models.nets.base import build


def parameters(net: nn.Module) -> int:
    """Count the learned weights that a network holds; buffers are none."""
    return sum(weight.numel() for weight in net.parameters())


def flops(net: nn.Module, side_px: int, priors: int = 1) -> int:
    """Count the floating-point operations of one image of `side_px` x `side_px` px in evaluation mode.

    A multiply-add is two operations. Convolutions, matrix products and attention count, as torch counts them;
    normalisations, activations and interpolation do not. Priors are not of the network.

    Parameters
    ----------
    net
        A network, which is left as it is.
    priors
        Channels of the prior that it takes.

    Raises
    ------
    InputError
        If the side is no positive multiple of `STRIDE`.
    """
    legal = side_px > 0 and side_px % STRIDE == 0
    require(legal, f"side_px is {side_px}: must be a positive multiple of {STRIDE} px")
    asked = deepcopy(net).eval()
    weight = next(asked.parameters())
    image, prior = (weight.new_zeros(1, channels, side_px, side_px) for channels in (3, priors))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        asked(image, prior)
    return int(counter.get_total_flops())


def untrained(spec: ModelSpec) -> nn.Module:
    """Build a network for its size alone: with random weights, and without a step of the random numbers of others."""
    with torch.random.fork_rng(devices=[]):
        return build(replace(spec, net=replace(spec.net, pretrained=Pretrained.OFF)))
