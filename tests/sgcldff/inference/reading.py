"""Reading a painted slide."""

from dataclasses import replace

from sgcldff.core.records import ModelRef
from sgcldff.inference import (
    plan_slide,
    run_plan,
    serially,
)
from tests.sgcldff.painted import (
    SPEC,
    ColourModel,
)

REFERENCE = ModelRef("stub", "7", "colours")


def inferred(slide, folder, spec=SPEC, model=None):
    model = model or ColourModel()
    known = "" if model.typicality is None else "known"
    plan = plan_slide(slide, model.spec, replace(REFERENCE, digest=model.digest), spec, folder, known)
    run_plan(plan, serially(model))
    return plan
