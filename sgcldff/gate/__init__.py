"""The gate: a look at a slide from afar that tells which places must be read, and where its cells can be counted."""

from sgcldff.gate.areas import BLOCK_UM, Area, AreaReference, smear_pixels
from sgcldff.gate.calibration import Calibration, Recall, calibrate
from sgcldff.gate.gate import Gate

__all__ = ["BLOCK_UM", "Area", "AreaReference", "Calibration", "Gate", "Recall", "calibrate", "smear_pixels"]
