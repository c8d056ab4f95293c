"""Both passes over all shards of a slide, by whatever runs tasks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.tally import Tally
from sgcldff.inference.classification import count_cells, read_cells, sample_shard, type_shard
from sgcldff.inference.label_images import ImageTask
from sgcldff.inference.outputs import CellRow
from sgcldff.inference.plan import Plan, Step, sample_facts
from sgcldff.inference.prefetch import timed
from sgcldff.inference.segmentation import read_areas, segment_shard
from sgcldff.models.runtimes import Runtime

SHARDS_PER_ROUND = 8
"""Shards of a sample that are read between two checks of the goal."""


@dataclass(frozen=True)
class ShardTask:
    """One pass over one shard."""

    plan: Plan
    step: Step
    index: int

    def __call__(self, runtime: Runtime) -> Tally:
        """Compute the shard, commit it and return the work done.

        Raises
        ------
        SlideError
            If the slide is damaged there.
        """
        return timed(lambda: PASSES[self.step](self.plan, self.index, runtime))


PASSES = {Step.SEGMENT: segment_shard, Step.TYPE: type_shard, Step.SAMPLE: sample_shard}


SlideTask = ShardTask | ImageTask
Runner = Callable[[Sequence[SlideTask]], Iterator[tuple[SlideTask, Tally | BaseException]]]
"""Runs tasks anywhere, in any order, and yields each with what it did or the exception that it ended in."""


def run_plan(plan: Plan, run: Runner, progress: Callable[[Tally], None] | None = None) -> None:
    """Take all shards through both passes; committed ones are skipped.

    Parameters
    ----------
    progress
        Called with the work of every pass over a shard.

    Raises
    ------
    Exception
        The first error of a shard, once the other shards of the pass are done: they need not be repeated.
    """
    for step in (Step.SEGMENT, Step.TYPE):
        run_tasks([ShardTask(plan, step, index) for index in plan.missing(step)], run, progress)


def run_sample(
    plan: Plan,
    run: Runner,
    enough: Callable[[Iterable[CellRow]], bool],
    progress: Callable[[Tally], None] | None = None,
) -> list[int]:
    """Read shards in random order until their cells are enough, or no shard is left; return those that were read.

    The order is drawn from the plan, and cells are checked after every `SHARDS_PER_ROUND` shards: the same plan reads
    the same shards, whatever runs them and however often it was stopped.

    Parameters
    ----------
    enough
        Called with all cells of the shards read so far.

    Raises
    ------
    Exception
        As `run_plan`.
    """
    order = [int(index) for index in np.random.default_rng(int(plan.segment_key, 16)).permutation(len(plan.grid))]
    for at in range(0, len(order), SHARDS_PER_ROUND):
        missing = [index for index in order[at : at + SHARDS_PER_ROUND] if not plan.is_committed(Step.SAMPLE, index)]
        run_tasks([ShardTask(plan, Step.SAMPLE, index) for index in missing], run, progress)
        if enough(read_cells(plan, Step.SAMPLE, order[: at + SHARDS_PER_ROUND])):
            return order[: at + SHARDS_PER_ROUND]
    return order


def run_tasks(tasks: Sequence[SlideTask], run: Runner, progress: Callable[[Tally], None] | None) -> None:
    """Run tasks and report each; the first error is raised when all have ended."""
    errors = []
    for _, outcome in run(tasks):
        if isinstance(outcome, BaseException):
            errors.append(outcome)
        elif progress is not None:
            progress(outcome)
    if errors:
        raise errors[0]


def serially(runtime: Runtime) -> Runner:
    """Run tasks one after the other in this process; an error ends the run."""

    def run(tasks: Iterable[SlideTask]) -> Iterator[tuple[SlideTask, Tally]]:
        return ((task, task(runtime)) for task in tasks)

    return run


def committed_work(plan: Plan) -> Tally:
    """Sum the work on the whole slide that earlier runs committed, without its times."""
    done = Tally()
    for index in range(len(plan.grid)):
        if (facts := plan.intact(Step.SEGMENT, index)) is not None:
            done += Tally(1, facts["tiles"], facts["skipped"])
        if (part := plan.intact(Step.TYPE, index)) is not None:
            done += Tally(1, cells=count_cells(plan, part))
    return done


def sampled_work(plan: Plan) -> Tally:
    """Sum the work on a sample that earlier runs committed; a shard counts as two passes."""
    done = Tally()
    for index in range(len(plan.grid)):
        if (part := plan.intact(Step.SAMPLE, index)) is not None:
            facts = sample_facts(part)
            done += Tally(2, int(facts["tiles"]), int(facts["skipped"]), count_cells(plan, part))
    return done


def slide_areas(plan: Plan) -> NDArray[np.uint8]:
    """Return the area of every block of a slide whose shards are all committed: codes of `Area`, (rows, columns)."""
    codes = np.zeros([-(-length // plan.block_px) for length in plan.grid.shape], np.uint8)
    for index in range(len(plan.grid)):
        areas = read_areas(plan, index)
        y, x = areas.corner
        codes[y : y + areas.codes.shape[0], x : x + areas.codes.shape[1]] = areas.codes
    return codes
