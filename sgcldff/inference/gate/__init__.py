"""The gate: a low-power look at a slide that decides which places are read, and where cells can be counted."""

from sgcldff.inference.gate.gate import Gate
from sgcldff.inference.gate.smear_areas import Area, Blocks, block_px, smear_pixels
from sgcldff.inference.gate.threshold import ChosenThreshold, Recall, choose_threshold

__all__ = [
    "Area",
    "Blocks",
    "ChosenThreshold",
    "Gate",
    "Recall",
    "block_px",
    "choose_threshold",
    "smear_pixels",
]
