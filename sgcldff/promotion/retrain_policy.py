"""Whether new images are worth a training."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sgcldff.core.records import Sample
from sgcldff.core.settings import RetrainPolicy
from sgcldff.evaluation.drift.report import DriftReport


@dataclass(frozen=True)
class News:
    """What has come since the champion was trained."""

    champion: str | None
    """`models:/NAME/VERSION`; None where there is none."""
    age_days: float = 0.0
    """Time since the champion was registered, days."""
    images: int = 0
    """Images that are new to the champion, or of which more is known now."""
    cells: int = 0
    """Labelled cells on them."""
    labels: tuple[str, ...] = ()
    """Labels of the catalog that the champion does not tell."""
    drift: DriftReport | None = None
    """None where nothing is new, or the champion has no reference to compare with."""


@dataclass(frozen=True)
class Decision:
    """Whether to retrain, and why."""

    retrain: bool
    reasons: tuple[str, ...]
    """For the training; empty where there is none."""
    figures: tuple[str, ...]
    """What was looked at, each with its limit."""
    news: News

    @property
    def outcome(self) -> str:
        """Say it in one line."""
        if self.retrain:
            return f"Retraining: {'; '.join(self.reasons)}."
        return f"Nothing to do: {'; '.join(self.figures)}. A person may ask for a training (--force)."

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-ready form."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Write the decision, the figures and the drift."""
        lines = [f"# {'Retrain' if self.retrain else 'Nothing to do'}\n", *(f"- {reason}" for reason in self.reasons)]
        lines += ["\n## Looked at\n", *(f"- {figure}" for figure in self.figures)]
        drift = self.news.drift
        return "\n".join([*lines, *(["\n## Drift\n", drift.to_markdown()] if drift else [""])])


def decide(news: News, policy: RetrainPolicy, *, asked: bool = False) -> Decision:
    """Apply a policy; `asked` is a person's wish, which is always granted."""
    reasons = tuple(_reasons(news, policy, asked))
    return Decision(bool(reasons), reasons, tuple(_figures(news, policy)), news)


def _reasons(news: News, policy: RetrainPolicy, asked: bool) -> Iterator[str]:
    if asked:
        yield "a person asks for it"
    if news.champion is None:
        yield "there is no champion yet"
        return
    if news.labels:
        yield f"labels that the champion does not tell: {', '.join(news.labels)}"
    if news.cells >= policy.new_cells:
        yield f"{news.cells} new labelled cells, {policy.new_cells} are enough"
    if news.drift is not None:
        yield from (f"drift of {figure}" for figure in news.drift.exceeding)
    if news.images and news.age_days >= policy.max_age_days:
        yield f"the champion is {news.age_days:.0f} days old, after {policy.max_age_days:g} any new image is enough"


def _figures(news: News, policy: RetrainPolicy) -> Iterator[str]:
    if news.champion is None:
        return
    yield f"{news.images} new images with {news.cells} labelled cells (from {policy.new_cells} on)"
    if news.drift is not None and news.drift.figures:
        yield f"drift of {', '.join(map(str, news.drift.figures))}"
    elif news.images:
        yield "drift not measured: " + ("too few new images" if news.drift else "the champion has no reference")
    yield f"{news.champion} is {news.age_days:.0f} days old (from {policy.max_age_days:g} on, with new images)"


def labelled_cells(samples: Sequence[Sample]) -> int:
    """Count the cells that images teach: those in boxes, otherwise one where a label or a mask is known."""
    return sum(len(sample.boxes) if sample.boxes else bool(sample.label or sample.mask) for sample in samples)
