"""How good a model is on images it never saw, with intervals.

Scores and their records, which take no network; `sgcldff.evaluation.evaluate` asks the models.
"""

from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.report import EvalReport, SetAside, UntypedLabel

__all__ = ["EvalReport", "Predictions", "SetAside", "UntypedLabel"]
