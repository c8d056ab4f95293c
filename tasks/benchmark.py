"""Tasks that ask the benchmark's contenders, time them, and write down what came out."""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sgcldff.benchmark.common_start import common_start
from sgcldff.benchmark.page import page
from sgcldff.benchmark.plots import draw
from sgcldff.benchmark.scoring import Run
from sgcldff.benchmark.speed import Size, machine, rates, size_of
from sgcldff.benchmark.table import Table
from sgcldff.core.errors import OutOfTimeError
from sgcldff.core.records import Sample
from sgcldff.core.settings import ModelSpec, NetSpec, Perturbation, Pretrained, digest
from sgcldff.evaluation import Predictions
from sgcldff.evaluation.corruptions import AMOUNTS, change_of
from sgcldff.evaluation.evaluate import predict
from sgcldff.evaluation.predictions import LAYOUT
from sgcldff.evaluation.report import PREDICTIONS_FILE
from sgcldff.models.checkpoint import saved_digest
from sgcldff.models.model import load_model, pick_device
from sgcldff.registry import Registry
from tasks.artifacts import show_image, show_markdown
from tasks.evaluation import content_of, keep, trained_on
from tasks.policy import MODEL
from tasks.progress import bar
from tasks.stages import stage
from tasks.training import TRAINED, TrainJob, record_of, tracked_run
from tasks.workspace import Workspace, write_json

logger = logging.getLogger(__name__)

START, SPEED = "start.json", "speed.json"
"""Which weights all start from, once decided; how fast models were."""
TABLE_JSON, TABLE_PAGE, PLOTS = "table.json", "table.md", "plots"

Change = tuple[Perturbation, int] | None
"""Kind and strength; None leaves images as they are."""


@stage("choose-start", MODEL)
def choose_start(nets: Sequence[NetSpec], policy: Pretrained, workspace: Workspace) -> Pretrained:
    """Decide for all contenders which weights they start from; what `auto` decided once holds for this folder.

    Raises
    ------
    InputError
        If ImageNet weights are required, or were used before, and cannot be had for one of them.
    """
    record = Path(workspace.root) / START
    if policy is not Pretrained.AUTO:
        return common_start(nets, policy)
    held = Pretrained(json.loads(record.read_text())["pretrained"]) if record.is_file() else policy
    chosen = common_start(nets, held)
    write_json(record, {"pretrained": chosen.value})
    return chosen


@stage("size-contenders", MODEL)
def size_contenders(specs: Mapping[str, ModelSpec]) -> tuple[Size, ...]:
    """Count parameters and operations of every contender."""
    return tuple(size_of(name, spec) for name, spec in specs.items())


@dataclass(frozen=True)
class Question:
    """What a model is asked: images as they are, or changed."""

    model: str
    """Folder of the model."""
    samples: tuple[Sample, ...]
    changes: tuple[Change, ...] = (None,)

    def places(self, workspace: Workspace) -> dict[Change, Path]:
        """Say where the answers are, or will be."""
        asked = (saved_digest(self.model), content_of(self.samples))
        keys = {change: digest((*asked, LAYOUT, "unexplained", _content(change))) for change in self.changes}
        return {change: workspace.evaluation(key) / PREDICTIONS_FILE for change, key in keys.items()}


def _content(change: Change) -> list[object]:
    return [] if change is None else [change[0].value, asdict(AMOUNTS[change[1]])]


@stage("ask", MODEL)
def ask_model(question: Question, workspace: Workspace, until: float | None = None) -> dict[Change, str]:
    """Ask a model about images it never saw, or find what it said; gives change -> file of predictions.

    Nothing is explained, which spares the gradients.

    Raises
    ------
    OutOfTimeError
        If something is left to ask at `until`, s of `time.monotonic`.
    """
    places = question.places(workspace)
    missing = [change for change, place in places.items() if not place.is_file()]
    if missing:
        model, seen = load_model(question.model), trained_on(Path(question.model))
        with bar(f"ask {model.spec.net.name}") as progress:
            for done, change in enumerate(missing):
                require_time(until, f"{len(missing) - done} of {len(places)} sets of images are left to ask about")
                altered = change_of(*change) if change else None
                found, _ = predict(model, question.samples, None, seen, altered, explained=False)
                keep(found, places[change])
                progress(done + 1, len(missing))
    return {change: str(place) for change, place in places.items()}


def require_time(until: float | None, left: str) -> None:
    """Raise `OutOfTimeError`, saying what is left, if time is up."""
    if until is not None and time.monotonic() >= until:
        raise OutOfTimeError(f"time is up: {left}; the same command goes on there")


def is_trained(job: TrainJob, workspace: Workspace) -> bool:
    """Tell whether a training is finished."""
    return (workspace.training(job.key()) / TRAINED).is_file()


@stage("log-cell", MODEL)
def log_cell(job: TrainJob, tags: Mapping[str, str], figures: Mapping[str, float], workspace: Workspace) -> str:
    """Add tags and scores to the run of a training, each once, and end it; gives the run's id."""
    registry, folder = Registry(workspace.tracking_uri), workspace.training(job.key())
    run, record = tracked_run(registry, folder, job), record_of(folder, "logged", registry)
    known: dict[str, float] = json.loads(record.read_text()) if record.is_file() else {}
    new = {name: value for name, value in figures.items() if known.get(name) != value}
    if new:
        registry.tag(run, {f"sgcldff.{name}": text for name, text in tags.items()})
        registry.log(run, {}, new)
        registry.finish(run)
        write_json(record, known | new)
    return run


@stage("time-contenders", MODEL)
def time_contenders(
    folders: Mapping[str, str], workspace: Workspace, rounds: int, accelerator: str
) -> dict[str, float]:
    """Time models in turns, or find their times on such a machine: crops a second, and priors a second."""
    device = pick_device("cpu" if accelerator == "cpu" else "auto")
    digests = {name: saved_digest(folder) for name, folder in folders.items()}
    place = workspace.evaluation(digest((digests, machine(device), rounds))) / SPEED
    if not place.is_file():
        models = {name: load_model(folder, str(device)) for name, folder in folders.items()}
        write_json(place, rates(models, rounds))
    found: dict[str, float] = json.loads(place.read_text())
    return found


@stage("write-table", MODEL)
def write_table(table: Table, runs: Mapping[str, Sequence[Run]], workspace: Workspace) -> str:
    """Write the table for machines and for people, and its pictures; gives the page's path."""
    out = Path(workspace.root)
    write_json(out / TABLE_JSON, table.to_dict())
    pictures = draw(table, runs, out / PLOTS)
    text = page(table, [path.relative_to(out).as_posix() for path in pictures])
    (out / TABLE_PAGE).write_text(text)
    show_markdown(text, key="benchmark", description=f"Data {table.head['data']}")
    for path in pictures:
        show_image(path.as_uri(), key=f"benchmark-{path.stem}", description=path.stem)
    return str(out / TABLE_PAGE)


def split(said: Predictions) -> Run:
    """Part predictions by data set."""
    return {source: said.of(source) for source in sorted(set(said.column("source")))}


def joined(runs: Iterable[Run]) -> Run:
    """Put together what models said of different data sets."""
    return {source: said for run in runs for source, said in run.items()}


def with_rates(sizes: Iterable[Size], found: Mapping[str, float]) -> tuple[Size, ...]:
    """Add the times of those that were timed."""
    return tuple(replace(size, images_per_s=found.get(size.contender)) for size in sizes)
