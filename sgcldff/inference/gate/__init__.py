"""The gate: a look at a slide from afar that tells which places must be read, and where its cells can be counted."""

from sgcldff.inference.gate.gate import Gate
from sgcldff.inference.gate.smear_areas import BLOCK_UM, Area, AreaReference, smear_pixels
from sgcldff.inference.gate.threshold import Calibration, Recall, calibrate

__all__ = ["BLOCK_UM", "Area", "AreaReference", "Calibration", "Gate", "Recall", "calibrate", "smear_pixels"]
