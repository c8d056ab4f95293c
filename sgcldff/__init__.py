"""White blood cells in stained smears: found, outlined, typed and counted (SG-CLDFF, arXiv 2510.17278)."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sgcldff")
except PackageNotFoundError:  # run from a copy that travels with a model
    __version__ = "0+unpackaged"
