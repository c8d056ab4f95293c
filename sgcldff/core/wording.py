"""Phrases that messages, tables and pages share."""

from collections.abc import Sequence
from datetime import UTC, datetime

PURPOSE = "research use only, not for diagnosis"
"""Stands in every result about a slide."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in singular or plural.

    Examples
    --------
    >>> counted(1, "slide"), counted(2000, "slide"), counted(2, "input is", "inputs are")
    ('1 slide', '2,000 slides', '2 inputs are')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def skipped(number: int, total: int, noun: str) -> str:
    """Return a phrase for how many were skipped and how many are done.

    Examples
    --------
    >>> skipped(1, 3, "slide"), skipped(3, 3, "slide")
    ('1 of 3 slides was skipped, the others are done', 'all 3 slides were skipped')
    """
    rest = "the other is" if total - number == 1 else "the others are"
    if number == total:
        return f"the only {noun} was skipped" if total == 1 else f"all {counted(total, noun)} were skipped"
    return f"{number:,} of {counted(total, noun)} {'was' if number == 1 else 'were'} skipped, {rest} done"


def percent(share: float) -> str:
    """Write a share, 0 to 1.

    Examples
    --------
    >>> percent(0.0125), percent(1)
    ('1.2 %', '100.0 %')
    """
    return f"{100 * share:.1f} %"


def any_of(nouns: Sequence[str]) -> str:
    """List things, in the plural, of which none or any is meant.

    Examples
    --------
    >>> any_of(["blast"]), any_of(["blast", "band neutrophil", "erythroblast"])
    ('blasts', 'blasts, band neutrophils or erythroblasts')
    """
    *others, last = [f"{noun}s" for noun in nouns]
    return f"{', '.join(others)} or {last}" if others else last


def moment(text: str) -> str:
    """Write a time, in ISO 8601, for readers.

    Examples
    --------
    >>> moment("2026-01-02T04:05:06+01:00")
    '2026-01-02 03:05 UTC'
    """
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def first_few(items: Sequence[object], most: int = 3) -> str:
    """List the first items, and how many more there are.

    Examples
    --------
    >>> first_few("abcde"), first_few("abc")
    ('a; b; c; and 2 more', 'a; b; c')
    """
    rest = [f"and {len(items) - most:,} more"] if len(items) > most else []
    return "; ".join([*map(str, items[:most]), *rest])
