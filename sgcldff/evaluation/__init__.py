"""How good a model is on images it never saw, with intervals, and whether it may replace another."""

from sgcldff.evaluation.evaluate import evaluate, examples
from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.scores import EvalReport, SetAside
from sgcldff.evaluation.verdict import Verdict, compare

__all__ = ["EvalReport", "Predictions", "SetAside", "Verdict", "compare", "evaluate", "examples"]
