"""Saliency priors: training-free maps of where white blood cells are, behind one protocol and a registry.

A new prior is one file here: a class that follows `SaliencyPrior`, decorated with `register(name)`.
"""

import importlib
import pkgutil

from sgcldff.saliency.priors.registry import REGISTRY, Saliency, SaliencyPrior, register
from sgcldff.saliency.priors.stack import PriorStack, build

__all__ = ["REGISTRY", "PriorStack", "Saliency", "SaliencyPrior", "build", "register"]

USERS = ("gallery", "precompute")
"""Modules here that use priors and need Dask or Matplotlib; all others are imported, so that priors get registered."""

for _found in pkgutil.iter_modules(__path__):
    if _found.name not in USERS:
        importlib.import_module(f"{__name__}.{_found.name}")
