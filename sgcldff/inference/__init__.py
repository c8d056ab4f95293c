"""A slide to typed cells, in two passes over shards that can be stopped and taken up anywhere.

First every shard is looked at from afar, and what may hold a white cell is segmented into one label array. Then cells
are cut out of that array, shard by shard with a margin, and typed; a cell belongs to the shard that its centre lies in,
so it counts once. A shard's result depends only on the plan: doing it again gives the same bytes, and what is committed
is never done again.
"""

from sgcldff.core.tally import Tally
from sgcldff.inference.classification import read_cells
from sgcldff.inference.plan import Plan, Step, label_array, plan_slide
from sgcldff.inference.runner import Runner, ShardTask, committed, run_plan, run_sample, sampled, serially, slide_areas

__all__ = [
    "Plan",
    "Runner",
    "ShardTask",
    "Step",
    "Tally",
    "committed",
    "label_array",
    "plan_slide",
    "read_cells",
    "run_plan",
    "run_sample",
    "sampled",
    "serially",
    "slide_areas",
]
