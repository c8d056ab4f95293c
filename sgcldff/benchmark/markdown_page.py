"""The results of a benchmark for people: `table.md`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sgcldff.benchmark.protocols import REFERENCE, Protocol
from sgcldff.benchmark.robustness import SHARE, TYPE_SHARE
from sgcldff.benchmark.scoring import BOTH_PROTOCOLS, FIGURES, LOWER_IS_BETTER, OVERALL, SCORE, TYPE_SCORE, ScoreEntry
from sgcldff.benchmark.speed import CROPS_PER_BATCH, ModelSize
from sgcldff.benchmark.table import BenchmarkTable
from sgcldff.core.markdown import markdown_table
from sgcldff.core.records import Split
from sgcldff.core.settings import Perturbation
from sgcldff.evaluation.metrics import Interval
from sgcldff.evaluation.report import METRICS

BETTER, WORSE, OPEN = "▲", "▼", "…"
"""Marks of figures whose lead has an interval without 0, and of candidates whose seeds are not all finished."""
LEGEND = (
    f"The best figure of a column is bold. {BETTER} and {WORSE}: significantly better and worse than {REFERENCE} (the "
    "interval of the paired difference excludes 0); leads are differences to "
    f"{REFERENCE}. {OPEN}: not finished. Every figure is the mean over the seeds, with its interval in parentheses, "
    "resampled by patient or slide. Intervals are not adjusted for the number of comparisons."
)
TITLES: Mapping[Protocol, str] = {
    Protocol.WITHIN: "Within the data sets",
    Protocol.LEFT_OUT: "One data set left out",
    Protocol.ROBUSTNESS: "Changed images",
}
DESCRIPTIONS: Mapping[Protocol, str] = {
    Protocol.WITHIN: (
        "Trained on the training splits of all data sets together, scored on the test split of each of them."
    ),
    Protocol.LEFT_OUT: (
        "Trained on the training splits of all other data sets, selected on their validation splits, and scored on all "
        "images of the data set that was left out, whose stain is unseen."
    ),
    Protocol.ROBUSTNESS: (
        "The models of *within*, scored on the same test images with altered hue, brightness, focus, JPEG quality and "
        "noise, at five strengths each; means over the strengths. The share is the mean score under corruption divided "
        "by the score on unchanged images."
    ),
}
Column = tuple[Protocol, str, str, str]
"""Protocol, data, figure, title."""


def markdown_page(table: BenchmarkTable, plots: Sequence[str] = ()) -> str:
    """Write the table for people, with plots by their relative paths."""
    return "\n\n".join(part for part in _sections(table, plots) if part) + "\n"


def _sections(table: BenchmarkTable, plots: Sequence[str]) -> Iterator[str]:
    yield "# Benchmark"
    if left := table.unfinished:
        yield f"**Unfinished:** {len(left)} of {len(table.trainings)} trainings; the same command resumes."
        yield "\n".join(
            f"- {one.candidate}, seed {one.seed}{f', without {one.without}' if one.without else ''}: {one.left}"
            for one in left
        )
    yield markdown_table(("", ""), table.head.items())
    splits = [split for split in Split if any(count.split is split for count in table.counts)]
    counts = {(count.source, count.split): f"{count.images} ({count.groups} groups)" for count in table.counts}
    rows = [(source, *(counts.get((source, split), "-") for split in splits)) for source in table.sources]
    yield markdown_table(("data set", *(split.value for split in splits)), rows)
    yield LEGEND
    if any(table.of(Protocol.LEFT_OUT, BOTH_PROTOCOLS, figure) for figure in (SCORE, TYPE_SCORE)):
        yield "## Both protocols"
        yield (
            "Mean of cell IoU, nucleus IoU, accuracy and macro F1 within every data set, and of their means over the "
            "left-out data sets, which count as one more data set."
        )
        yield _mean_scores(table, Protocol.LEFT_OUT, BOTH_PROTOCOLS)
    for protocol in table.protocols:
        yield f"## {TITLES[protocol]}"
        yield DESCRIPTIONS[protocol]
        yield from _robustness(table) if protocol is Protocol.ROBUSTNESS else _scores(table, protocol)
    yield "## Size and speed"
    yield from _costs(table)
    yield from (f"![{path}]({path})" for path in plots)
    yield "\n".join(f"- {note}" for note in table.notes)


def _mean_scores(table: BenchmarkTable, protocol: Protocol, data: str = OVERALL) -> str:
    scores = [(protocol, data, SCORE, "mean score"), (protocol, data, TYPE_SCORE, "mean score of types")]
    return _columns(table, scores, leads=True)


def _scores(table: BenchmarkTable, protocol: Protocol) -> Iterator[str]:
    yield _mean_scores(table, protocol)
    for source in table.sources:
        yield f"### {source}"
        yield _columns(table, [(protocol, source, figure, METRICS[figure]) for figure in FIGURES])


def _robustness(table: BenchmarkTable) -> Iterator[str]:
    for figure, share, name in ((SCORE, SHARE, "mean score"), (TYPE_SCORE, TYPE_SHARE, "mean score of types")):
        columns = [(OVERALL, f"clean_{figure}", f"{name}, unchanged")]
        columns += [(kind.value, figure, kind.value) for kind in Perturbation]
        columns += [(OVERALL, figure, "all corruptions"), (OVERALL, share, "share")]
        if any(table.of(Protocol.ROBUSTNESS, data, key) for data, key, _ in columns):
            yield f"### {name.capitalize()}"
            yield _columns(table, [(Protocol.ROBUSTNESS, *column) for column in columns])


def _columns(table: BenchmarkTable, columns: Sequence[Column], *, leads: bool = False) -> str:
    """Write one row per candidate and one column per figure that any has, optionally with their leads."""
    entries = [(title, figure, table.of(protocol, data, figure)) for protocol, data, figure, title in columns]
    filled = [column for column in entries if column[2]]
    if not filled:
        return "Nothing is finished yet."
    head = ["candidate"]
    for title, _, _ in filled:
        head += [title, "lead", "over seeds"] if leads else [title]
    left_out, rows = columns[0][0] is Protocol.LEFT_OUT, []
    for name in table.candidates:
        unfinished = any(one.candidate == name and bool(one.without) == left_out for one in table.unfinished)
        cells = [f"{name} {OPEN}" if unfinished else name]
        for _, figure, column in filled:
            cells += _cells(column.get(name), _best(column.values(), figure), leads=leads)
        rows.append(cells)
    return markdown_table(head, rows)


def _best(entries: Iterable[ScoreEntry], figure: str) -> ScoreEntry:
    sign = -1 if figure in LOWER_IS_BETTER else 1
    return max(entries, key=lambda entry: sign * entry.score.value)


def _cells(entry: ScoreEntry | None, best: ScoreEntry, *, leads: bool) -> list[str]:
    """Write a figure, bold if it is the best, and optionally its lead and its range over the seeds."""
    if entry is None:
        return ["-"] * (3 if leads else 1)
    value, mark = f"{entry.score.value:.3f}", {1: f" {BETTER}", -1: f" {WORSE}", 0: ""}[entry.verdict]
    figure = f"{f'**{value}**' if entry is best else value}{_interval(entry.score)}{mark}"
    lead = f"{entry.lead.value:+.3f}{_interval(entry.lead, '+.3f')}" if entry.lead else "-"
    return [figure, lead, f"{entry.least:.3f} to {entry.most:.3f} ({entry.seeds})"] if leads else [figure]


def _interval(score: Interval, form: str = ".3f") -> str:
    return "" if score.low is None or score.high is None else f" ({score.low:{form}} to {score.high:{form}})"


def _costs(table: BenchmarkTable) -> Iterator[str]:
    sizes = {size.candidate: size for size in table.sizes}
    reference = sizes.get(REFERENCE)
    head = ("candidate", "parameters (M)", "GFLOPs per crop", "images/s", f"images/s relative to {REFERENCE}")
    yield markdown_table(head, [_cost(sizes[name], reference) for name in table.candidates if name in sizes])
    if table.priors_per_s is not None:
        yield (
            f"Images/s are crops through the network alone, {CROPS_PER_BATCH} at a time, timed in turn. For candidates "
            f"with a prior, it is computed separately, at {table.priors_per_s:,.0f} crops per second."
        )


def _cost(size: ModelSize, reference: ModelSize | None) -> Sequence[str]:
    rate, base = size.images_per_s, reference.images_per_s if reference else None
    return (
        size.candidate,
        f"{size.parameters / 1e6:.2f}",
        f"{size.flops / 1e9:.3f}",
        "-" if rate is None else f"{rate:,.0f}",
        "-" if rate is None or not base else f"{rate / base:.2f}",
    )
