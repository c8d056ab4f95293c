"""SG-CLDFF, baselines and ablations under the same protocols: same splits, scale, augmentation, budget and start."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import sgcldff
from flows.candidates import select_candidates
from flows.prepare import prepare
from flows.recorded import recorded_flow
from flows.settings import Settings
from sgcldff.benchmark.protocols import (
    CORRUPTIONS,
    BenchmarkPlan,
    Protocol,
    Training,
    scored_samples,
    trainings,
    unscored_labels,
)
from sgcldff.benchmark.robustness import RobustnessComparison
from sgcldff.benchmark.scoring import (
    OVERALL,
    SCORE,
    TYPE_SCORE,
    Comparison,
    ScoreEntry,
    SeedPredictions,
    pooled_entries,
    scores_of_seed,
)
from sgcldff.benchmark.speed import PRIOR, ModelSize, machine
from sgcldff.benchmark.table import BenchmarkTable, TrainingEntry, image_counts
from sgcldff.core.errors import IncompleteBatchError, OutOfTimeError
from sgcldff.core.labels import LabelSpace, smallest_label_space
from sgcldff.core.records import Sample
from sgcldff.core.settings import EvalSpec, ModelSpec, Pretrained
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import Catalog
from sgcldff.evaluation import Predictions
from sgcldff.models.model import pick_device
from tasks.benchmark import (
    ImageState,
    PredictionJob,
    by_source,
    choose_start,
    log_scores,
    measure_sizes,
    measure_speed,
    predict_states,
    require_time,
    write_benchmark,
)
from tasks.data import Prepared
from tasks.progress import bar
from tasks.training import TRAINED, TrainJob, train_model
from tasks.workspace import Workspace

STARTS: Mapping[Pretrained, str] = {
    Pretrained.REQUIRED: "ImageNet weights, for all parts of networks for which they exist",
    Pretrained.OFF: "random weights for all: ImageNet weights are switched off, or not available for every candidate",
}


@recorded_flow("benchmark", "sources")
def benchmark(
    sources: list[Source],
    out: str,
    networks: list[str] | None = None,
    settings: Settings | None = None,
    accelerator: str = "auto",
    plan: BenchmarkPlan | None = None,
) -> str:
    """Train and score candidates under the same protocols; write `table.md`, `table.json` and plots into `out`.

    Each training is one MLflow run. Finished work is not repeated when the benchmark is started again.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        out: Folder for the tables and the runs.
        networks: Names of networks and ablations; by default all.
        settings: Settings of all candidates, by stage.
        accelerator: `auto`, `cpu` or `gpu`.
        plan: Seeds, protocols, and the total time.

    Raises
    ------
    InputError
        If a candidate is unknown, or a protocol is not possible with the data sets.
    IncompleteBatchError
        If time was up before everything was finished; the table says what is missing.
    """
    start, plan, settings = time.monotonic(), plan or BenchmarkPlan(), settings or Settings()
    candidates, workspace = select_candidates(networks, settings), Workspace(out)
    prepared = prepare(sources, out, settings)
    bench = set_up(prepared, candidates, workspace, plan)
    bench = replace(bench, accelerator=accelerator, until=None if plan.seconds is None else start + plan.seconds)
    states = [run_training(bench, number, training) for number, training in enumerate(bench.trainings)]
    table = make_table(bench, settings, states)
    within = {name: list(seeds.values()) for name, seeds in collect_predictions(states, Protocol.WITHIN).items()}
    page = write_benchmark(table, within, workspace)
    if left := table.unfinished:
        first = Training(left[0].candidate, left[0].seed, left[0].without)
        raise IncompleteBatchError(
            f"time is up: {len(left)} of {len(table.trainings)} trainings are left, the first {first} ({left[0].left});"
            f" {page} contains the rest, and the same command resumes"
        )
    return page


@dataclass(frozen=True)
class Bench:
    """What all trainings have in common."""

    prepared: Prepared
    samples: tuple[Sample, ...]
    space: LabelSpace
    candidates: Mapping[str, Settings]
    start: Pretrained
    sizes: tuple[ModelSize, ...]
    workspace: Workspace
    plan: BenchmarkPlan
    accelerator: str = "auto"
    until: float | None = None
    """When time is up, s of `time.monotonic`."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(sorted({sample.source for sample in self.samples}))

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The protocols that are run."""
        return self.plan.allowed(self.sources)

    @property
    def trainings(self) -> tuple[Training, ...]:
        """All trainings."""
        return tuple(trainings(list(self.candidates), self.plan, self.sources))

    @property
    def type_only(self) -> frozenset[str]:
        """Candidates that do not learn outlines."""
        return frozenset(size.candidate for size in self.sizes if not size.outlines)

    def job(self, training: Training) -> TrainJob:
        """Return the job of a training."""
        settings = self.candidates[training.candidate]
        spec = replace(settings.train, seed=training.seed)
        return TrainJob(self.prepared, settings.net, settings.prior, spec, without=training.without)


def set_up(prepared: Prepared, candidates: Mapping[str, Settings], workspace: Workspace, plan: BenchmarkPlan) -> Bench:
    """Check the plan against the data, and choose the same start for all candidates."""
    samples = Catalog.open(prepared.catalog).samples
    plan.allowed(sorted({sample.source for sample in samples}))
    policy = next(iter(candidates.values())).net.pretrained
    start = choose_start([settings.net for settings in candidates.values()], policy, workspace)
    started = {name: replace(own, net=replace(own.net, pretrained=start)) for name, own in candidates.items()}
    space = smallest_label_space(sample.label for sample in samples)
    sizes = measure_sizes({name: ModelSpec(own.net, own.prior, space) for name, own in started.items()})
    return Bench(prepared, samples, space, started, start, sizes, workspace, plan)


@dataclass(frozen=True)
class TrainingState:
    """Progress of a training and its scoring."""

    training: Training
    left: str
    """What is still to be done; empty if it is finished."""
    folder: str = ""
    run: str = ""
    predictions: Mapping[ImageState, str] = field(default_factory=dict)
    """State of the images -> file of predictions."""


def run_training(bench: Bench, number: int, training: Training) -> TrainingState:
    """Train, predict and log as far as it is not done and time allows."""
    state, job = TrainingState(training, "training"), bench.job(training)
    try:
        if not (bench.workspace.training(job.key()) / TRAINED).is_file():
            require_time(bench.until, str(training))
            with bar(str(training)) as progress:
                progress(number, len(bench.trainings))
        folder = train_model(job, bench.workspace, bench.accelerator, bench.until)
        state = replace(state, folder=folder, left="scoring")
        question = PredictionJob(f"{folder}/model", scored_samples(bench.samples, training, bench.space))
        predictions = predict_states(question, bench.workspace, bench.until)
        state = replace(state, predictions=predictions, left="changed images")
        if Protocol.ROBUSTNESS in bench.protocols and not training.without:
            predictions |= predict_states(replace(question, states=CORRUPTIONS), bench.workspace, bench.until)
            state = replace(state, predictions=predictions)
    except OutOfTimeError:
        return state
    tags = {"contender": training.candidate, "seed": str(training.seed), "without": training.without}
    run = log_scores(job, tags, logged_scores(bench, state), bench.workspace)
    return replace(state, left="", run=run)


def logged_scores(bench: Bench, state: TrainingState) -> dict[str, float]:
    """Return the scores of one training by the names of their metrics: `within/bccd/cell_iou`, `robustness/hue/3`."""
    training, outlines = state.training, state.training.candidate not in bench.type_only
    bins, scores = bench.candidates[training.candidate].evaluate.calibration_bins, dict[str, float]()
    for corruption, path in state.predictions.items():
        own = scores_of_seed(by_source(Predictions.open(path)), bins, outlines=outlines)
        if corruption is None:
            protocol = Protocol.LEFT_OUT if training.without else Protocol.WITHIN
            scores |= {f"{protocol}/{data}/{figure}": value for (data, figure), value in own.items()}
        elif (overall := own.get((OVERALL, SCORE if outlines else TYPE_SCORE))) is not None:
            scores[f"{Protocol.ROBUSTNESS}/{corruption[0]}/{corruption[1]}"] = overall
    return scores


def collect_predictions(
    states: Sequence[TrainingState], protocol: Protocol, corruption: ImageState = None
) -> dict[str, dict[int, SeedPredictions]]:
    """Collect the predictions of a protocol: candidate -> seed -> data set -> predictions."""
    left_out = protocol is Protocol.LEFT_OUT
    collected: dict[str, dict[int, SeedPredictions]] = {}
    for state in states:
        if bool(state.training.without) == left_out and corruption in state.predictions:
            seeds = collected.setdefault(state.training.candidate, {})
            own = by_source(Predictions.open(state.predictions[corruption]))
            seeds[state.training.seed] = {**seeds.get(state.training.seed, {}), **own}
    return collected


def make_table(bench: Bench, settings: Settings, states: Sequence[TrainingState]) -> BenchmarkTable:
    """Compare what is finished."""
    folders = {state.training.candidate: f"{state.folder}/model" for state in reversed(states) if state.folder}
    models = {name: folders[name] for name in bench.candidates if name in folders}
    speed: Mapping[str, float] = {}
    if models:
        speed = measure_speed(models, bench.workspace, settings.promote.timing_rounds, bench.accelerator)
    return BenchmarkTable(
        head=table_head(bench, settings),
        candidates=tuple(bench.candidates),
        protocols=bench.protocols,
        sources=bench.sources,
        seeds=bench.plan.seeds,
        counts=tuple(image_counts(bench.samples)),
        sizes=tuple(replace(size, images_per_s=speed.get(size.candidate)) for size in bench.sizes),
        entries=tuple(score_states(bench, settings.evaluate, states)),
        trainings=tuple(training_entry(bench, state) for state in states),
        priors_per_s=speed.get(PRIOR),
        notes=tuple(notes(bench)),
    )


def score_states(bench: Bench, spec: EvalSpec, states: Sequence[TrainingState]) -> Iterator[ScoreEntry]:
    """Return all figures of all protocols."""
    plain = {protocol: collect_predictions(states, protocol) for protocol in (Protocol.WITHIN, Protocol.LEFT_OUT)}
    for protocol in bench.protocols:
        if protocol is Protocol.ROBUSTNESS:
            corrupted = {corruption: collect_predictions(states, protocol, corruption) for corruption in CORRUPTIONS}
            yield from RobustnessComparison(plain[Protocol.WITHIN], corrupted, spec, bench.type_only).entries()
        else:
            yield from Comparison(plain[protocol], spec, bench.type_only).entries(protocol)
    if plain.keys() <= set(bench.protocols):
        within, left_out = plain[Protocol.WITHIN], plain[Protocol.LEFT_OUT]
        yield from pooled_entries(within, left_out, spec, bench.type_only)


def table_head(bench: Bench, settings: Settings) -> dict[str, str]:
    """Describe the benchmark."""
    train, seconds = settings.train, bench.plan.seconds
    limit = "" if seconds is None else f"; {seconds / 3600:.4g} h for everything in this run"
    return {
        "data": bench.prepared.digest,
        "budget": f"{train.epochs} epochs per training, batches of {train.batch_size}{limit}",
        "seeds": f"{bench.plan.seeds}, starting from 0",
        "start": STARTS[bench.start],
        "scale": f"{settings.prior.mpp} um/px, crops of {ModelSpec().crop_px} px, augmentation {train.augment}",
        "intervals": f"{settings.evaluate.confidence:.0%}, {settings.evaluate.resamples} bootstrap samples of groups",
        "machine": machine(pick_device("cpu" if bench.accelerator == "cpu" else "auto")),
        "sgcldff": sgcldff.__version__,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def training_entry(bench: Bench, state: TrainingState) -> TrainingEntry:
    """Return where the results of a training are, relative to the benchmark's folder."""
    root, training = Path(bench.workspace.root), state.training
    paths = [state.folder, state.predictions.get(None, "")]
    folder, predictions = (Path(path).relative_to(root).as_posix() if path else "" for path in paths)
    return TrainingEntry(
        training.candidate, training.seed, training.without, state.left, folder, predictions, state.run
    )


def notes(bench: Bench) -> Iterator[str]:
    """Describe what the table does not include."""
    if Protocol.LEFT_OUT not in bench.protocols:
        yield "No data set was left out: that requires at least two data sets, and the protocol left-out."
        return
    for source in bench.sources:
        for label, images in unscored_labels(bench.samples, source, bench.space).items():
            yield (
                f"{source} left out: the type of {images} images ({label}) is not scored; no training image has it, or "
                "none has another."
            )
