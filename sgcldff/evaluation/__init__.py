"""How good a model is on images it never saw, with intervals."""

from sgcldff.evaluation.evaluate import evaluate, examples
from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.scores import EvalReport, SetAside

__all__ = ["EvalReport", "Predictions", "SetAside", "evaluate", "examples"]
