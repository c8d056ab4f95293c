"""Plots of a benchmark: leads, quality against cost, scores over corruption strengths, reliability."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from sgcldff.benchmark.protocols import BASELINES, REFERENCE, STRENGTHS, Protocol
from sgcldff.benchmark.scoring import BOTH_PROTOCOLS, OVERALL, SCORE, TYPE_SCORE, ScoreEntry, SeedPredictions
from sgcldff.benchmark.table import BenchmarkTable
from sgcldff.core.settings import Perturbation
from sgcldff.evaluation import metrics
from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.report import type_predictions

DPI = 130
INK, FAINT, REFERENCE_COLOUR = "#222222", "#b9b9b9", "#d55e00"
PALETTE = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c2896", "#7f7f3f", "#444444")
"""Distinguishable with red-green colour blindness (after Okabe and Ito 2008)."""
SCORE_NAMES: Mapping[str, str] = {SCORE: "mean score", TYPE_SCORE: "mean score of types"}
BINS = 10


class LineStyle(NamedTuple):
    """How a candidate is drawn, the same in all plots; wider lines are drawn over narrower ones."""

    width: float
    """Points."""
    colour: str
    label: str
    """Name in a legend."""


def style_of(candidate: str) -> LineStyle:
    """Return a candidate's style; ablations, of which there are many, are grey and share a name."""
    if candidate == REFERENCE:
        return LineStyle(2.4, REFERENCE_COLOUR, candidate)
    if candidate in BASELINES:
        return LineStyle(1.6, PALETTE[BASELINES.index(candidate)], candidate)
    return LineStyle(0.8, FAINT, "ablations")


def draw_plots(table: BenchmarkTable, runs: Mapping[str, Sequence[SeedPredictions]], folder: Path) -> tuple[Path, ...]:
    """Draw all plots for which the table has figures, as PNG, and return their paths.

    Parameters
    ----------
    runs
        Candidate -> predictions of each seed within the data sets, for the reliability diagram.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"leads-together": _forest(table, Protocol.LEFT_OUT, BOTH_PROTOCOLS)}
    plots |= {f"leads-{protocol}": _forest(table, protocol) for protocol in table.protocols}
    plots |= {"cost": _quality_against_cost(table), "robustness": _robustness(table)}
    plots["reliability"] = _reliability_diagram(runs)
    drawn = {folder / f"{name}.png": figure for name, figure in plots.items() if figure is not None}
    for path, figure in drawn.items():
        figure.savefig(path, dpi=DPI, facecolor="white")
    return tuple(drawn)


def _forest(table: BenchmarkTable, protocol: Protocol, data: str = OVERALL) -> Figure | None:
    """Draw leads over the reference with their intervals, sorted; score and type score on separate axes."""
    columns = {name: table.of(protocol, data, name).values() for name in SCORE_NAMES}
    leads = {name: [entry for entry in column if entry.lead is not None] for name, column in columns.items()}
    panels = [
        (name, sorted(entries, key=lambda one: one.lead.value if one.lead else 0))
        for name, entries in leads.items()
        if entries
    ]
    if not panels:
        return None
    rows = max(len(entries) for _, entries in panels)
    figure = Figure(figsize=(5.4 * len(panels), 1.3 + 0.34 * rows), layout="constrained")
    for axes, (name, entries) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _whiskers(axes, entries)
        axes.set_xlabel(f"lead in {SCORE_NAMES[name]}", fontsize=8)
    scope = protocol.value if data == OVERALL else data
    figure.suptitle(f"Leads over {REFERENCE}, {scope}; coloured if the interval excludes 0", fontsize=10, color=INK)
    return figure


def _whiskers(axes: Axes, entries: Sequence[ScoreEntry]) -> None:
    for row, entry in enumerate(entries):
        lead = entry.lead
        assert lead is not None
        colour = {1: "#009e73", -1: "#0072b2", 0: "#777777"}[entry.verdict]
        low, high = (lead.value if end is None else end for end in (lead.low, lead.high))
        axes.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(lead.value, row, "o", color=colour, markersize=6)
        axes.annotate(f"{lead.value:+.3f}", (lead.value, row), (0, 6), textcoords="offset points", fontsize=6.5,
                      color=colour, ha="center")  # fmt: skip
    axes.axvline(0, color=REFERENCE_COLOUR, linewidth=1)
    axes.set_yticks(range(len(entries)), [entry.candidate for entry in entries], fontsize=8)
    axes.set_ylim(-0.6, len(entries) - 0.2)
    _style(axes, "x")


def _style(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _quality_against_cost(table: BenchmarkTable) -> Figure | None:
    """Draw score and type score against parameters and images per second."""
    panels = [
        (measure, score)
        for score in SCORE_NAMES
        for measure in ("parameters", "images_per_s")
        if len(_cost_points(table, measure, score)) > 1
    ]
    if not panels:
        return None
    rows = len({score for _, score in panels})
    figure = Figure(figsize=(5.2 * (len(panels) // rows), 3.7 * rows), layout="constrained")
    for axes, (measure, score) in zip(
        figure.subplots(rows, len(panels) // rows, squeeze=False).flat, panels, strict=True
    ):
        for x, entry in _cost_points(table, measure, score):
            mean, name, colour = entry.score, entry.candidate, style_of(entry.candidate).colour
            marker, size = ("D", 8) if name == REFERENCE else ("o", 6)
            ends = [mean.value if end is None else end for end in (mean.low, mean.high)]
            axes.plot([x, x], ends, color=colour, linewidth=1, alpha=0.6)
            axes.plot(x, mean.value, marker, color=colour, markersize=size)
            axes.annotate(name, (x, mean.value), (6, 3), textcoords="offset points", fontsize=6.5, color=INK)
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("parameters, millions" if measure == "parameters" else "images per second", fontsize=8)
        axes.set_ylabel(SCORE_NAMES[score], fontsize=8)
        _style(axes, "both")
    figure.suptitle("Quality against cost, within the data sets", fontsize=11, color=INK)
    return figure


def _cost_points(table: BenchmarkTable, measure: str, score: str) -> list[tuple[float, ScoreEntry]]:
    costs = {size.candidate: getattr(size, measure) for size in table.sizes}
    scale = 1e6 if measure == "parameters" else 1
    column = table.of(Protocol.WITHIN, OVERALL, score)
    return [(costs[name] / scale, entry) for name, entry in column.items() if costs.get(name)]


def _robustness(table: BenchmarkTable) -> Figure | None:
    """Draw the score over the strengths of every corruption; strength 0 is the unchanged image."""
    scores = [score for score in SCORE_NAMES if table.of(Protocol.ROBUSTNESS, OVERALL, score)]
    if not scores:
        return None
    figure = Figure(figsize=(2.6 * len(Perturbation), 2.9 * len(scores) + 0.9), layout="constrained")
    grid = figure.subplots(len(scores), len(Perturbation), sharex=True, sharey="row", squeeze=False)
    for row, score in zip(grid, scores, strict=True):
        for axes, kind in zip(row, Perturbation, strict=True):
            clean = table.of(Protocol.ROBUSTNESS, OVERALL, f"clean_{score}")
            steps = [table.of(Protocol.ROBUSTNESS, kind.value, f"{score}@{strength}") for strength in STRENGTHS]
            for name in sorted(clean, key=lambda name: style_of(name).width):
                values = [column[name].score.value if name in column else np.nan for column in (clean, *steps)]
                _line(axes, name, (0, *STRENGTHS), values)
            axes.set_title(kind.value, fontsize=9)
            axes.set_xticks((0, *STRENGTHS))
            _style(axes, "y")
        row[0].set_ylabel(SCORE_NAMES[score], fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("strength", fontsize=8)
    handles = _legend_handles(grid.flat)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=7, fontsize=7, frameon=False)
    return figure


def _line(axes: Axes, name: str, x: Sequence[float], y: Sequence[float]) -> None:
    style = style_of(name)
    axes.plot(x, y, color=style.colour, linewidth=style.width, marker=".", label=style.label)


def _legend_handles(panels: Iterable[Axes]) -> dict[str, Line2D]:
    lines = [line for axes in panels for line in axes.get_lines()]
    return {str(line.get_label()): line for line in lines if not str(line.get_label()).startswith("_")}


def _reliability_diagram(runs: Mapping[str, Sequence[SeedPredictions]]) -> Figure | None:
    """Draw the accuracy of predicted types by confidence, over all data sets and seeds."""
    points = {name: reliability_curve([own for run in seeds for own in run.values()]) for name, seeds in runs.items()}
    curves = {name: curve for name, curve in points.items() if len(curve)}
    if not curves:
        return None
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    for name in sorted(curves, key=lambda name: style_of(name).width):
        _line(axes, name, *curves[name].T[:2].tolist())
    axes.set(xlabel="mean confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    handles = _legend_handles([axes])
    axes.legend(handles.values(), handles.keys(), fontsize=6.5, frameon=False)
    _style(axes, "both")
    axes.set_title("Reliability, within the data sets", fontsize=10)
    return figure


def reliability_curve(predictions: Sequence[Predictions]) -> NDArray[np.float64]:
    """Return mean confidence, accuracy and number of images of each non-empty one of `BINS` bins: (B, 3)."""
    types = [type_predictions(one)[0] for one in predictions]
    confidence = np.concatenate([np.empty(0), *(one.confidence for one in types)])
    correct = np.concatenate([np.empty(0), *((one.true == one.predicted) for one in types)])
    rows = [(one.confidence, one.correct, one.images) for one in metrics.reliability(confidence, correct, BINS)]
    return np.array(rows, float).reshape(-1, 3)
