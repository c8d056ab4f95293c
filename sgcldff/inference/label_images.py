"""The label image of cells, and the coarser levels of both label images, as tasks for whatever runs them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.tally import Tally
from sgcldff.inference.instances import REACH_UM
from sgcldff.inference.outputs import Halving, ShardFiles, create_instances, paint_shard, write_labels_ngff
from sgcldff.inference.plan import Plan, Step, opened
from sgcldff.inference.prefetch import Stopwatch, timed
from sgcldff.models.runtimes import Runtime
from sgcldff.slides import ScaledSlide


@dataclass(frozen=True)
class ImageTask:
    """Makes one shard of a level of a label image."""

    step: Step
    index: int
    """Among the tasks that run at once."""
    work: Callable[[], None]

    def __call__(self, runtime: Runtime) -> Tally:
        """Write the shard and return the time that it took."""
        watch = Stopwatch()

        def work() -> Tally:
            with watch(str(self.step)):
                self.work()
            return Tally(seconds=watch.seconds)

        return timed(work)


def write_label_images(
    plan: Plan,
    step: Step,
    cells: Mapping[int, int],
    overview: tuple[Rgb, float],
    execute: Callable[[Sequence[ImageTask]], None],
) -> None:
    """Write the label image of cells, the coarser levels of both label images, and their metadata.

    Parameters
    ----------
    step
        The step that committed the cells.
    cells
        Shard -> number of its cells, in the order in which cells are numbered.
    overview
        The slide seen small, and its um/px.
    execute
        Runs tasks that do not depend on each other, to the end.
    """
    files, grid = create_instances(plan.labels, plan.label_files), plan.grid
    margin = math.ceil(REACH_UM / plan.model.mpp)
    before = dict(zip(cells, accumulate(cells.values(), initial=0), strict=False))
    work: list[Callable[[], None]] = []
    for index in range(len(grid)):
        near = {shard: before[shard] for shard in grid.touched(grid.shard(index).grow(margin)) if cells.get(shard)}
        if near:
            work.append(partial(paint_cells, plan, step, files, index, near))
    execute([ImageTask(Step.WRITE, at, one) for at, one in enumerate(work)])

    def halve(halvings: Sequence[Halving]) -> None:
        execute([ImageTask(Step.PYRAMID, at, one) for at, one in enumerate(halvings)])

    write_labels_ngff(plan.labels, plan.model.mpp, *overview, halve)


def paint_cells(plan: Plan, step: Step, files: ShardFiles, index: int, before: Mapping[int, int]) -> None:
    """Write a shard of the label image of cells.

    Parameters
    ----------
    before
        Shards whose cells may reach into this one -> cells numbered before the first of theirs.
    """
    factor, shard = ScaledSlide(opened(plan.slide), plan.model.mpp).factor, plan.grid.shard(index)

    def reaching() -> Iterator[tuple[int, NDArray[np.float64]]]:
        for near, first in sorted(before.items(), key=lambda item: item[1]):
            part = plan.part(step, near)
            y0, x0, y1, x1 = (part[name].to_numpy() / factor for name in ("y0", "x0", "y1", "x1"))
            inside = (y0 < shard.y1) & (y1 > shard.y0) & (x0 < shard.x1) & (x1 > shard.x0)
            for row in np.nonzero(inside)[0]:
                yield first + int(row) + 1, part["outline"][int(row)].values.to_numpy().reshape(-1, 2) / factor

    paint_shard(files, *plan.grid.place(index), reaching())
