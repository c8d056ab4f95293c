"""The record of a decision: who, when, on which data, with which figures and reasons."""

import getpass
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sgcldff.core.errors import PromotionRefusedError, StoreError
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import digest
from sgcldff.promotion.findings import Finding, Verdict

COLUMNS = ("rule", "kept", "champion", "challenger", "figure", "interval", "limit")
"""Heads of `finding_cells`."""


class Outcome(StrEnum):
    """What was decided of a version."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    WAITING = "waiting for approval"
    REJECTED = "rejected"
    """By a person."""
    WITHDRAWN = "withdrawn"
    """It was champion until the former one was put back."""
    RESTORED = "restored"
    """It was put back."""


HELD = (Outcome.REJECTED, Outcome.WITHDRAWN)
"""Outcomes by a person, after which a version is judged again only where a person asks for it."""


@dataclass(frozen=True)
class Signature:
    """Who decided, and when."""

    by: str
    """A person, or the account that ran the service."""
    at: str
    """UTC, ISO 8601."""
    host: str = ""
    """Name of the machine; may be empty."""

    @classmethod
    def now(cls, by: str | None = None) -> "Signature":
        """Sign by a name, or by this process's account."""
        return cls(by or account(), datetime.now(UTC).isoformat(timespec="microseconds"), platform.node())


def account() -> str:
    """Name the account that runs this process; by its number where it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@dataclass(frozen=True)
class Evidence:
    """On which data and by which rules and code a verdict was found."""

    test_set: str
    """Digest of the frozen test set."""
    test_images: int
    test_groups: int
    training: str
    """Digest of the catalog that the challenger was trained on; empty where it is not recorded."""
    rules: Mapping[str, Any]
    """The promotion's settings."""
    code: str
    """Version of this package."""
    code_digest: str

    @property
    def rules_digest(self) -> str:
        """Digest of the promotion's settings."""
        return digest(dict(self.rules))


@dataclass(frozen=True)
class Decision:
    """A decision on a version, as it is kept with it."""

    outcome: Outcome
    signed: Signature
    challenger: ModelRef
    champion: ModelRef | None
    """In place when it was decided."""
    evidence: Evidence | None = None
    """None where a person decided without."""
    findings: tuple[Finding, ...] = ()
    approved_by: str = ""
    """The person who approved; empty where none was asked."""
    because: str = ""
    """In a person's words."""
    version: int = 1

    @property
    def reasons(self) -> tuple[str, ...]:
        """What decided."""
        return (self.because,) if self.because else Verdict(self.findings).reasons

    def approved(self, signed: Signature) -> "Decision":
        """Give the record of the promotion that a person approves."""
        return replace(self, outcome=Outcome.PROMOTED, signed=signed, approved_by=signed.by, because="")

    def rejected(self, signed: Signature, because: str) -> "Decision":
        """Give the record of a person's refusal."""
        return replace(self, outcome=Outcome.REJECTED, signed=signed, approved_by="", because=because)

    def withdrawn(self, signed: Signature, because: str, restored: ModelRef) -> "Decision":
        """Give the record of a rollback to `restored`; what the version was promoted on stays in it."""
        return replace(self.rejected(signed, because), outcome=Outcome.WITHDRAWN, champion=restored)

    def refused(self, finding: Finding) -> "Decision":
        """Give the record of a promotion that failed at last."""
        findings = (*self.findings, finding)
        return replace(self, outcome=Outcome.REFUSED, findings=findings, approved_by="", because="")

    def to_json(self) -> str:
        """Write everything; `from_json` reads it back."""
        rules = {"rules_digest": self.evidence.rules_digest} if self.evidence else {}
        return json.dumps({**asdict(self), "reasons": self.reasons, **rules}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Decision":
        """Read what `to_json` wrote.

        Raises
        ------
        StoreError
            If it is something else.
        """
        try:
            told = {key: value for key, value in json.loads(text).items() if key in cls.__dataclass_fields__}
            return TypeAdapter(cls).validate_python(told)
        except (json.JSONDecodeError, AttributeError, ValidationError) as error:
            raise StoreError(f"not a decision record of this version ({error}); restore it or decide again") from error

    def to_markdown(self) -> str:
        """Write what a person reads."""
        return "\n".join((f"# {self.outcome.capitalize()}: version {self.challenger.version}", *_lines(self))) + "\n"


def require_not_held(decision: Decision | None) -> None:
    """Make sure that no person has taken the version out.

    Raises
    ------
    PromotionRefusedError
        Saying who did, when and why.
    """
    if decision is not None and decision.outcome in HELD:
        name, signed = f"models:/{decision.challenger.name}/{decision.challenger.version}", decision.signed
        raise PromotionRefusedError(
            f"{name} was {decision.outcome} by {signed.by} at {signed.at}: {decision.because}; train another, or"
            f" overrule that with `sgcldff promote --model {name} --overrule`"
        )


def require_approvable(decision: Decision | None, weights: str, champion: str | None, test_set: str | None) -> Decision:
    """Make sure that a person may promote what a record says, because nothing has changed since.

    Parameters
    ----------
    weights
        Digest of the version's weights as they are now.
    champion
        The champion's version now.
    test_set
        Digest of the test set that is frozen now.

    Raises
    ------
    PromotionRefusedError
        Saying what does not hold.
    """
    if decision is None or decision.outcome is not Outcome.WAITING or decision.evidence is None:
        state = f"is {decision.outcome}" if decision else "was never judged"
        raise PromotionRefusedError(
            f"only a version that waits for approval can be approved, and this one {state}: have it judged with"
            " `sgcldff promote`"
        )
    former = decision.champion.version if decision.champion else None
    changed = [
        *(["the weights are others"] if weights != decision.challenger.digest else []),
        *([f"the champion is now version {champion}, not {former}"] if champion != former else []),
        *(["another test set is frozen"] if test_set != decision.evidence.test_set else []),
    ]
    if changed:
        raise PromotionRefusedError(
            f"the decision of {decision.signed.at} on version {decision.challenger.version} no longer holds:"
            f" {', '.join(changed)}; run `sgcldff promote` again"
        )
    return decision


def _lines(decision: Decision) -> Iterator[str]:
    yield from ("", *(f"- {_safe(reason)}" for reason in decision.reasons), "", "| | |", "| --- | --- |")
    yield from (f"| {name} | {_safe(text)} |" for name, text in facts_of(decision).items())
    if decision.findings:
        yield from ("", f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|")
        yield from (f"| {' | '.join(map(_safe, finding_cells(finding)))} |" for finding in decision.findings)


def facts_of(decision: Decision) -> dict[str, str]:
    """Say who decided, when, between which versions and on what, by name."""
    signed, evidence = decision.signed, decision.evidence
    facts = {
        "decided": f"{signed.at} by {signed.by}" + (f" on {signed.host}" if signed.host else ""),
        "approved by": decision.approved_by or "nobody",
        "challenger": _named(decision.challenger),
        "champion": _named(decision.champion),
    }
    if evidence is None:
        return facts
    return facts | {
        "test set": f"{evidence.test_set}, {evidence.test_images} images of {evidence.test_groups} groups",
        "training data": evidence.training or "not recorded",
        "rules": evidence.rules_digest,
        "code": f"{evidence.code} ({evidence.code_digest})",
    }


def finding_cells(finding: Finding) -> tuple[str, ...]:
    """Give rule, whether it was kept, both figures, the judged figure, its interval and its limit, as text."""
    spread = "" if finding.low is None or finding.high is None else f"{finding.low:+.4f} to {finding.high:+.4f}"
    numbers = (finding.champion, finding.challenger, finding.figure)
    shown = ("" if value is None else f"{value:.4f}" if abs(value) < 1e4 else f"{value:.0f}" for value in numbers)
    limit = "" if finding.limit is None else f"{finding.limit:g}"
    return finding.rule, "yes" if finding.passed else "no", *shown, spread, limit


def _named(model: ModelRef | None) -> str:
    return f"{model.name} version {model.version} ({model.digest})" if model else "none"


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
