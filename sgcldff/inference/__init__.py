"""From a slide to classified cells, in two passes over shards that can be stopped and resumed at any point.

The first pass looks at every shard at low power and segments the places that may hold a white cell into one label
array. The second pass finds the cells in that array, shard by shard with a margin, and classifies them; a cell belongs
to the shard that contains its centre, so it is counted once. The result of a shard depends only on the plan: computing
it again gives the same bytes, and a committed shard is never computed again.
"""

from sgcldff.core.tally import Tally
from sgcldff.inference.classification import read_cells
from sgcldff.inference.estimate import Estimate, estimate_plan
from sgcldff.inference.given_cells import keep_outlines, read_outlines
from sgcldff.inference.label_images import write_label_images
from sgcldff.inference.plan import Plan, Step, label_array, plan_slide
from sgcldff.inference.prefetch import Stopwatch, this_worker
from sgcldff.inference.runner import (
    Runner,
    ShardTask,
    SlideTask,
    committed_work,
    run_plan,
    run_sample,
    run_tasks,
    sampled_work,
    serially,
    slide_areas,
)

__all__ = [
    "Estimate",
    "Plan",
    "Runner",
    "ShardTask",
    "SlideTask",
    "Step",
    "Stopwatch",
    "Tally",
    "committed_work",
    "estimate_plan",
    "keep_outlines",
    "label_array",
    "plan_slide",
    "read_cells",
    "read_outlines",
    "run_plan",
    "run_sample",
    "run_tasks",
    "sampled_work",
    "serially",
    "slide_areas",
    "this_worker",
    "write_label_images",
]
