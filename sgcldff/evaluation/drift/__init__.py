"""Drift: distances of new images and cells from those that a model was trained on."""

from sgcldff.evaluation.drift.report import DriftFigure, DriftReport, measure_drift
from sgcldff.models.observations import Observations

__all__ = ["DriftFigure", "DriftReport", "Observations", "measure_drift"]
