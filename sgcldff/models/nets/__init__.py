"""Networks behind one call: `build(spec)` gives a module that maps images and priors to a `Prediction`.

A network is added in one file of this package: subclass nothing, decorate a builder with `register("name")`.
"""

import importlib
import pkgutil

from sgcldff.models.nets.base import REGISTRY, Prediction, build, builder, imagenet_origin, register

__all__ = ["REGISTRY", "Prediction", "build", "builder", "imagenet_origin", "register"]

for _found in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_found.name}")
