"""Tasks of the benchmark: predictions, timing, and the table."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sgcldff.benchmark.common_start import common_start
from sgcldff.benchmark.markdown_page import markdown_page
from sgcldff.benchmark.plots import draw_plots
from sgcldff.benchmark.robustness import Corruption
from sgcldff.benchmark.scoring import SeedPredictions
from sgcldff.benchmark.speed import ModelSize, machine, rates, size_of
from sgcldff.benchmark.table import BenchmarkTable
from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import OutOfTimeError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.records import Sample
from sgcldff.core.settings import ModelSpec, NetSpec, Pretrained, digest
from sgcldff.evaluation import Predictions
from sgcldff.evaluation.corruptions import AMOUNTS, corruption
from sgcldff.evaluation.evaluate import predict
from sgcldff.evaluation.predictions import LAYOUT
from sgcldff.evaluation.report import PREDICTIONS_FILE
from sgcldff.models.checkpoint import saved_digest
from sgcldff.models.model import load_model, pick_device
from sgcldff.registry import Registry
from tasks.artifacts import show_image, show_markdown
from tasks.evaluation import content_of, trained_on
from tasks.policy import MODEL
from tasks.progress import bar
from tasks.stages import stage
from tasks.training import TrainJob, record_of, tracked_run
from tasks.workspace import RECORD_REMEDY, Workspace

START, SPEED = "start.json", "speed.json"
"""Files with the weights that all candidates start from, and with measured speeds."""
TABLE_JSON, TABLE_PAGE, PLOTS = "table.json", "table.md", "plots"

ImageState = Corruption | None
"""A corruption of the images; None leaves them unchanged."""


@stage("choose-start", MODEL)
def choose_start(nets: Sequence[NetSpec], policy: Pretrained, workspace: Workspace) -> Pretrained:
    """Decide which weights all candidates start from; what `auto` decided once is kept for this folder.

    Raises
    ------
    InputError
        If ImageNet weights are required, or were used before, and one candidate's are not available.
    """
    record = Path(workspace.root) / START
    if policy is not Pretrained.AUTO:
        return common_start(nets, policy)
    kept = Pretrained(read_json(record, RECORD_REMEDY)["pretrained"]) if record.is_file() else policy
    start = common_start(nets, kept)
    write_json(record, {"pretrained": start.value})
    return start


@stage("size-contenders", MODEL)
def measure_sizes(specs: Mapping[str, ModelSpec]) -> tuple[ModelSize, ...]:
    """Count parameters and operations of every candidate."""
    return tuple(size_of(name, spec) for name, spec in specs.items())


@dataclass(frozen=True)
class PredictionJob:
    """A model, and the images that it predicts, unchanged or corrupted."""

    model: str
    """Folder of the model."""
    samples: tuple[Sample, ...]
    states: tuple[ImageState, ...] = (None,)

    def paths(self, workspace: Workspace) -> dict[ImageState, Path]:
        """Return the files of predictions, whether or not they exist."""
        content = (saved_digest(self.model), content_of(self.samples), LAYOUT)

        def key(state: ImageState) -> str:
            if state is None:
                return digest((*content, []))
            return digest((*content, "unexplained", [state[0].value, asdict(AMOUNTS[state[1]])]))

        return {state: workspace.evaluation(key(state)) / PREDICTIONS_FILE for state in self.states}


@stage("ask", MODEL)
def predict_states(job: PredictionJob, workspace: Workspace, until: float | None = None) -> dict[ImageState, str]:
    """Predict images that a model was not trained on, or find earlier predictions; returns state -> file.

    Only types of unchanged images are explained: gradients take longer than predictions.

    Raises
    ------
    OutOfTimeError
        If something is left to predict at `until`, s of `time.monotonic`.
    """
    paths = job.paths(workspace)
    missing = [state for state, path in paths.items() if not path.is_file()]
    if missing:
        require_time(until, "images are left to predict")
        model, training_images = load_model(job.model), trained_on(Path(job.model))
        with bar(f"predict {model.spec.net.name}") as progress:
            for done, state in enumerate(missing):
                require_time(until, f"{len(missing) - done} of {len(paths)} sets of images are left to predict")
                change = corruption(*state) if state else None
                predictions, _ = predict(model, job.samples, None, training_images, change, explained=not state)
                predictions.save(paths[state])
                progress(done + 1, len(missing))
    return {state: str(path) for state, path in paths.items()}


def require_time(until: float | None, left: str) -> None:
    """Raise `OutOfTimeError`, saying what is left, if time is up."""
    if until is not None and time.monotonic() >= until:
        raise OutOfTimeError(f"time is up: {left}; the same command resumes there")


@stage("log-cell", MODEL)
def log_scores(job: TrainJob, tags: Mapping[str, str], scores: Mapping[str, float], workspace: Workspace) -> str:
    """Add tags and scores to the run of a training, each once, and end it; returns the run's id."""
    registry, folder = Registry(workspace.tracking_uri), workspace.training(job.key())
    run, record = tracked_run(registry, folder, job), record_of(folder, "logged", registry)
    logged: dict[str, float] = read_json(record, RECORD_REMEDY) if record.is_file() else {}
    new = {name: value for name, value in scores.items() if logged.get(name) != value}
    if new:
        registry.runs.tag(run, {f"sgcldff.{name}": text for name, text in tags.items()})
        registry.runs.log(run, {}, new)
        registry.runs.finish(run)
        write_json(record, logged | new)
    return run


@stage("time-contenders", MODEL)
def measure_speed(folders: Mapping[str, str], workspace: Workspace, rounds: int, accelerator: str) -> dict[str, float]:
    """Time models in turn, or find earlier times on such a machine: crops per second, and priors per second."""
    device = pick_device("cpu" if accelerator == "cpu" else "auto")
    digests = {name: saved_digest(folder) for name, folder in folders.items()}
    record = workspace.evaluation(digest((digests, machine(device), rounds))) / SPEED
    if not record.is_file():
        models = {name: load_model(folder, str(device)) for name, folder in folders.items()}
        write_json(record, rates(models, rounds))
    return read_json(record, RECORD_REMEDY)


@stage("write-table", MODEL)
def write_benchmark(table: BenchmarkTable, runs: Mapping[str, Sequence[SeedPredictions]], workspace: Workspace) -> str:
    """Write the table as JSON and Markdown, and the plots; returns the path of the Markdown page."""
    out = Path(workspace.root)
    with atomic_write(out / TABLE_JSON) as draft:
        draft.write_text(table.to_json())
    plots = draw_plots(table, runs, out / PLOTS)
    text = markdown_page(table, [path.relative_to(out).as_posix() for path in plots])
    (out / TABLE_PAGE).write_text(text)
    show_markdown(text, key="benchmark", description=f"Data {table.head['data']}")
    for path in plots:
        show_image(path, key=f"benchmark-{path.stem}", description=path.stem)
    return str(out / TABLE_PAGE)


def by_source(predictions: Predictions) -> SeedPredictions:
    """Split predictions by data set."""
    return {source: predictions.of(source) for source in sorted(set(predictions.column("source")))}
