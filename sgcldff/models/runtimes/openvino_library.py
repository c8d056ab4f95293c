"""The library that runs graphs, as this package imports it."""

import importlib
import sys
from types import ModuleType
from typing import cast


def import_openvino() -> ModuleType:
    """Import OpenVINO without its reports of use, which it else sends over the network without asking."""
    sys.modules["openvino_telemetry"] = cast(ModuleType, None)
    return importlib.import_module("openvino")
