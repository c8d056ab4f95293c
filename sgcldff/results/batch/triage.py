"""Which slides of a batch need review, and why."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.wording import counted, percent
from sgcldff.counting.agreement import Agreement
from sgcldff.counting.alerts import WATCHED, nucleated_red_cells, possible_blasts, watched_cells
from sgcldff.counting.differential import FLAGS, MANY_EXCLUDED, MANY_UNIDENTIFIED, Differential
from sgcldff.counting.specimen import outside
from sgcldff.results.batch.summary import SlideSummary, classes_of

SMALL_USABLE = 0.1
"""Part of the smear that is usable below which a slide needs review."""
FAR = 3.5
"""Robust z-score beyond which a share is far outside of its batch (Iglewicz and Hoaglin 1993)."""
FEWEST_SLIDES = 8
"""Slides, each with `FEWEST_CELLS`, that make a batch with which a slide can be compared."""
FEWEST_CELLS = 100
"""Cells counted on a slide that takes part in that comparison."""


class Urgency(IntEnum):
    """How soon somebody should review a slide."""

    NONE = 0
    NOTE = 1
    LOOK = 2
    FIRST = 3


@dataclass(frozen=True)
class Reason:
    """Why a slide needs review."""

    urgency: Urgency
    text: str


@dataclass(frozen=True)
class TriagedSlide:
    """A slide and why it needs review, the most urgent reason first; none where the slide is unremarkable."""

    slide: SlideSummary
    reasons: tuple[Reason, ...]

    @property
    def urgency(self) -> Urgency:
        """Of the most urgent reason."""
        return max((reason.urgency for reason in self.reasons), default=Urgency.NONE)


def triage(slides: Iterable[SlideSummary], watched: Sequence[str] = WATCHED) -> tuple[TriagedSlide, ...]:
    """Decide which slides of a batch need review; they come first, and those that were skipped on top.

    A slide needs review that was skipped; whose red cells contradict its scale; that counted fewer than 100, 200 or 400
    cells; of which many cells were left unidentified or lie outside the usable area; whose usable area is small; with a
    cell of a watched type or a nucleated red cell; with a type outside the laboratory's reference interval; with many
    lymphocytes and monocytes where the model does not know blasts; that differs from a manual count, or has a type
    there that the model lacks; or of which a type's share lies far outside of the batch.
    """
    slides = tuple(slides)
    strange = outliers(slides)
    triaged = [TriagedSlide(slide, _reasons(slide, strange.get(slide.slide_id, ()), watched)) for slide in slides]
    triaged.sort(key=lambda one: (-one.urgency, one.slide.found is not None, -len(one.reasons), one.slide.slide_id))
    return tuple(triaged)


def _reasons(slide: SlideSummary, strange: Sequence[Reason], watched: Sequence[str]) -> tuple[Reason, ...]:
    if slide.found is None:
        return (Reason(Urgency.FIRST, f"skipped: {slide.reason}"),)
    reasons = [
        *_scale(slide.found),
        *_people(slide, watched),
        *(Reason(Urgency.FIRST, text) for text in watched_cells(slide.found, watched)),
        *(Reason(Urgency.LOOK, text) for text in (*nucleated_red_cells(slide.found), *possible_blasts(slide.found))),
        *_manual(slide.agreements),
        *(Reason(Urgency.LOOK, text) for text in outside((slide.reviewed or slide.found).laboratory.marks)),
        *_few(slide.found),
        *strange,
        *_left_out(slide.reviewed or slide.found),
        *_smear(slide.usable),
    ]
    return tuple(sorted(reasons, key=lambda reason: -reason.urgency))


def _scale(found: Differential) -> list[Reason]:
    doubt = found.scale.doubt if found.scale else ""
    return [Reason(Urgency.FIRST, doubt)] if doubt else []


def _people(slide: SlideSummary, watched: Sequence[str]) -> list[Reason]:
    """Say what people found on a slide, and what of their work does not belong to its present results."""
    standing, own = slide.standing, slide.reviewed
    named = watched_cells(own, watched) if own else []
    earlier = ["an earlier reading was reviewed: apply the reviews to this one"] if standing.earlier and not own else []
    return [
        *(Reason(Urgency.FIRST, f"after review, {text}") for text in named),
        *(Reason(Urgency.LOOK, fault) for fault in standing.damaged),
        *(Reason(Urgency.NOTE, text) for text in earlier),
    ]


def _few(found: Differential) -> list[Reason]:
    urgency = {100: Urgency.FIRST, 200: Urgency.LOOK}
    short = [limit for limit in sorted(FLAGS) if found.counted < limit][:1]
    return [
        Reason(urgency.get(limit, Urgency.NOTE), f"{counted(found.counted, 'cell')} counted, fewer than {limit}")
        for limit in short
    ]


def _manual(agreements: Sequence[Agreement]) -> list[Reason]:
    lacking = [
        f"{one.label} {percent(one.manual.share)} in the manual count, not a type of this model"
        for one in agreements
        if one.found is None
    ]
    differing = [
        f"{one.label} {percent(one.found.share)}, in the manual count {percent(one.manual.share)}: they differ"
        for one in agreements
        if one.found is not None and one.differs
    ]
    return [Reason(Urgency.FIRST, text) for text in (*lacking, *differing)]


def _left_out(found: Differential) -> list[Reason]:
    typed = found.counted + found.rejected
    unidentified, outside = found.rejected / max(typed, 1), found.excluded / max(typed + found.excluded, 1)
    many = Reason(Urgency.LOOK, f"{percent(unidentified)} of the cells are unidentified")
    beyond = Reason(Urgency.LOOK, f"{percent(outside)} of the cells lie outside the usable area")
    return [many] * (unidentified > MANY_UNIDENTIFIED) + [beyond] * (outside > MANY_EXCLUDED)


def _smear(usable: float | None) -> list[Reason]:
    if usable is None or usable >= SMALL_USABLE:
        return []
    return [Reason(Urgency.LOOK, f"only {percent(usable)} of the smear is usable")]


def outliers(slides: Sequence[SlideSummary]) -> Mapping[str, Sequence[Reason]]:
    """Find slides with a type whose share lies far outside of the batch; none in a batch that is too small.

    Shares are compared on the scale of the arc sine of their root, on which chance has the variance 1 / (4 n) whatever
    the share is (Anscombe, Biometrika 35, 1948). The distance from the batch's median is divided by the root of the
    squared scaled median absolute deviation plus that variance, so that chance alone does not flag a slide with few
    cells. A slide's farthest type comes first.
    """
    full = [slide for slide in slides if slide.found is not None and slide.found.counted >= FEWEST_CELLS]
    if len(full) < FEWEST_SLIDES:
        return {}
    scored = sorted((score for label in classes_of(full) for score in _scores(full, label)), key=lambda one: -one[0])
    far: dict[str, list[Reason]] = defaultdict(list)
    for score, slide_id, text in scored:
        if score > FAR:
            far[slide_id].append(Reason(Urgency.LOOK, text))
    return far


def _scores(slides: Sequence[SlideSummary], label: str) -> list[tuple[float, str, str]]:
    """Return each slide's distance from the batch in one type's share, its name, and the distance in words."""
    having = [(slide, share) for slide in slides for share in slide.shares if share.label == label]
    scores, usual = robust_z(*np.array([(share.share, slide.counted) for slide, share in having]).T)
    text = f"far from the batch's {percent(usual)}"
    return [
        (abs(float(score)), slide.slide_id, f"{label} {percent(share.share)}, {text}")
        for (slide, share), score in zip(having, scores, strict=True)
    ]


def robust_z(shares: NDArray[np.float64], counted: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Score how far shares, shape (S,), of so many cells each lie from their median; gives scores and median."""
    angles = np.arcsin(np.sqrt(shares))
    distances = angles - np.median(angles)
    spread = 1.4826 * np.median(np.abs(distances))
    return distances / np.sqrt(spread**2 + 1 / (4 * counted)), float(np.median(shares))
