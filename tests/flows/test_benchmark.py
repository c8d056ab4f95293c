"""The benchmark trains its candidates alike, compares them, ends in time and does not repeat what is done."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from mlflow import MlflowClient
from pydantic import TypeAdapter
from typer.testing import CliRunner

from flows.benchmark import benchmark
from flows.candidates import candidates, select_candidates
from flows.cli import app
from flows.settings import Settings
from sgcldff.benchmark.protocols import BenchmarkPlan, Protocol
from sgcldff.benchmark.table import BenchmarkTable
from sgcldff.core.errors import IncompleteBatchError, InputError
from sgcldff.core.settings import LossSpec, TrainSpec
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import Catalog
from sgcldff.data.synthetic import write_dataset
from sgcldff.registry import TRAINED_ON
from tasks.workspace import Workspace
from tests.terminal import COMMAND, QUICK, outside

NAMES = ["sgcldff", "efficientnet"]


class Done(NamedTuple):
    """A benchmark that is finished."""

    out: Path
    sources: list[Source]

    @property
    def table(self) -> BenchmarkTable:
        """Read the table."""
        return TypeAdapter(BenchmarkTable).validate_json((self.out / "table.json").read_text())

    def times(self) -> dict[Path, int]:
        """Tell when models and answers were written."""
        written = [*self.out.rglob("weights.safetensors"), *self.out.rglob("predictions.parquet")]
        return {path: path.stat().st_mtime_ns for path in written}


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    """Make few images: every model is asked about those of the test split 26 times."""
    return write_dataset(tmp_path_factory.mktemp("smears") / "smears", 20, 1, seed=1)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Make a second data set."""
    return write_dataset(tmp_path_factory.mktemp("others") / "others", 12, 1, seed=7)


@pytest.fixture(scope="module")
def done(server, smears, others, quick, tmp_path_factory):
    """Run all protocols on two data sets with one seed."""
    sources = [Source("table", str(folder)) for folder in (smears, others)]
    out = tmp_path_factory.mktemp("bench") / "out"
    benchmark(sources, str(out), NAMES, quick(), "cpu", BenchmarkPlan(seeds=1))
    return Done(out, sources)


BASELINES = ("unet", "deeplabv3plus", "swin-unet", "resnet50", "efficientnet")


def test_ablations_differ_in_one_thing_each():
    listed = dict(candidates())
    ours = listed.pop("sgcldff")
    assert len(listed) == 14
    for name in listed.keys() - {*BASELINES, "no-prior"}:
        assert (listed[name].net != ours.net) != (listed[name].train != ours.train), name
    for other in listed.values():
        assert other.train.epochs == ours.train.epochs
        assert other.train.augment == ours.train.augment
        assert other.prior == ours.prior
        assert other.net.pretrained == ours.net.pretrained


def test_a_part_that_is_off_is_tried_and_one_that_is_on_is_left_out():
    loss = LossSpec(class_weighting=True, centre=0.01)
    listed = candidates(Settings(train=TrainSpec(loss=loss)))
    assert listed["no-class-weighting"].train.loss == replace(loss, class_weighting=False)
    assert listed["no-centre-loss"].train.loss == replace(loss, centre=0)
    assert candidates()["with-class-weighting"].train.loss == replace(LossSpec(), class_weighting=True)
    assert candidates()["with-centre-loss"].train.loss.centre > 0


def test_baselines_and_no_prior_learn_nothing_from_the_prior():
    listed = candidates()
    for name in (*BASELINES, "no-prior"):
        assert listed[name].train.loss.alignment == 0
        assert not listed[name].train.prior_outlines
    assert not listed["no-prior"].net.prior_input
    assert not listed["no-prior"].net.prior_gate


def test_all_protocols_are_in_one_table(done):
    table = done.table
    assert table.protocols == tuple(Protocol)
    assert table.candidates == tuple(NAMES)
    assert not table.unfinished
    assert len(table.trainings) == 6
    for protocol in Protocol:
        told = {entry.candidate for entry in table.entries if entry.protocol is protocol}
        assert told == set(NAMES)
    assert {entry.figure for entry in table.entries if entry.candidate == "efficientnet"}.isdisjoint({"cell_iou"})
    assert all(size.images_per_s > 0 for size in table.sizes)
    assert "random weights" in table.head["start"]
    page = (done.out / "table.md").read_text()
    assert str(done.out) not in page
    assert str(done.out) not in (done.out / "table.json").read_text()
    pictures = [line for line in page.splitlines() if line.startswith("![")]
    assert len(pictures) == 7
    assert "## Both protocols" in page
    assert all((done.out / line.partition("](")[2].rstrip(")")).is_file() for line in pictures)


def test_a_training_never_sees_the_data_set_that_is_left_out(done):
    samples = Catalog.open(Workspace(str(done.out)).catalog).samples
    assert {cell.without for cell in done.table.trainings} == {"", "smears", "others"}
    for cell in done.table.trainings:
        learned = set(json.loads((done.out / cell.training / "model" / TRAINED_ON).read_text())["sha256"])
        seen = {sample.source for sample in samples if sample.sha256 in learned}
        assert seen == {"smears", "others"} - {cell.without}


def test_every_training_is_a_run_of_mlflow_with_its_scores(done):
    client = MlflowClient(Workspace(str(done.out)).tracking_uri)
    table = done.table
    assert len({cell.run for cell in table.trainings}) == len(table.trainings)
    for cell in table.trainings:
        run = client.get_run(cell.run)
        assert run.info.status == "FINISHED"
        tags = {name: run.data.tags[f"sgcldff.{name}"] for name in ("contender", "seed", "without")}
        assert tags == {"contender": cell.candidate, "seed": "0", "without": cell.without}
        protocol, data = (Protocol.LEFT_OUT, cell.without) if cell.without else (Protocol.WITHIN, "smears")
        entry = table.of(protocol, data, "accuracy")[cell.candidate]
        assert cell.candidate in table.of(protocol, data, "cam_on_cell")
        assert run.data.metrics[f"{protocol}/{data}/accuracy"] == pytest.approx(entry.score.value)
        assert ("robustness/hue/5" in run.data.metrics) != bool(cell.without)


def test_nothing_finished_is_repeated(done, quick):
    before, table = done.times(), done.table
    benchmark(done.sources, str(done.out), NAMES, quick(), "cpu", BenchmarkPlan(seeds=1, seconds=1e-3))
    assert done.times() == before
    assert done.table.entries == table.entries
    assert done.table.sizes == table.sizes


def test_a_benchmark_out_of_time_says_what_is_left_and_writes_the_rest(done, quick):
    before, names = done.times(), [*NAMES, "no-fusion"]
    with pytest.raises(
        IncompleteBatchError, match=r"3 of 9 trainings are left, the first no-fusion, seed 0 \(training\)"
    ):
        benchmark(done.sources, str(done.out), names, quick(), "cpu", BenchmarkPlan(seeds=1, seconds=1e-3))
    page, table = (done.out / "table.md").read_text(), done.table
    assert done.times() == before
    assert [cell.candidate for cell in table.unfinished] == ["no-fusion"] * 3
    assert "- no-fusion, seed 0, without smears: training" in page
    assert "| no-fusion … | - |" in page
    assert table.of(Protocol.WITHIN, "smears", "accuracy").keys() == set(NAMES)
    assert IncompleteBatchError.exit_code == 3


def wait_for(found, running):
    """Wait until there is something, while the command runs."""
    for _ in range(6000):
        if found() or running.poll() is not None:
            break
        time.sleep(0.05)
    assert running.poll() is None, running.communicate()[0]


def test_killed_and_started_again_it_goes_on(server, others, run, tmp_path):
    out, settings = tmp_path / "out", tmp_path / "quick.toml"
    settings.write_text(QUICK + "[promote]\ntiming_rounds = 1\n")
    asked = ["-d", others, "--adapter", "table", "-o", out, "--networks", "efficientnet", "--seeds", "1"]
    command = ["benchmark", *asked, "--settings", settings, "--device", "cpu", "--protocols", "robustness"]
    running = subprocess.Popen(
        [COMMAND, *map(str, command)], env=outside(PREFECT_API_URL=server), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    first = Done(out, [])
    wait_for(lambda: len(list(out.rglob("predictions.parquet"))) >= 5, running)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    before = first.times()
    assert not (out / "table.md").exists()
    again = run(*command)
    assert again.code == 0, again
    after = first.times()
    assert {path: after[path] for path in before} == before
    assert len(after) == 1 + 1 + 25
    assert not first.table.unfinished


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--networks", "alexnet", r"candidate alexnet is unknown.*sgcldff"),
        ("--networks", "unet,unet", "named twice"),
        ("--protocols", "within,bagging", r"protocol bagging is unknown.*robustness"),
        ("--budget", "soon", r"budget 'soon'.*1h30m"),
    ],
)
def test_what_is_unknown_is_refused_before_any_work(smears, tmp_path, option, value, message):
    ran = CliRunner().invoke(app, ["benchmark", "-d", str(smears), "-o", str(tmp_path / "out"), option, value])
    assert isinstance(ran.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise ran.exception
    assert not (tmp_path / "out" / "catalog").exists()


def test_the_budget_of_epochs_holds_for_all():
    from flows.settings import Settings

    base = Settings()
    few = replace(base, train=replace(base.train, epochs=3))
    assert {own.train.epochs for own in select_candidates(None, few).values()} == {3}
    assert list(select_candidates([], few)) == list(candidates())
    with pytest.raises(InputError, match="alexnet"):
        select_candidates(["alexnet"])


@pytest.mark.usefixtures("server")
def test_one_data_set_cannot_be_left_out_and_is_told_so(smears, quick, tmp_path):
    plan = BenchmarkPlan(1, (Protocol.LEFT_OUT,))
    with pytest.raises(InputError, match="needs two data sets, and there is only smears"):
        benchmark([Source("table", str(smears))], str(tmp_path), NAMES, quick(), "cpu", plan)
    assert not (tmp_path / "training").exists()
