"""Whether a challenger may replace the champion: rules, their findings, and the record of the decision."""

from typing import TYPE_CHECKING

import lazy_loader

from sgcldff.promotion.decision_record import Attribution, Basis, Decision, Outcome
from sgcldff.promotion.findings import Finding, Verdict
from sgcldff.promotion.frozen_test_set import FrozenTest
from sgcldff.promotion.rules import compare_models

if TYPE_CHECKING:
    from sgcldff.promotion.judgement import judge
else:  # a judgement runs models; registries, approvals and rollbacks do without torch
    __getattr__, _, _ = lazy_loader.attach(__name__, submod_attrs={"judgement": ["judge"]})

__all__ = [
    "Attribution",
    "Basis",
    "Decision",
    "Finding",
    "FrozenTest",
    "Outcome",
    "Verdict",
    "compare_models",
    "judge",
]
