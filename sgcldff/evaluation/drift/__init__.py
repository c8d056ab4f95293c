"""Drift: what a model's images and cells looked like when it was trained, and how far new ones are from that."""

from sgcldff.evaluation.drift.report import DriftFigure, DriftReport, compare
from sgcldff.models.observations import Observations

__all__ = ["DriftFigure", "DriftReport", "Observations", "compare"]
