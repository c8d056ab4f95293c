"""Networks behind one call: `build(spec)` gives a module that maps images and priors to a `Prediction`.

A network is added in one file of this package: subclass nothing, decorate a builder with `register("name")`.
"""

from sgcldff.nets import baselines, sgcldff
from sgcldff.nets.prediction import Prediction, build, register

__all__ = ["Prediction", "baselines", "build", "register", "sgcldff"]
