"""Findings of the promotion rules, and the verdict that follows from them."""

from dataclasses import dataclass

ROUNDING = 1e-9
"""Tolerance of comparisons with a limit."""


@dataclass(frozen=True)
class Finding:
    """The result of one rule."""

    rule: str
    passed: bool
    text: str
    """A sentence with the figures."""
    champion: float | None = None
    """The champion's figure; None if the rule has none."""
    challenger: float | None = None
    figure: float | None = None
    """The figure that is compared with the limit: challenger minus champion, or the ratio of the two."""
    low: float | None = None
    """Lower end of the figure's interval; None if there is no interval."""
    high: float | None = None
    limit: float | None = None
    chance: float | None = None
    """Probability that a model as good as the champion keeps the rule; None if it is not known."""
    rare: bool = False
    """Too few cases to show what the rule asks for: a person has to agree."""


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger may become champion, and why."""

    findings: tuple[Finding, ...]

    @property
    def promote(self) -> bool:
        """Whether there are findings and all rules are kept."""
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    @property
    def rare(self) -> tuple[str, ...]:
        """Rules that so few cases cannot decide."""
        return tuple(finding.rule for finding in self.findings if finding.rare)

    @property
    def chance(self) -> float | None:
        """Probability, at most, that a model as good as the champion keeps all rules; None if it is not known."""
        return min((finding.chance for finding in self.findings if finding.chance is not None), default=None)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Texts of the broken rules or, if there are none, of all rules."""
        broken = tuple(finding.text for finding in self.findings if not finding.passed)
        return broken or tuple(finding.text for finding in self.findings)
