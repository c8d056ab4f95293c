"""The slides of a validation study, each with its reference counts and what the model found."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.labels import SUBTYPES
from sgcldff.core.records import UNIDENTIFIED, ModelRef
from sgcldff.core.settings import require
from sgcldff.core.wording import counted, first_few
from sgcldff.counting.differential import Differential
from sgcldff.counting.reference_counts import ReferenceCount, cells_of, read_reference_counts, white_cells
from sgcldff.results.batch.summary import SUMMARY, SlideSummary

FEWEST_SLIDES = 10
"""Slides below which nothing is computed."""
SLIDES, CELLS = 200, 200
"""Slides of a study, and cells that each reader counts on one, as CLSI H20-A2 asks for."""


@dataclass(frozen=True)
class StudySlide:
    """A slide that readers counted and the model read."""

    reference: ReferenceCount
    found: Differential


@dataclass(frozen=True)
class Study:
    """Slides that one model read and two readers each counted."""

    model: ModelRef
    slides: tuple[StudySlide, ...]
    left_out: tuple[str, ...]
    """Slides without results, with reasons."""

    @property
    def compared(self) -> tuple[str, ...]:
        """Types that both the readers and the model name, broader ones last."""
        found = self.slides[0].found
        own = [share.label for share in found.shares if share.label in self.named]
        return (*own, *(group.label for group in found.groups if self.names(group.label)))

    @property
    def lacking(self) -> dict[str, int]:
        """Types that the readers counted and the model does not have -> slides on which they were."""
        known = {*self.slides[0].found.classes, *(group.label for group in self.slides[0].found.groups), UNIDENTIFIED}
        return {
            label: slides
            for label in sorted(self.named - known)
            if (slides := sum(cells_of(slide.reference.pooled, label) > 0 for slide in self.slides))
        }

    @cached_property
    def named(self) -> set[str]:
        """All types that the readers name, counted or not."""
        return {label for slide in self.slides for count in slide.reference.counts for label in count}

    def names(self, label: str) -> bool:
        """Return whether the readers name a type, or one of its subtypes."""
        return bool(self.named & {label, *SUBTYPES.get(label, ())})

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of all readers."""
        return tuple(sorted({reader for slide in self.slides for reader in slide.reference.readers}))

    @property
    def flags(self) -> tuple[str, ...]:
        """What a laboratory has to know before it files the study."""
        number = len(self.slides)
        cells = [white_cells(count) for slide in self.slides for count in slide.reference.counts]
        short, few = sum(each < CELLS for each in cells), sum(slide.found.counted < CELLS for slide in self.slides)
        lacking = ", ".join(f"{label} (on {counted(slides, 'slide')})" for label, slides in self.lacking.items())
        told = {
            f"{number} slides: CLSI H20-A2 asks for at least {SLIDES}, half of them abnormal": number < SLIDES,
            f"{short} of {len(cells)} reference counts are of fewer than {CELLS} cells": short > 0,
            f"on {few} of {number} slides the model counted fewer than {CELLS} cells": few > 0,
            f"types that this model cannot tell were counted by the readers: {lacking}": bool(lacking),
            f"slides left out: {first_few(self.left_out, 5)}": bool(self.left_out),
        }
        return tuple(text for text, holds in told.items() if holds)


def read_study(results: str | Path, counts: str | Path) -> Study:
    """Pair the results of slides with the counts of two readers.

    Parameters
    ----------
    results
        Folder of a batch: the `--out` of `sgcldff infer`.
    counts
        Table as `read_reference_counts` reads it; slides without results are left out.

    Raises
    ------
    InputError
        If the table is invalid, fewer than `FEWEST_SLIDES` slides have both, or they were read with several models.
    """
    folder, slides, left_out, models = Path(results), list[StudySlide](), list[str](), list[ModelRef]()
    summaries = {}
    for count in read_reference_counts(counts):
        if not (folder / count.slide_id / SUMMARY).is_file():
            left_out.append(f"{count.slide_id}: no results in {folder}")
            continue
        summary = SlideSummary.read(folder / count.slide_id)
        if summary.found is None or summary.model is None or not summary.found.counted:
            left_out.append(f"{count.slide_id}: {summary.reason or 'no cell was counted'}")
        else:
            summaries[count.slide_id] = summary.found
            models.append(summary.model)
    if len(summaries) < FEWEST_SLIDES:
        raise InputError(
            f"{counts}: {len(summaries)} of its slides have results in {folder}: at least {FEWEST_SLIDES} are needed;"
            f" read more with `sgcldff infer`, and see that slide_id is the name of the slide's folder"
            f"{' (' + first_few(left_out) + ')' if left_out else ''}"
        )
    require_one_model(models, folder)
    classes = next(iter(summaries.values())).classes
    for count in read_reference_counts(counts, classes):
        if count.slide_id in summaries:
            slides.append(StudySlide(count, summaries[count.slide_id]))
    return Study(models[0], tuple(slides), tuple(left_out))


def require_one_model(models: Sequence[ModelRef], folder: Path) -> None:
    """Raise `InputError` if results are of several models: a study validates one."""
    names = sorted({f"{model.name} version {model.version} ({model.digest})" for model in models})
    require(
        len(names) == 1, f"{folder}: read with several models, {', '.join(names)}: read all slides with one of them"
    )
