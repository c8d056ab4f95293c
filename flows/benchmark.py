"""SG-CLDFF, baselines and ablations under one protocol: same splits, scale, augmentation, budget and start."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.prepare import prepare
from flows.settings import Settings
from sgcldff.catalog import Catalog
from sgcldff.datasets import Source
from sgcldff.errors import InputError
from sgcldff.evaluation.scores import Scores
from sgcldff.model import load_model
from sgcldff.records import Split
from sgcldff.specs import Mixing, Pretrained
from tasks.modelling import EvalJob, TrainJob, evaluate_model, read_report, train_model
from tasks.workspace import Workspace, write_json

COLUMNS = ("cell_iou", "nucleus_iou", "accuracy", "balanced_accuracy", "macro_f1", "calibration_error")


def contenders(base: Settings | None = None) -> Mapping[str, Settings]:
    """Give the settings of every model of the table; each differs from SG-CLDFF in one thing.

    All start from random weights: ImageNet weights are not to be had for every part of every model.
    """
    start = base or Settings()
    ours = replace(start, net=replace(start.net, pretrained=Pretrained.OFF))
    net, loss = ours.net, ours.train.loss

    def without(**terms: object) -> Settings:
        return replace(ours, train=replace(ours.train, loss=replace(loss, **terms)))

    return {
        "sgcldff": ours,
        "unet": replace(ours, net=replace(net, name="unet")),
        "deeplabv3plus": replace(ours, net=replace(net, name="deeplabv3plus")),
        "no-prior": replace(ours, net=replace(net, prior_input=False, prior_gate=False)),
        "prior-as-input-only": replace(ours, net=replace(net, prior_gate=False)),
        "no-alignment-loss": without(alignment=0.0),
        "no-fusion": replace(ours, net=replace(net, cross_layer_fusion=False)),
        "no-class-weighting": without(class_weighting=False),
        "no-centre-loss": without(centre=0.0),
        "convolution-only": replace(ours, net=replace(net, mixing=Mixing.CONVOLUTION)),
        "swin-only": replace(ours, net=replace(net, mixing=Mixing.SWIN)),
    }


@dataclass(frozen=True)
class Row:
    """One contender's figures."""

    model: str
    parameters: int
    scores: Scores
    """Over all data sets of the test split."""


@flow(name="benchmark", flow_run_name="benchmark")
def benchmark(
    sources: list[Source],
    out: str,
    networks: list[str],
    settings: Settings | None = None,
    accelerator: str = "auto",
) -> str:
    """Train and evaluate the named contenders and write `table.md` and `table.json` into `out`.

    Each contender is one MLflow run. What is finished is not repeated when the benchmark is started again.

    Args:
        sources: Data sets: adapter (`auto` finds the known ones below the folder), folder or URL (`s3://bucket/prefix`),
            and um/px where the adapter cannot know it.
        out: Folder for the tables and the runs.
        networks: Names of networks and ablations.
        settings: Settings of all contenders, by stage.
        accelerator: `auto`, `cpu` or `gpu`.

    Raises
    ------
    InputError
        If a contender is unknown.
    """
    chosen, place = contenders(settings), Workspace(out)
    unknown = [name for name in networks if name not in chosen]
    if unknown:
        raise InputError(f"contender {', '.join(unknown)} is unknown: name some of {', '.join(chosen)}")
    prepared = prepare(sources, out, settings)
    samples = Catalog.open(prepared.catalog).select(Split.TEST)
    rows: list[Row] = []
    for name in networks:
        setting = chosen[name]
        training = train_model(TrainJob(prepared, setting.net, setting.prior, setting.train), place, accelerator)
        report = read_report(evaluate_model(EvalJob(f"{training}/model", samples, setting.evaluate), place))
        rows.append(Row(name, size(f"{training}/model"), report.pooled))
        write_table(Path(out), rows)
    create_markdown_artifact((Path(out) / "table.md").read_text(), key="benchmark")
    return str(Path(out) / "table.md")


def size(folder: str) -> int:
    """Count a model's parameters."""
    return sum(weight.numel() for weight in load_model(folder, "cpu").net.parameters())


def write_table(out: Path, rows: Sequence[Row]) -> None:
    """Write the table for machines and for people."""
    write_json(out / "table.json", {"rows": [asdict(row) for row in rows]})
    head = ["model", "parameters (M)", *(column.replace("_", " ") for column in COLUMNS)]
    lines = [head, ["---"] * len(head), *(cells(row) for row in rows)]
    (out / "table.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


def cells(row: Row) -> list[str]:
    """Format one row: scores over all data sets, with intervals."""
    scores = [getattr(row.scores, column) for column in COLUMNS]
    return [row.model, f"{row.parameters / 1e6:.2f}", *("-" if score is None else str(score) for score in scores)]
