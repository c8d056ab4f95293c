"""The record of a decision: who, when, on which data, with which figures and reasons."""

import getpass
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sgcldff.core.errors import PromotionRefusedError, StoreError
from sgcldff.core.markdown import escape_markdown, markdown_table
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import digest
from sgcldff.promotion.findings import Finding, Verdict

FINDING_COLUMNS = ("rule", "kept", "champion", "challenger", "figure", "interval", "limit")
"""Headings of `finding_cells`."""


class Outcome(StrEnum):
    """The decision on a version."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    WAITING = "waiting for approval"
    REJECTED = "rejected"
    """By a person."""
    WITHDRAWN = "withdrawn"
    """It was champion until it was rolled back."""
    RESTORED = "restored"
    """It became champion again by a rollback."""


HELD = (Outcome.REJECTED, Outcome.WITHDRAWN)
"""Decisions by a person, after which a version is judged again only if a person requests it."""


@dataclass(frozen=True)
class Attribution:
    """Who decided, and when."""

    by: str
    """A person, or the account of the process."""
    at: str
    """UTC, ISO 8601."""
    host: str = ""
    """Name of the machine; may be empty."""

    @classmethod
    def now(cls, by: str | None = None) -> "Attribution":
        """Sign with a name, by default that of this process's account."""
        return cls(by or account(), datetime.now(UTC).isoformat(timespec="microseconds"), platform.node())


def account() -> str:
    """Return the name of this process's account, or its number if it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@dataclass(frozen=True)
class Basis:
    """The data, rules and code that a verdict rests on."""

    test_set: str
    """Digest of the frozen test set."""
    test_images: int
    test_groups: int
    training: str
    """Digest of the catalog that the challenger was trained on; empty if it is not recorded."""
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
    """The record of a decision on a version."""

    outcome: Outcome
    signed: Attribution
    challenger: ModelRef
    champion: ModelRef | None
    """The champion at the time of the decision."""
    evidence: Basis | None = None
    """None if a person decided without any."""
    findings: tuple[Finding, ...] = ()
    approved_by: str = ""
    """The person who approved; empty if no approval was required."""
    because: str = ""
    """The reason that a person gave."""
    version: int = 1

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons for the decision."""
        return (self.because,) if self.because else Verdict(self.findings).reasons

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of the verdict has to know besides the reasons."""
        verdict, texts = Verdict(self.findings), list[str]()
        if verdict.chance is not None:
            texts.append(f"a model as good as the champion passes at most {verdict.chance:.0%} of the time")
        if verdict.rare:
            texts.append(f"too few cases to judge without a person: {', '.join(verdict.rare)}")
        return tuple(texts)

    def approved(self, signed: Attribution) -> "Decision":
        """Return the record of the promotion that a person approves."""
        return replace(self, outcome=Outcome.PROMOTED, signed=signed, approved_by=signed.by, because="")

    def rejected(self, signed: Attribution, because: str) -> "Decision":
        """Return the record of a rejection by a person."""
        return replace(self, outcome=Outcome.REJECTED, signed=signed, approved_by="", because=because)

    def withdrawn(self, signed: Attribution, because: str, restored: ModelRef) -> "Decision":
        """Return the record of a rollback to `restored`, including the findings of the version's promotion."""
        return replace(self.rejected(signed, because), outcome=Outcome.WITHDRAWN, champion=restored)

    def refused(self, finding: Finding) -> "Decision":
        """Return the record of a promotion that failed in the end."""
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
            If it is not a decision record of this version.
        """
        try:
            fields = {key: value for key, value in json.loads(text).items() if key in cls.__dataclass_fields__}
            return TypeAdapter(cls).validate_python(fields)
        except (json.JSONDecodeError, AttributeError, ValidationError) as error:
            raise StoreError(f"not a decision record of this version ({error}); restore it or decide again") from error

    def to_markdown(self) -> str:
        """Write the record for people."""
        parts = [
            f"# {self.outcome.capitalize()}: version {self.challenger.version}",
            "\n".join(f"- {escape_markdown(reason)}" for reason in (*self.reasons, *self.cautions)),
            markdown_table(("", ""), facts_of(self).items()),
        ]
        if self.findings:
            parts.append(markdown_table(FINDING_COLUMNS, map(finding_cells, self.findings)))
        return "\n\n".join(parts) + "\n"


def require_not_held(decision: Decision | None) -> None:
    """Make sure that a version was not rejected or withdrawn by a person.

    Raises
    ------
    PromotionRefusedError
        Saying by whom it was, when and why.
    """
    if decision is not None and decision.outcome in HELD:
        name, signed = f"models:/{decision.challenger.name}/{decision.challenger.version}", decision.signed
        raise PromotionRefusedError(
            f"{name} was {decision.outcome} by {signed.by} at {signed.at}: {decision.because}; train another, or"
            f" overrule this with `sgcldff promote --model {name} --overrule`"
        )


def require_approvable(decision: Decision | None, weights: str, champion: str | None, test_set: str | None) -> Decision:
    """Make sure that a version waits for approval, and that nothing has changed since it was judged.

    Parameters
    ----------
    weights
        Current digest of the version's weights.
    champion
        Current version of the champion.
    test_set
        Digest of the current frozen test set.

    Raises
    ------
    PromotionRefusedError
        Saying what has changed.
    """
    if decision is None or decision.outcome is not Outcome.WAITING or decision.evidence is None:
        state = f"is {decision.outcome}" if decision else "was never judged"
        raise PromotionRefusedError(
            f"only a version that waits for approval can be approved, and this one {state}: have it judged with"
            " `sgcldff promote`"
        )
    judged_against = decision.champion.version if decision.champion else None
    changes = []
    if weights != decision.challenger.digest:
        changes.append("the weights have changed")
    if champion != judged_against:
        changes.append(f"the champion is now version {champion}, not {judged_against}")
    if test_set != decision.evidence.test_set:
        changes.append("another test set is frozen")
    if changes:
        raise PromotionRefusedError(
            f"the decision of {decision.signed.at} on version {decision.challenger.version} is no longer valid:"
            f" {', '.join(changes)}; run `sgcldff promote` again"
        )
    return decision


def best_champion(decisions: Iterable[Decision], champion: ModelRef, test_set: str) -> ModelRef | None:
    """Return the former champion with the highest score on a test set, if it is better than the champion's.

    Parameters
    ----------
    decisions
        On all versions. Versions that a person rejected or withdrew are left out.
    """
    scores: dict[ModelRef, float] = {}
    ordered = sorted(decisions, key=lambda decision: decision.signed.at)
    for decision in ordered:
        for finding in decision.findings:
            if finding.rule == "score" and decision.evidence and decision.evidence.test_set == test_set:
                sides = (decision.champion, finding.champion), (decision.challenger, finding.challenger)
                scores |= {model: score for model, score in sides if model and score is not None}
    last = {decision.challenger: decision.outcome for decision in ordered}
    reigned = {decision.champion for decision in ordered} | {
        decision.challenger for decision in ordered if decision.outcome is Outcome.PROMOTED
    }
    kept = {model: score for model, score in scores.items() if model in reigned and last.get(model) not in HELD}
    best = max(kept, key=lambda model: kept[model], default=None)
    return best if best is not None and kept[best] > kept.get(champion, -math.inf) else None


def facts_of(decision: Decision) -> dict[str, str]:
    """Return who decided, when, on which versions and with which evidence, as text by name."""

    def described(model: ModelRef | None) -> str:
        return f"{model.name} version {model.version} ({model.digest})" if model else "none"

    signed, evidence = decision.signed, decision.evidence
    facts = {
        "decided": f"{signed.at} by {signed.by}" + (f" on {signed.host}" if signed.host else ""),
        "approved by": decision.approved_by or "nobody",
        "challenger": described(decision.challenger),
        "champion": described(decision.champion),
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
    """Return a row under `FINDING_COLUMNS`, as text."""
    interval = "" if finding.low is None or finding.high is None else f"{finding.low:+.4f} to {finding.high:+.4f}"
    values = (finding.champion, finding.challenger, finding.figure)
    numbers = ("" if value is None else f"{value:.4f}" if abs(value) < 1e4 else f"{value:.0f}" for value in values)
    limit = "" if finding.limit is None else f"{finding.limit:g}"
    return finding.rule, "yes" if finding.passed else "no", *numbers, interval, limit
