"""The specimens of a validation study, each with its reference counts and what the model found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sgcldff.core.errors import InputError
from sgcldff.core.labels import SUBTYPES
from sgcldff.core.records import UNIDENTIFIED, ModelRef
from sgcldff.core.settings import require
from sgcldff.core.wording import counted, first_few
from sgcldff.counting.differential import Differential, from_counts
from sgcldff.counting.reference_counts import ReferenceCount, ReferenceTable, cells_of, white_cells
from sgcldff.results.batch.summary import SUMMARY, SlideSummary

FEWEST_SPECIMENS = 10
"""Specimens below which nothing is computed."""
SPECIMENS, CELLS_EACH = 200, 200
"""Specimens of a study, and cells that each reader counts on one, as CLSI H20-A2 asks for."""


@dataclass(frozen=True)
class StudySpecimen:
    """A specimen that readers counted and the model read.

    Its slides are of the same blood, so that they say less than as many specimens: their cells are added up.
    """

    reference: ReferenceCount
    found: Differential
    adjusted: Mapping[str, float] = field(default_factory=dict)
    """Type -> share adjusted for the model's errors, where it is known of all slides."""

    @classmethod
    def of(cls, reference: ReferenceCount, slides: Sequence[Differential]) -> "StudySpecimen":
        """Add up what the model counted on slides of one specimen, at least one, all of them with the same classes."""
        counts = sum((Counter(slide.counts) for slide in slides), Counter[str]())
        found = from_counts(counts, slides[0].classes, slides[0].confidence) if len(slides) > 1 else slides[0]
        parts: dict[str, list[float]] = {share.label: [] for share in found.shares}
        for slide in slides:
            for share in slide.shares:
                if share.adjusted is not None:
                    parts[share.label].append(share.adjusted.share * slide.counted / found.counted)
        return cls(reference, found, {label: sum(one) for label, one in parts.items() if len(one) == len(slides)})


@dataclass(frozen=True)
class Study:
    """Specimens that one model read and two readers each counted."""

    model: ModelRef
    specimens: tuple[StudySpecimen, ...]
    left_out: tuple[str, ...]
    """Slides without results, with reasons."""

    @property
    def compared(self) -> tuple[str, ...]:
        """Types that both the readers and the model name, broader ones last."""
        found = self.specimens[0].found
        own = [share.label for share in found.shares if share.label in self.named]
        return (*own, *(group.label for group in found.groups if self.names(group.label)))

    @property
    def lacking(self) -> dict[str, int]:
        """Types that the readers counted and the model does not have -> specimens in which they were."""
        known = {
            *self.specimens[0].found.classes,
            *(group.label for group in self.specimens[0].found.groups),
            UNIDENTIFIED,
        }
        return {
            label: specimens
            for label in sorted(self.named - known)
            if (specimens := sum(cells_of(one.reference.pooled, label) > 0 for one in self.specimens))
        }

    @cached_property
    def named(self) -> set[str]:
        """All types that the readers name, counted or not."""
        return {label for one in self.specimens for count in one.reference.counts for label in count}

    def names(self, label: str) -> bool:
        """Return whether the readers name a type, or one of its subtypes."""
        return bool(self.named & {label, *SUBTYPES.get(label, ())})

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of all readers."""
        return tuple(sorted({reader for one in self.specimens for reader in one.reference.readers}))

    @property
    def flags(self) -> tuple[str, ...]:
        """What a laboratory has to know before it files the study."""
        number = len(self.specimens)
        cells = [white_cells(count) for one in self.specimens for count in one.reference.counts]
        short, few = (
            sum(each < CELLS_EACH for each in cells),
            sum(one.found.counted < CELLS_EACH for one in self.specimens),
        )
        lacking = ", ".join(f"{label} (in {counted(each, 'specimen')})" for label, each in self.lacking.items())
        told = {
            f"the readers counted types that this model does not recognise: {lacking}": bool(lacking),
            f"{counted(number, 'specimen')}: CLSI H20-A2 asks for at least {SPECIMENS}, half of them abnormal": number
            < SPECIMENS,
            f"{short} of {len(cells)} reference counts are of fewer than {CELLS_EACH} cells": short > 0,
            f"in {few} of {number} specimens the model counted fewer than {CELLS_EACH} cells": few > 0,
            f"slides left out: {first_few(self.left_out, 5)}": bool(self.left_out),
        }
        return tuple(text for text, holds in told.items() if holds)


def read_study(results: str | Path, table: ReferenceTable) -> Study:
    """Pair the results of slides with the counts of two readers.

    Parameters
    ----------
    results
        Folder of a batch: the `--out` of `sgcldff infer`.
    table
        The counts; slides without results are left out.

    Raises
    ------
    InputError
        If the table is invalid, fewer than `FEWEST_SPECIMENS` have both, or they were read with several models.
    """
    folder, found, left_out, models = Path(results), dict[str, Differential](), list[str](), list[ModelRef]()
    references = table.counts()
    for slide in (slide for count in references for slide in count.slides):
        if not (folder / slide / SUMMARY).is_file():
            left_out.append(f"{slide}: no results in {folder}")
            continue
        summary = SlideSummary.read(folder / slide)
        if summary.found is None or summary.model is None or not summary.found.counted:
            left_out.append(f"{slide}: {summary.reason or 'no cell was counted'}")
        else:
            found[slide] = summary.found
            models.append(summary.model)
    read = [count.specimen for count in references if found.keys() & {*count.slides}]
    if len(read) < FEWEST_SPECIMENS:
        raise InputError(
            f"{table.path}: {len(read)} of its specimens have results in {folder}: at least {FEWEST_SPECIMENS} are"
            f" needed; read more with `sgcldff infer`, and see that slide_id is the name of the slide's folder"
            f"{' (' + first_few(left_out) + ')' if left_out else ''}"
        )
    require_one_model(models, folder)
    named = table.counts(next(iter(found.values())).classes)
    parts = [(count, [found[slide] for slide in count.slides if slide in found]) for count in named]
    return Study(
        models[0], tuple(StudySpecimen.of(count, slides) for count, slides in parts if slides), tuple(left_out)
    )


def require_one_model(models: Sequence[ModelRef], folder: Path) -> None:
    """Raise `InputError` if results are of several models: a study validates one."""
    names = sorted({f"{model.name} version {model.version} ({model.digest})" for model in models})
    require(
        len(names) == 1, f"{folder}: read with several models, {', '.join(names)}: read all slides with one of them"
    )
