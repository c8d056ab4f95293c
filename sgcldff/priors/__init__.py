"""Saliency priors: training-free maps of where white blood cells are, behind one protocol and a registry.

A new prior is one file here: a class that follows `SaliencyPrior`, decorated with `register(name)`, imported below.
"""

from sgcldff.priors import frequency_tuned, mbplus, ramf, spectral_residual
from sgcldff.priors.registry import REGISTRY, Saliency, SaliencyPrior, register
from sgcldff.priors.stack import PriorStack, build

__all__ = [
    "REGISTRY",
    "PriorStack",
    "Saliency",
    "SaliencyPrior",
    "build",
    "frequency_tuned",
    "mbplus",
    "ramf",
    "register",
    "spectral_residual",
]
