"""Whether new images justify a retraining."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sgcldff.core.records import Sample
from sgcldff.core.settings import RetrainPolicy
from sgcldff.evaluation.drift.report import DriftReport


@dataclass(frozen=True)
class News:
    """What is new since the champion was trained."""

    champion: str | None
    """`models:/NAME/VERSION`; None if there is none."""
    age_days: float = 0.0
    """Time since the champion was registered, days."""
    images: int = 0
    """Images that are new to the champion, or whose annotation has been extended."""
    cells: int = 0
    """Labelled cells on them."""
    labels: tuple[str, ...] = ()
    """Labels of the catalog that the champion does not predict."""
    drift: DriftReport | None = None
    """None if nothing is new, or the champion has no reference to compare with."""


@dataclass(frozen=True)
class RetrainDecision:
    """Whether to retrain, and why."""

    retrain: bool
    reasons: tuple[str, ...]
    """Reasons to train; empty if there are none."""
    figures: tuple[str, ...]
    """The figures that were considered, with their limits."""
    news: News

    @property
    def outcome(self) -> str:
        """The decision in one line."""
        if self.retrain:
            return f"Retraining: {'; '.join(self.reasons)}."
        return f"Nothing to do: {'; '.join(self.figures)}. Use --force to train anyway."

    def to_markdown(self) -> str:
        """Write the decision, the figures and the drift."""
        lines = [f"# {'Retrain' if self.retrain else 'Nothing to do'}\n", *(f"- {reason}" for reason in self.reasons)]
        lines += ["\n## Figures considered\n", *(f"- {figure}" for figure in self.figures)]
        drift = self.news.drift
        return "\n".join([*lines, *(["\n## Drift\n", drift.to_markdown()] if drift else [""])])


def decide(news: News, policy: RetrainPolicy, *, force: bool = False) -> RetrainDecision:
    """Apply a policy; `force` is a person's request, which is always granted."""
    reasons = tuple(_reasons(news, policy, force))
    return RetrainDecision(bool(reasons), reasons, tuple(_figures(news, policy)), news)


def _reasons(news: News, policy: RetrainPolicy, force: bool) -> Iterator[str]:
    if force:
        yield "requested by a person"
    if news.champion is None:
        yield "there is no champion yet"
        return
    if news.labels:
        yield f"labels that the champion does not predict: {', '.join(news.labels)}"
    if news.cells >= policy.new_cells:
        yield f"{news.cells} new labelled cells, {policy.new_cells} are enough"
    if news.drift is not None:
        yield from (f"drift of {figure}" for figure in news.drift.exceeding)
    if news.images and news.age_days >= policy.max_age_days:
        yield f"the champion is {news.age_days:.0f} days old, after {policy.max_age_days:g} any new image is enough"


def _figures(news: News, policy: RetrainPolicy) -> Iterator[str]:
    if news.champion is None:
        return
    yield f"{news.images} new images with {news.cells} labelled cells (limit {policy.new_cells})"
    if news.drift is not None and news.drift.figures:
        yield f"drift of {', '.join(map(str, news.drift.figures))}"
    elif news.images:
        yield "drift not measured: " + ("too few new images" if news.drift else "the champion has no reference")
    yield f"{news.champion} is {news.age_days:.0f} days old (limit {policy.max_age_days:g}, if there are new images)"


def count_labelled_cells(samples: Sequence[Sample]) -> int:
    """Count the labelled cells of images: those in boxes, otherwise one if there is a label or a mask."""
    return sum(len(sample.boxes) if sample.boxes else bool(sample.label or sample.mask) for sample in samples)
