"""ImageNet weights where they can be had, as `Pretrained` says; one policy for all networks."""

import logging
from collections.abc import Callable
from typing import TypeVar

from sgcldff.errors import InputError
from sgcldff.specs import Pretrained

logger = logging.getLogger(__name__)

T = TypeVar("T")


def initialise(backbone: str, policy: Pretrained, create: Callable[[bool], T]) -> T:
    """Create a network, pretrained if that is asked for and can be had.

    Parameters
    ----------
    backbone
        Its name, for messages.
    create
        Makes the network; called with whether it is to be pretrained.

    Raises
    ------
    InputError
        If weights are required and cannot be had.
    """
    if policy is Pretrained.OFF:
        return create(False)
    try:
        return create(True)
    except (OSError, RuntimeError) as error:
        if policy is Pretrained.REQUIRED:
            raise InputError(
                f"ImageNet weights of {backbone} cannot be had ({type(error).__name__}): "
                "go online once, or set pretrained to auto or off"
            ) from error
        logger.warning("no ImageNet weights for %s (offline?): starting from random ones", backbone)
        return create(False)
