"""The same start for all candidates: ImageNet weights if all have them, otherwise random weights for all."""

from collections.abc import Iterable
from dataclasses import replace

from sgcldff.core.errors import InputError
from sgcldff.core.settings import ModelSpec, NetSpec, Pretrained
from sgcldff.models.nets import build


def common_start(nets: Iterable[NetSpec], policy: Pretrained) -> Pretrained:
    """Return `required` if all networks can start from ImageNet weights, as far as these exist; else `off`.

    Raises
    ------
    InputError
        If the policy requires the weights and one network's are not available.
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
