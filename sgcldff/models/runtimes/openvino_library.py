"""Import of OpenVINO without telemetry."""

import importlib
import sys
from types import ModuleType
from typing import cast


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would otherwise send usage data over the network unasked."""
    sys.modules["openvino_telemetry"] = cast(ModuleType, None)
    return importlib.import_module("openvino")
