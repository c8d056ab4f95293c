"""A slide to typed cells."""

from sgcldff.inference.plan import (
    Plan,
    Runner,
    ShardTask,
    Step,
    label_array,
    plan_slide,
    read_cells,
    run_plan,
    serially,
)
from sgcldff.inference.tally import Tally

__all__ = [
    "Plan",
    "Runner",
    "ShardTask",
    "Step",
    "Tally",
    "label_array",
    "plan_slide",
    "read_cells",
    "run_plan",
    "serially",
]
