"""SG-CLDFF, baselines and ablations under one protocol: same splits, scale, augmentation, budget and start."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow

import sgcldff
from flows.contenders import chosen
from flows.prepare import prepare
from flows.settings import Settings
from sgcldff.benchmark.pooled import together
from sgcldff.benchmark.protocols import CHANGES, Cell, Plan, Protocol, cells, unscored, unseen
from sgcldff.benchmark.robustness import Trial
from sgcldff.benchmark.scoring import OVERALL, SCORE, TYPE_SCORE, Contest, Entry, Run, values
from sgcldff.benchmark.speed import PRIOR, Size, machine
from sgcldff.benchmark.table import CellRecord, Table, counts
from sgcldff.core.errors import IncompleteBatchError, OutOfTimeError
from sgcldff.core.labels import LabelSpace, smallest_label_space
from sgcldff.core.records import Sample
from sgcldff.core.settings import EvalSpec, ModelSpec, Pretrained
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation import Predictions
from sgcldff.models.model import pick_device
from tasks.benchmark import (
    Change,
    Question,
    ask_model,
    choose_start,
    is_trained,
    joined,
    log_cell,
    require_time,
    size_contenders,
    split,
    time_contenders,
    with_rates,
    write_table,
)
from tasks.data import Prepared
from tasks.progress import bar
from tasks.training import TrainJob, train_model
from tasks.workspace import Workspace

STARTS: Mapping[Pretrained, str] = {
    Pretrained.REQUIRED: "ImageNet weights, wherever a part of a network has such",
    Pretrained.OFF: "random weights for all; ImageNet weights were not asked for, or cannot be had for every contender",
}


@flow(name="benchmark", flow_run_name="benchmark")
def benchmark(
    sources: list[Source],
    out: str,
    networks: list[str] | None = None,
    settings: Settings | None = None,
    accelerator: str = "auto",
    plan: Plan | None = None,
) -> str:
    """Train and score contenders under the same protocols; write `table.md`, `table.json` and plots into `out`.

    Each training is one MLflow run. What is finished is not repeated when the benchmark is started again.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        out: Folder for the tables and the runs.
        networks: Names of networks and ablations; all where left out.
        settings: Settings of all contenders, by stage.
        accelerator: `auto`, `cpu` or `gpu`.
        plan: Seeds, protocols, and the time for everything.

    Raises
    ------
    InputError
        If a contender is unknown, or a protocol is asked for that the data sets do not allow.
    IncompleteBatchError
        If time was up before everything was done; the table tells what is.
    """
    begun, plan, settings = time.monotonic(), plan or Plan(), settings or Settings()
    named, place = chosen(networks, settings), Workspace(out)
    prepared = prepare(sources, out, settings)
    bench = begin(prepared, named, place, plan)
    bench = replace(bench, accelerator=accelerator, until=None if plan.seconds is None else begun + plan.seconds)
    outcomes = [finish(bench, number, cell) for number, cell in enumerate(bench.cells)]
    table = tabulate(bench, settings, outcomes)
    within = {name: list(seeds.values()) for name, seeds in runs_of(outcomes, Protocol.WITHIN).items()}
    page = write_table(table, within, place)
    require_finished(table, page)
    return page


@dataclass(frozen=True)
class Bench:
    """What all trainings share."""

    prepared: Prepared
    samples: tuple[Sample, ...]
    space: LabelSpace
    named: Mapping[str, Settings]
    start: Pretrained
    sizes: tuple[Size, ...]
    place: Workspace
    plan: Plan
    accelerator: str = "auto"
    until: float | None = None
    """When time is up, s of `time.monotonic`."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(sorted({sample.source for sample in self.samples}))

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """What is run."""
        return self.plan.allowed(self.sources)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All trainings."""
        return tuple(cells(list(self.named), self.plan, self.sources))

    @property
    def type_only(self) -> frozenset[str]:
        """Contenders that learn no outlines."""
        return frozenset(size.contender for size in self.sizes if not size.outlines)

    def job(self, cell: Cell) -> TrainJob:
        """Say what is trained."""
        setting = self.named[cell.contender]
        train = replace(setting.train, seed=cell.seed)
        return TrainJob(self.prepared, setting.net, setting.prior, train, without=cell.without)


def begin(prepared: Prepared, named: Mapping[str, Settings], place: Workspace, plan: Plan) -> Bench:
    """Check what is asked for against the data, and let all contenders start alike."""
    samples = Catalog.open(prepared.catalog).samples
    plan.allowed(sorted({sample.source for sample in samples}))
    policy = next(iter(named.values())).net.pretrained
    start = choose_start([setting.net for setting in named.values()], policy, place)
    alike = {name: replace(own, net=replace(own.net, pretrained=start)) for name, own in named.items()}
    space = smallest_label_space(sample.label for sample in samples)
    sizes = size_contenders({name: ModelSpec(own.net, own.prior, space) for name, own in alike.items()})
    return Bench(prepared, samples, space, alike, start, sizes, place, plan)


@dataclass(frozen=True)
class Outcome:
    """How far a training has come."""

    cell: Cell
    left: str
    """What is still to be done; empty where it is finished."""
    training: str = ""
    run: str = ""
    answers: Mapping[Change, str] = field(default_factory=dict)
    """Change of the images -> file of predictions."""


def finish(bench: Bench, number: int, cell: Cell) -> Outcome:
    """Train, ask and log, as far as it is not done and time allows."""
    outcome = Outcome(cell, "training")
    try:
        outcome = trained(bench, number, outcome)
        asked = Question(f"{outcome.training}/model", unseen(bench.samples, cell, bench.space))
        outcome = replace(outcome, answers=answers(bench, asked), left="changed images")
        if Protocol.ROBUSTNESS in bench.protocols and not cell.without:
            told = answers(bench, replace(asked, changes=CHANGES))
            outcome = replace(outcome, answers={**outcome.answers, **told})
    except OutOfTimeError:
        return outcome
    tags = {"contender": cell.contender, "seed": str(cell.seed), "without": cell.without}
    run = log_cell(bench.job(cell), tags, figures_of(bench, outcome), bench.place)
    return replace(outcome, left="", run=run)


def trained(bench: Bench, number: int, outcome: Outcome) -> Outcome:
    """Train, or find the finished training."""
    job, cell = bench.job(outcome.cell), outcome.cell
    if not is_trained(job, bench.place):
        require_time(bench.until, str(cell))
        with bar(str(cell)) as progress:
            progress(number, len(bench.cells))
    folder = train_model(job, bench.place, bench.accelerator, bench.until)
    return replace(outcome, training=folder, left="scoring")


def answers(bench: Bench, question: Question) -> dict[Change, str]:
    """Ask, or find what was answered."""
    places = question.places(bench.place)
    if not all(place.is_file() for place in places.values()):
        require_time(bench.until, "images are left to ask about")
    return ask_model(question, bench.place, bench.until)


def figures_of(bench: Bench, outcome: Outcome) -> dict[str, float]:
    """Give the scores of one training as they are logged: `within/bccd/cell_iou`, `robustness/hue/3`."""
    cell, outlines = outcome.cell, outcome.cell.contender not in bench.type_only
    bins, figures = bench.named[cell.contender].evaluate.calibration_bins, dict[str, float]()
    for change, path in outcome.answers.items():
        found = values(split(Predictions.open(path)), bins, outlines=outlines)
        if change is None:
            protocol = Protocol.LEFT_OUT if cell.without else Protocol.WITHIN
            figures |= {f"{protocol}/{data}/{figure}": value for (data, figure), value in found.items()}
        elif (overall := found.get((OVERALL, SCORE if outlines else TYPE_SCORE))) is not None:
            figures[f"{Protocol.ROBUSTNESS}/{change[0]}/{change[1]}"] = overall
    return figures


def runs_of(outcomes: Sequence[Outcome], protocol: Protocol, change: Change = None) -> dict[str, dict[int, Run]]:
    """Collect what was said: contender -> seed -> predictions by data set."""
    apart = protocol is Protocol.LEFT_OUT
    told: dict[str, dict[int, Run]] = {}
    for outcome in outcomes:
        if bool(outcome.cell.without) == apart and change in outcome.answers:
            seeds = told.setdefault(outcome.cell.contender, {})
            said = split(Predictions.open(outcome.answers[change]))
            seeds[outcome.cell.seed] = joined([seeds.get(outcome.cell.seed, {}), said])
    return told


def tabulate(bench: Bench, settings: Settings, outcomes: Sequence[Outcome]) -> Table:
    """Compare what is finished."""
    speed = timed(bench, settings, outcomes)
    return Table(
        head=head(bench, settings),
        contenders=tuple(bench.named),
        protocols=bench.protocols,
        sources=bench.sources,
        seeds=bench.plan.seeds,
        counts=tuple(counts(bench.samples)),
        sizes=with_rates(bench.sizes, speed),
        entries=tuple(scored(bench, settings.evaluate, outcomes)),
        cells=tuple(record(bench, outcome) for outcome in outcomes),
        priors_per_s=speed.get(PRIOR),
        notes=tuple(notes(bench)),
    )


def scored(bench: Bench, spec: EvalSpec, outcomes: Sequence[Outcome]) -> Iterator[Entry]:
    """Give all figures of all protocols."""
    runs = {protocol: runs_of(outcomes, protocol) for protocol in (Protocol.WITHIN, Protocol.LEFT_OUT)}
    for protocol in bench.protocols:
        if protocol is Protocol.ROBUSTNESS:
            changed = {change: runs_of(outcomes, protocol, change) for change in CHANGES}
            yield from Trial(runs[Protocol.WITHIN], changed, spec, bench.type_only).entries()
        else:
            yield from Contest(runs[protocol], spec, bench.type_only).entries(protocol)
    if runs.keys() <= set(bench.protocols):
        yield from together(*runs.values(), spec, bench.type_only)


def timed(bench: Bench, settings: Settings, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Time the first model of every contender that has one; gives crops a second."""
    folders = {one.cell.contender: f"{one.training}/model" for one in reversed(outcomes) if one.training}
    named = {name: folders[name] for name in bench.named if name in folders}
    return time_contenders(named, bench.place, settings.promote.timing_rounds, bench.accelerator) if named else {}


def head(bench: Bench, settings: Settings) -> dict[str, str]:
    """Say what was run."""
    train, seconds = settings.train, bench.plan.seconds
    limit = "" if seconds is None else f"; {seconds / 3600:.4g} h for everything in this run"
    return {
        "data": bench.prepared.digest,
        "budget": f"epochs of every training: {train.epochs}, batches of {train.batch_size}{limit}",
        "seeds": f"{bench.plan.seeds}, from 0 on",
        "start": STARTS[bench.start],
        "scale": f"{settings.prior.mpp} um/px, crops of {ModelSpec().crop_px} px, augmentation {train.augment}",
        "intervals": f"{settings.evaluate.confidence:.0%}, {settings.evaluate.resamples} draws of groups",
        "machine": machine(pick_device("cpu" if bench.accelerator == "cpu" else "auto")),
        "sgcldff": sgcldff.__version__,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def record(bench: Bench, outcome: Outcome) -> CellRecord:
    """Note where results lie, below the benchmark's folder."""
    root = Path(bench.place.root)
    paths = [outcome.training, outcome.answers.get(None, "")]
    training, evaluation = (Path(path).relative_to(root).as_posix() if path else "" for path in paths)
    cell = outcome.cell
    return CellRecord(cell.contender, cell.seed, cell.without, outcome.left, training, evaluation, outcome.run)


def notes(bench: Bench) -> Iterator[str]:
    """Say what the table leaves out."""
    if Protocol.LEFT_OUT not in bench.protocols:
        yield "No data set was left out: that takes two of them, and the protocol left-out."
        return
    for source in bench.sources:
        for label, images in unscored(bench.samples, source, bench.space).items():
            yield (
                f"{source} left out: the type of {images} images ({label}) is not scored; no training image has it, or "
                "none has another."
            )


def require_finished(table: Table, page: str) -> None:
    """Raise `IncompleteBatchError`, naming what is left, unless all is done."""
    left = table.unfinished
    if left:
        first = Cell(left[0].contender, left[0].seed, left[0].without)
        raise IncompleteBatchError(
            f"time is up: {len(left)} of {len(table.cells)} trainings are left, the first {first} ({left[0].left}); "
            f"{page} has the rest, and the same command goes on"
        )
