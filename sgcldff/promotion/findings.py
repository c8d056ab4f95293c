"""What the rules of promotion found."""

from dataclasses import dataclass

ROUNDING = 1e-9
"""By which a figure may miss its limit."""


@dataclass(frozen=True)
class Finding:
    """What one rule saw, and whether it was kept."""

    rule: str
    passed: bool
    text: str
    """A sentence with the figures."""
    champion: float | None = None
    """The champion's figure; None where the rule has none."""
    challenger: float | None = None
    figure: float | None = None
    """What is held against the limit: challenger less champion, or challenger as a multiple of the champion."""
    low: float | None = None
    """Lower end of the figure's interval; None where none can be given."""
    high: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger may become champion, and why."""

    findings: tuple[Finding, ...]

    @property
    def promote(self) -> bool:
        """Whether there are findings and all rules were kept."""
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What was against the challenger; where nothing was, what all rules found."""
        against = tuple(finding.text for finding in self.findings if not finding.passed)
        return against or tuple(finding.text for finding in self.findings)
