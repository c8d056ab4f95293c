"""A model of odd classes, and its report."""

from dataclasses import replace

from sgcldff.core.labels import WBC5
from sgcldff.core.settings import EvalSpec, ModelSpec
from sgcldff.evaluation.metrics import Interval
from sgcldff.evaluation.predictions import Predictions, schema
from sgcldff.evaluation.report import EvalReport, Scores
from tests.small import SMALL

SPEC = ModelSpec(net=SMALL)
ODD = "a?b p%20q #1 'ü'"
"""A folder's name with what addresses give a meaning to."""


def report_of(accuracy: float) -> EvalReport:
    blank = dict.fromkeys(
        name for name, field in Scores.__dataclass_fields__.items() if "Interval" in str(field.type)
    ) | {"classes": (), "confusion": ()}
    scores = Scores(source="all", images=3, groups=3, typed=3, outlined=0, **blank)
    scores = replace(scores, accuracy=Interval(accuracy, 0.8, 0.9))
    table = Predictions(WBC5.classes, "abc", schema(WBC5.classes, "abc").empty_table())
    return EvalReport("abc", WBC5, "truth", EvalSpec(), scores, (scores,), (), table)
