"""Saliency priors: training-free maps of where white blood cells are, behind one protocol and a registry.

To add a prior, put one file here: a class that implements `SaliencyPrior`, decorated with `register(name)`.
"""

import importlib
import pkgutil

from sgcldff.saliency.priors.registry import PRIORS, PriorStack, Saliency, SaliencyPrior, build, register

__all__ = ["PRIORS", "PriorStack", "Saliency", "SaliencyPrior", "build", "register"]

NOT_PRIORS = ("gallery", "precompute")
"""Modules that only use priors, and need Dask or Matplotlib; all others are imported to register their priors."""

for _module in pkgutil.iter_modules(__path__):
    if _module.name not in NOT_PRIORS:
        importlib.import_module(f"{__name__}.{_module.name}")
