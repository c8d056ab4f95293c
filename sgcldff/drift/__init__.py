"""Drift: what a model's images and cells looked like when it was trained, and how far new ones are from that."""

from sgcldff.drift.observations import Observations
from sgcldff.drift.report import DriftFigure, DriftReport, compare

__all__ = ["DriftFigure", "DriftReport", "Observations", "compare"]
