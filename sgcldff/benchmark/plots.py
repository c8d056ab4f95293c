"""Pictures of a benchmark: leads, quality against cost, curves over changes, reliability."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from sgcldff.benchmark.pooled import TOGETHER
from sgcldff.benchmark.protocols import BASELINES, REFERENCE, STRENGTHS, Protocol
from sgcldff.benchmark.scoring import OVERALL, SCORE, TYPE_SCORE, Entry, Run
from sgcldff.benchmark.table import Table
from sgcldff.core.settings import Perturbation
from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.report import typing_of

DPI = 130
INK, FAINT, OURS = "#222222", "#b9b9b9", "#d55e00"
PALETTE = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c2896", "#7f7f3f", "#444444")
"""Told apart by readers who see red and green alike (after Okabe and Ito 2008); the reference is `OURS`."""
NAMES: Mapping[str, str] = {SCORE: "mean score", TYPE_SCORE: "mean score of types"}
BINS = 10


def colour_of(contender: str) -> str:
    """Give a contender's colour, the same in every picture; ablations, which would be too many, are grey."""
    if contender == REFERENCE:
        return OURS
    return PALETTE[BASELINES.index(contender)] if contender in BASELINES else FAINT


def label_of(contender: str) -> str:
    """Name a contender in a legend; ablations, alike in colour, share a name."""
    return contender if contender == REFERENCE or contender in BASELINES else "ablations"


def width_of(contender: str) -> float:
    """Give the width of a contender's line, points."""
    return 2.4 if contender == REFERENCE else 1.6 if contender in BASELINES else 0.8


def _front_last(contender: str) -> tuple[bool, bool]:
    return contender == REFERENCE, contender in BASELINES


def draw(table: Table, runs: Mapping[str, Sequence[Run]], folder: Path) -> tuple[Path, ...]:
    """Draw all pictures that the table has figures for, as PNG, and give their paths.

    Parameters
    ----------
    runs
        Contender -> what each of its seeds said within the data sets, for the reliability diagram.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {**dict(_forests(table)), "cost": _cost(table), "robustness": _robustness(table)}
    pictures["reliability"] = _reliability(runs)
    drawn = {folder / f"{name}.png": figure for name, figure in pictures.items() if figure is not None}
    for path, figure in drawn.items():
        figure.savefig(path, dpi=DPI, facecolor="white")
    return tuple(drawn)


def _forests(table: Table) -> Iterator[tuple[str, Figure | None]]:
    yield "leads-together", _forest(table, Protocol.LEFT_OUT, TOGETHER)
    for protocol in table.protocols:
        yield f"leads-{protocol}", _forest(table, protocol)


def _forest(table: Table, protocol: Protocol, data: str = OVERALL) -> Figure | None:
    """Draw leads over the reference with their intervals, best first; contenders of types alone on their own axes."""
    sides = [(figure, _led(table.of(protocol, data, figure).values())) for figure in NAMES]
    sides = [(figure, entries) for figure, entries in sides if entries]
    if not sides:
        return None
    rows = max(len(entries) for _, entries in sides)
    figure = Figure(figsize=(5.4 * len(sides), 1.3 + 0.34 * rows), layout="constrained")
    for axes, (name, entries) in zip(figure.subplots(1, len(sides), squeeze=False)[0], sides, strict=True):
        _whiskers(axes, entries)
        axes.set_xlabel(f"lead in {NAMES[name]}", fontsize=8)
    where = protocol.value if data == OVERALL else data
    figure.suptitle(f"Leads over {REFERENCE}, {where}; coloured where 0 is left out", fontsize=10, color=INK)
    return figure


def _led(column: Iterable[Entry]) -> list[Entry]:
    entries = [one for one in column if one.lead is not None]
    return sorted(entries, key=lambda one: one.lead.value if one.lead else 0.0)


def _whiskers(axes: Axes, entries: Sequence[Entry]) -> None:
    for place, entry in enumerate(entries):
        lead = entry.lead
        assert lead is not None
        colour = {1: "#009e73", -1: "#0072b2", 0: "#777777"}[entry.verdict]
        low, high = (lead.value if end is None else end for end in (lead.low, lead.high))
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(lead.value, place, "o", color=colour, markersize=6)
        axes.annotate(f"{lead.value:+.3f}", (lead.value, place), (0, 6), textcoords="offset points", fontsize=6.5,
                      color=colour, ha="center")  # fmt: skip
    axes.axvline(0, color=OURS, linewidth=1)
    axes.set_yticks(range(len(entries)), [entry.contender for entry in entries], fontsize=8)
    axes.set_ylim(-0.6, len(entries) - 0.2)
    _plain(axes, "x")


def _plain(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _cost(table: Table) -> Figure | None:
    """Draw score and type score against parameters and images a second."""
    panels = [
        (measure, score)
        for score in NAMES
        for measure in ("parameters", "images_per_s")
        if len(_priced(table, measure, score)) > 1
    ]
    if not panels:
        return None
    rows = len({score for _, score in panels})
    figure = Figure(figsize=(5.2 * (len(panels) // rows), 3.7 * rows), layout="constrained")
    for axes, (measure, score) in zip(
        figure.subplots(rows, len(panels) // rows, squeeze=False).flat, panels, strict=True
    ):
        _cloud(axes, _priced(table, measure, score))
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("parameters, millions" if measure == "parameters" else "images a second", fontsize=8)
        axes.set_ylabel(NAMES[score], fontsize=8)
        _plain(axes, "both")
    figure.suptitle("Quality against cost, within the data sets", fontsize=11, color=INK)
    return figure


def _priced(table: Table, measure: str, score: str) -> list[tuple[float, Entry]]:
    known = {size.contender: getattr(size, measure) for size in table.sizes}
    scale = 1e6 if measure == "parameters" else 1
    column = table.of(Protocol.WITHIN, OVERALL, score)
    return [(known[name] / scale, entry) for name, entry in column.items() if known.get(name)]


def _cloud(axes: Axes, points: Sequence[tuple[float, Entry]]) -> None:
    for at, entry in points:
        ours = entry.contender == REFERENCE
        low, high = ((entry.score.value if end is None else end) for end in (entry.score.low, entry.score.high))
        axes.plot([at, at], [low, high], color=colour_of(entry.contender), linewidth=1, alpha=0.6)
        axes.plot(
            at, entry.score.value, "D" if ours else "o", color=colour_of(entry.contender), markersize=8 if ours else 6
        )
        axes.annotate(
            entry.contender, (at, entry.score.value), (6, 3), textcoords="offset points", fontsize=6.5, color=INK
        )


def _robustness(table: Table) -> Figure | None:
    """Draw the score over the strengths of every change; strength 0 is the unchanged image."""
    scores = [score for score in NAMES if table.of(Protocol.ROBUSTNESS, OVERALL, score)]
    if not scores:
        return None
    figure = Figure(figsize=(2.6 * len(Perturbation), 2.9 * len(scores) + 0.9), layout="constrained")
    grid = figure.subplots(len(scores), len(Perturbation), sharex=True, sharey="row", squeeze=False)
    for row, score in zip(grid, scores, strict=True):
        for axes, kind in zip(row, Perturbation, strict=True):
            _curves(axes, table, kind, score)
            axes.set_title(kind.value, fontsize=9)
            axes.set_xticks((0, *STRENGTHS))
            _plain(axes, "y")
        row[0].set_ylabel(NAMES[score], fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("strength", fontsize=8)
    handles = _handles(grid.flat)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=7, fontsize=7, frameon=False)
    return figure


def _line(axes: Axes, name: str, x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(x, y, color=colour_of(name), linewidth=width_of(name), marker=".", label=label_of(name))


def _handles(panels: Iterable[Axes]) -> dict[str, Line2D]:
    lines = [line for axes in panels for line in axes.get_lines()]
    return {str(line.get_label()): line for line in lines if not str(line.get_label()).startswith("_")}


def _curves(axes: Axes, table: Table, kind: Perturbation, score: str) -> None:
    clean = table.of(Protocol.ROBUSTNESS, OVERALL, f"clean_{score}")
    steps = [table.of(Protocol.ROBUSTNESS, kind.value, f"{score}@{strength}") for strength in STRENGTHS]
    for name in sorted(clean, key=_front_last):
        values = [column[name].score.value if name in column else np.nan for column in (clean, *steps)]
        _line(axes, name, (0, *STRENGTHS), values)


def _reliability(runs: Mapping[str, Sequence[Run]]) -> Figure | None:
    """Draw how often the told type is right, by confidence, over all data sets and seeds."""
    curves = {name: curve for name, seeds in runs.items() if len(curve := reliability(_all(seeds)))}
    if not curves:
        return None
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    for name in sorted(curves, key=_front_last):
        _line(axes, name, *curves[name].T[:2].tolist())
    axes.set(xlabel="mean confidence", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    handles = _handles([axes])
    axes.legend(handles.values(), handles.keys(), fontsize=6.5, frameon=False)
    _plain(axes, "both")
    axes.set_title("Reliability, within the data sets", fontsize=10)
    return figure


def _all(seeds: Sequence[Run]) -> list[Predictions]:
    return [said for run in seeds for said in run.values()]


def reliability(said: Sequence[Predictions]) -> NDArray[np.float64]:
    """Give mean confidence, share that is right, and number of images of each of `BINS` bins with any: (B, 3)."""
    typings = [typing_of(one)[0] for one in said]
    confidence = np.concatenate([np.empty(0), *(typing.confidence for typing in typings)])
    right = np.concatenate([np.empty(0), *((typing.true == typing.told) for typing in typings)])
    place = np.ceil(confidence * BINS).astype(int).clip(1, BINS)
    inside = [place == number for number in range(1, BINS + 1) if (place == number).any()]
    rows = [(confidence[bin_].mean(), right[bin_].mean(), bin_.sum()) for bin_ in inside]
    return np.array(rows, float).reshape(-1, 3)
