"""One start for all: ImageNet weights where every contender has them, otherwise random weights for every one."""

from collections.abc import Iterable
from dataclasses import replace

from sgcldff.core.errors import InputError
from sgcldff.core.settings import ModelSpec, NetSpec, Pretrained
from sgcldff.models.nets import build


def common_start(nets: Iterable[NetSpec], policy: Pretrained) -> Pretrained:
    """Give `required` where all networks can start from ImageNet weights, as far as their parts have such; else `off`.

    Raises
    ------
    InputError
        If the policy requires the weights and one network's cannot be had.
    """
    if policy is Pretrained.OFF:
        return Pretrained.OFF
    try:
        for net in nets:
            build(ModelSpec(net=replace(net, pretrained=Pretrained.REQUIRED)))
    except InputError:
        if policy is Pretrained.REQUIRED:
            raise
        return Pretrained.OFF
    return Pretrained.REQUIRED
