"""Sequential counting: go on until the intervals of named types are narrow enough, and keep them honest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sgcldff.core.errors import InputError, LabelError
from sgcldff.core.labels import canonical
from sgcldff.core.settings import require
from sgcldff.counting.differential import GOAL_FLAG, Differential, from_counts, widened_level

FEWEST_CELLS = 100
"""Counting never stops before."""
NARROWEST, WIDEST = 0.01, 0.3
"""Widths that may be asked for; the coverage below was computed for these."""


@dataclass(frozen=True)
class Goal:
    """How narrow the intervals of types' shares have to become before counting stops.

    Counting until an interval is narrow stops too early where chance made it narrow, with few cells of the type, so
    the plain interval covers the true share less often than its level. How often was computed exactly, for types of 0.2
    to 50 % and widths of 0.01 to 0.3, looking after every 20 cells from 100 on (`benchmarks/slides/stopping.py`): plain
    Clopper-Pearson intervals of 95 % hold in as few as 93.6 % of the counts (a type of 2 %, width 0.02), intervals of
    96 % in as few as 94.7 % (6.6 %, 0.06), of 96.5 % in at least 95.3 %. So intervals are taken at
    1 - 0.7 (1 - confidence), both to stop and to report; that costs about a sixth more cells. Looking after every
    cell or every 50, waiting for several types, and reporting types that were not waited for were found to be no worse.
    (J. Frey, The American Statistician 64, 2010, adjusts intervals of fixed width the same way.)

    Shards have to come in random order. That the cells of one shard are alike is allowed for by the design effect of
    the differential (`from_parts`), both to stop and to report.
    """

    widths: Mapping[str, float]
    """Type -> full width of its interval, 0 to 1."""

    def __post_init__(self) -> None:
        require(len(self.widths) > 0, "the goal is empty: give a type and a width, as in monocyte:0.05")
        for label, width in self.widths.items():
            fits = NARROWEST <= width <= WIDEST
            require(fits, f"goal {label}:{width}: give a width of {NARROWEST} to {WIDEST}, as in {label}:0.02")

    @classmethod
    def parse(cls, text: str, classes: Iterable[str] | None = None) -> "Goal":
        """Read "monocyte:0.05" or, for several types that all have to be reached, "monocyte:0.05,blast:0.02".

        Parameters
        ----------
        classes
            Types that are known; None takes every name.

        Raises
        ------
        LabelError
            If a type is unknown.
        InputError
            If the text is of another form, a type comes twice, or a width is out of range.
        """
        parts = [_part(text, part) for part in text.split(",")]
        goal = cls(dict(parts))
        require(len(goal.widths) == len(parts), f"goal {text!r} names a type twice: give each one width")
        known = goal.widths.keys() if classes is None else tuple(classes)
        if unknown := [label for label in goal.widths if label not in known]:
            raise LabelError(f"goal for {', '.join(unknown)}: unknown; the classes are {', '.join(known)}")
        return goal

    def reached(self, found: Differential) -> bool:
        """Return whether counting may stop: at least 100 cells, and every named type's interval is narrow enough.

        Raises
        ------
        LabelError
            If the differential lacks a named type.
        """
        shares = self._widened(found)
        narrow = all(shares[label].high - shares[label].low <= width for label, width in self.widths.items())
        return found.counted >= FEWEST_CELLS and narrow

    def _widened(self, found: Differential) -> Differential:
        """Return the same counts with intervals that allow for stopping when they are narrow."""
        interval = replace(found.interval, level=widened_level(found.confidence), goal=dict(self.widths))
        again = from_counts(found.counts, found.classes, found.confidence, found.excluded, interval)
        return replace(found, shares=again.shares, groups=again.groups, beside=again.beside, interval=interval)

    def settled(self, found: Differential) -> Differential:
        """Return a differential counted towards this goal with intervals that allow for it, flagged as such."""
        return replace(self._widened(found), flags=(*found.flags, self._flag(found)))

    def _flag(self, found: Differential) -> str:
        goal = " and ".join(
            f"the interval of {label} was at most {width:g} wide" for label, width in self.widths.items()
        )
        level = (
            f"intervals are taken at {100 * widened_level(found.confidence):g} % to hold {100 * found.confidence:g} %"
        )
        if self.reached(found):
            return (
                f"{GOAL_FLAG}stopped after {found.counted:,} cells, when {goal}; {level} of the time in spite of that"
            )
        return f"{GOAL_FLAG}was to stop when {goal}, which all cells together did not reach; {level} of the time"


def _part(text: str, part: str) -> tuple[str, float]:
    try:
        label, width = part.split(":")
        require(bool(label.strip()), "no type")
        return canonical(label), float(width)
    except ValueError as error:
        raise InputError(f"goal {text!r}: {part!r} is not a type and a width: write monocyte:0.05") from error
