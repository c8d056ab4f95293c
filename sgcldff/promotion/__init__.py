"""Whether a challenger may replace the champion: rules, their findings, and the record of the decision."""

from sgcldff.promotion.decision_record import Decision, Evidence, Outcome, Signature
from sgcldff.promotion.findings import Finding, Verdict
from sgcldff.promotion.frozen_test_set import FrozenTest
from sgcldff.promotion.judgement import judge
from sgcldff.promotion.rules import compare_models

__all__ = [
    "Decision",
    "Evidence",
    "Finding",
    "FrozenTest",
    "Outcome",
    "Signature",
    "Verdict",
    "compare_models",
    "judge",
]
