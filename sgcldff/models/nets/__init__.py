"""Networks behind one call: `build(spec)` returns a module that maps images and priors to a `Prediction`.

To add a network, put one file into this package and decorate its builder with `register("name")`.
"""

import importlib
import pkgutil

from sgcldff.models.nets.base import NETWORKS, Prediction, build, builder, imagenet_origin, register

__all__ = ["NETWORKS", "Prediction", "build", "builder", "imagenet_origin", "register"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
