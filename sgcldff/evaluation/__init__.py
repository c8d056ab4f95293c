"""Quality of a model on images it was not trained on, with confidence intervals.

Importing this package loads scores and reports only; `sgcldff.evaluation.evaluate` runs the models.
"""

from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.report import EvalReport, SkippedImage, UnknownLabel

__all__ = ["EvalReport", "Predictions", "SkippedImage", "UnknownLabel"]
