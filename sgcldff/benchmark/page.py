"""The benchmark's outcome for people: `table.md`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sgcldff.benchmark.pooled import TOGETHER
from sgcldff.benchmark.protocols import REFERENCE, Protocol
from sgcldff.benchmark.robustness import SHARE, TYPE_SHARE
from sgcldff.benchmark.scoring import FIGURES, LOWER_IS_BETTER, OVERALL, SCORE, TYPE_SCORE, Entry
from sgcldff.benchmark.speed import BATCH, Size
from sgcldff.benchmark.table import Table
from sgcldff.core.records import Split
from sgcldff.core.settings import Perturbation
from sgcldff.evaluation.metrics import Interval
from sgcldff.evaluation.report import METRICS

BETTER, WORSE, OPEN = "▲", "▼", "…"
"""Marks of figures whose lead has an interval without 0, and of contenders whose seeds are not all finished."""
LEGEND = (
    f"The best figure of a column is bold. {BETTER} and {WORSE}: better and worse than {REFERENCE}, paired on the same "
    "images and draws, by an interval that leaves out 0; leads are figures less those of "
    f"{REFERENCE}. {OPEN}: not all of it is finished. Every figure is the mean over the seeds; in brackets is its "
    "interval over draws of whole groups. Intervals are not widened for the number of comparisons."
)
TITLES: Mapping[Protocol, str] = {
    Protocol.WITHIN: "Within the data sets",
    Protocol.LEFT_OUT: "One data set left out",
    Protocol.ROBUSTNESS: "Changed images",
}
SAYS: Mapping[Protocol, str] = {
    Protocol.WITHIN: (
        "Trained on the training splits of all data sets together, scored on the test split of each of them."
    ),
    Protocol.LEFT_OUT: (
        "Trained on the training splits of all other data sets, chosen on their validation splits, and scored on all "
        "images of the data set that was left out: a stain never seen."
    ),
    Protocol.ROBUSTNESS: (
        "The models of *within*, asked about the same test images in other hue, brightness, focus, JPEG quality and "
        "noise, at five strengths each; means over the strengths. The share is what is left of the score on unchanged "
        "images."
    ),
}
Row = Sequence[str]


def page(table: Table, plots: Sequence[str] = ()) -> str:
    """Write the table for people, with plots by their paths from it."""
    return "\n\n".join(part for part in _sections(table, plots) if part) + "\n"


def _sections(table: Table, plots: Sequence[str]) -> Iterator[str]:
    yield "# Benchmark"
    yield _unfinished(table)
    yield _grid(("", ""), table.head.items())
    yield _grid(("data set", *(split.value for split in _splits(table))), _count_rows(table))
    yield LEGEND
    yield from _together(table)
    for protocol in table.protocols:
        yield f"## {TITLES[protocol]}"
        yield SAYS[protocol]
        yield from _robust(table) if protocol is Protocol.ROBUSTNESS else _scored(table, protocol)
    yield "## Size and speed"
    yield from _costs(table)
    yield from (f"![{path}]({path})" for path in plots)
    yield "\n".join(f"- {note}" for note in table.notes)


def _unfinished(table: Table) -> str:
    left = table.unfinished
    if not left:
        return ""
    listed = "".join(f"\n- {cell.contender}, seed {cell.seed}{_but(cell.without)}: {cell.left}" for cell in left)
    return f"**Unfinished:** {len(left)} of {len(table.cells)} trainings; the same command goes on.\n{listed}"


def _but(source: str) -> str:
    return f", without {source}" if source else ""


def _splits(table: Table) -> list[Split]:
    return [split for split in Split if any(count.split is split for count in table.counts)]


def _count_rows(table: Table) -> Iterator[Row]:
    told = {(count.source, count.split): f"{count.images} ({count.groups} groups)" for count in table.counts}
    for source in table.sources:
        yield source, *(told.get((source, split), "-") for split in _splits(table))


def _together(table: Table) -> Iterator[str]:
    if any(table.of(Protocol.LEFT_OUT, TOGETHER, figure) for figure in (SCORE, TYPE_SCORE)):
        yield "## All together"
        yield (
            "Mean of cell IoU, nucleus IoU, accuracy and macro F1 within every data set, and of their means over the "
            "data sets left out, which count as one data set more."
        )
        yield _means(table, Protocol.LEFT_OUT, TOGETHER)


def _means(table: Table, protocol: Protocol, data: str = OVERALL) -> str:
    scores = [(protocol, data, SCORE, "mean score"), (protocol, data, TYPE_SCORE, "mean score of types")]
    return _columns(table, scores, leads=True)


def _scored(table: Table, protocol: Protocol) -> Iterator[str]:
    yield _means(table, protocol)
    for source in table.sources:
        yield f"### {source}"
        yield _columns(table, [(protocol, source, figure, METRICS[figure]) for figure in FIGURES])


def _robust(table: Table) -> Iterator[str]:
    for figure, share, name in ((SCORE, SHARE, "mean score"), (TYPE_SCORE, TYPE_SHARE, "mean score of types")):
        columns = [(OVERALL, f"clean_{figure}", f"{name}, unchanged")]
        columns += [(kind.value, figure, kind.value) for kind in Perturbation]
        columns += [(OVERALL, figure, "all changes"), (OVERALL, share, "share")]
        told = [(Protocol.ROBUSTNESS, *column) for column in columns]
        if any(table.of(*column[:3]) for column in told):
            yield f"### {name.capitalize()}"
            yield _columns(table, told)


Column = tuple[Protocol, str, str, str]
"""Protocol, data, figure, title."""


def _columns(table: Table, columns: Sequence[Column], *, leads: bool = False) -> str:
    """Write a row a contender and a column a figure, those that nobody has left out; with a column a lead if asked."""
    told = [(title, figure, table.of(protocol, data, figure)) for protocol, data, figure, title in columns]
    having = [column for column in told if column[2]]
    if not having:
        return "Nothing is finished yet."
    head = ["contender"]
    for title, _, _ in having:
        head += [title, "lead", "over seeds"] if leads else [title]
    rows = []
    for name in table.contenders:
        cells = [_named(table, name, columns[0][0])]
        for _, figure, column in having:
            entry = column.get(name)
            cells += [_figure(entry, entry is not None and entry is _best(column.values(), figure))]
            cells += [_lead(entry), _spread(entry)] if leads else []
        rows.append(cells)
    return _grid(head, rows)


def _named(table: Table, name: str, protocol: Protocol) -> str:
    apart = protocol is Protocol.LEFT_OUT
    open_ = any(cell.contender == name and bool(cell.without) == apart for cell in table.unfinished)
    return f"{name} {OPEN}" if open_ else name


def _best(entries: Iterable[Entry], figure: str) -> Entry:
    sign = -1 if figure in LOWER_IS_BETTER else 1
    return max(entries, key=lambda entry: sign * entry.score.value)


def _figure(entry: Entry | None, best: bool) -> str:
    if entry is None:
        return "-"
    value = f"**{entry.score.value:.3f}**" if best else f"{entry.score.value:.3f}"
    mark = {1: f" {BETTER}", -1: f" {WORSE}", 0: ""}[entry.verdict]
    return f"{value}{_interval(entry.score)}{mark}"


def _interval(score: Interval, form: str = ".3f") -> str:
    return "" if score.low is None or score.high is None else f" ({score.low:{form}} to {score.high:{form}})"


def _lead(entry: Entry | None) -> str:
    if entry is None or entry.lead is None:
        return "-"
    return f"{entry.lead.value:+.3f}{_interval(entry.lead, '+.3f')}"


def _spread(entry: Entry | None) -> str:
    return "-" if entry is None else f"{entry.least:.3f} to {entry.most:.3f} ({entry.seeds})"


def _costs(table: Table) -> Iterator[str]:
    known = {size.contender: size for size in table.sizes}
    ours = known.get(REFERENCE)
    head = ("contender", "parameters (M)", "GFLOPs a crop", "images/s", f"images/s, times {REFERENCE}'s")
    yield _grid(head, [_cost(known[name], ours) for name in table.contenders if name in known])
    if table.priors_per_s is not None:
        yield (
            f"Images/s are crops through the network alone, {BATCH} at a time, timed in turns. Priors are computed "
            f"beside, at {table.priors_per_s:,.0f} crops a second, for those that take a prior."
        )


def _cost(size: Size, ours: Size | None) -> Row:
    rate, base = size.images_per_s, ours.images_per_s if ours else None
    return (
        size.contender,
        f"{size.parameters / 1e6:.2f}",
        f"{size.flops / 1e9:.3f}",
        "-" if rate is None else f"{rate:,.0f}",
        "-" if rate is None or not base else f"{rate / base:.2f}",
    )


def _grid(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(text.replace('|', '&#124;') for text in line)} |" for line in lines)
