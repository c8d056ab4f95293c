"""Which optional packages a command needs."""

from importlib.metadata import requires

from packaging.requirements import Requirement

DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Modules that are not named as the package that provides them."""


def extra_with(module: str | None) -> str | None:
    """Return the extra of sgcldff that provides a module; None if none does."""
    top = (module or "").partition(".")[0]
    package = DISTRIBUTIONS.get(top, top.replace("_", "-"))
    for requirement in map(Requirement, requires("sgcldff") or ()):
        if requirement.name.lower() == package and requirement.marker is not None:
            for extra in ("training", "tracking", "openvino", "s3", "geo"):
                if requirement.marker.evaluate({"extra": extra}):
                    return extra
    return None
