"""What reading slides will take, before they are read."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from tempfile import TemporaryDirectory
from time import perf_counter

from sgcldff.core.settings import InferSpec
from sgcldff.core.wording import counted
from sgcldff.inference import Estimate, estimate_plan, plan_slide
from sgcldff.models.checkpoint import SPEC_FILE, read_spec
from sgcldff.models.reference import reference_digest
from sgcldff.models.runtimes import load_runtime, resolve
from sgcldff.registry import ChosenModel
from sgcldff.slides import SlideEntry, open_slide
from tasks.progress import in_words

START_S = 5.0
"""From the command to the first pixel, s."""
SHARED_CORES = 1.1
"""How much longer work takes beside other processes; from 1.0 on cores of their own to 1.2 where two share one."""


def estimate_slides(
    entries: Sequence[SlideEntry], model: ChosenModel, spec: InferSpec
) -> Iterator[tuple[SlideEntry, Estimate]]:
    """Yield what reading each slide will take on a machine like this one; nothing is kept.

    Raises
    ------
    InputError
        If a slide cannot be read.
    """
    engine, precision = resolve(spec.engine, spec.precision)
    used, network = replace(spec, engine=engine, precision=precision), read_spec(model.folder / SPEC_FILE)
    runtime = load_runtime(str(model.folder), engine, precision)
    for entry in entries:
        began = perf_counter()
        with (
            TemporaryDirectory(prefix="sgcldff-") as folder,
            closing(open_slide(entry.uri, entry.mpp, entry.id)) as slide,
        ):
            plan = plan_slide(slide, network, model.model, used, folder, reference_digest(str(model.folder)))
            seen = perf_counter() - began
            estimate = estimate_plan(plan, runtime)
        yield entry, replace(estimate, alone_s=estimate.alone_s + seen)


def in_a_line(slide: str, estimate: Estimate, workers: int | None) -> str:
    """Describe what reading a slide will take with so many processes; None: one per core."""
    count = max(1, workers if workers is not None else os.cpu_count() or 1)
    of = f"{estimate.tiles:,} of {estimate.tiles + estimate.skipped:,} tiles ({estimate.share:.1%})"
    slowed = SHARED_CORES if count > 1 else 1.0
    seconds = START_S + estimate.alone_s + slowed * estimate.core_s / count
    time = f"about {in_words(seconds)} with {counted(count, 'process', 'processes')}"
    return (
        f"{slide}: {of}, about {counted(estimate.cells, 'cell')}; {time}, {estimate.memory_mb:,.0f} MB of memory each; "
        f"{estimate.disk_mb:,.0f} MB on disk"
    )
