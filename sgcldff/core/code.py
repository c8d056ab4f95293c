"""The code itself: its version, and where it lies."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
"""Folder of the package `sgcldff`."""

try:
    VERSION = version("sgcldff")
except PackageNotFoundError:  # run from a copy that travels with a model
    VERSION = "0+unpackaged"
