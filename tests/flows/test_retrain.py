"""A retraining looks whether there is a reason, and after kill -9 it goes on where it was."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from prefect.settings import PREFECT_API_URL

from flows.infer import infer
from flows.retrain import NOTHING_TO_DO, retrain, with_start
from flows.settings import read_settings
from sgcldff.core.errors import InputError
from sgcldff.data.adapters import Source
from sgcldff.data.synthetic import write_dataset
from sgcldff.models.model import load_model
from sgcldff.models.reference import Reference
from sgcldff.registry import CHALLENGER, Registry
from tasks.compute import Compute
from tasks.training import TRAINED
from tasks.workspace import Workspace
from tests.small import SMALL_TOML
from tests.terminal import COMMAND

LATER = 24
"""Crops that arrive later, a cell each."""
SETTINGS = (
    SMALL_TOML
    + """
[train]
epochs = 2
batch_size = 8
[evaluate]
resamples = 100
[promote]
margin = 0.9
class_margin = 1.0
[promote.evaluation]
resamples = 100
[retrain]
new_cells = {cells}
[retrain.drift]
stain = 1.0
prior = 1.0
embedding = 1.0
class_mix = 1.0
"""
)


class Grown(NamedTuple):
    """A copy of the laboratory's workspace, and what has arrived since its champion was trained."""

    workspace: str
    sources: list[Source]

    def trainings(self) -> set[str]:
        """Name the trainings."""
        return {path.name for path in (Path(self.workspace) / "training").iterdir()}


@pytest.fixture(scope="module")
def grown(lab, tmp_path_factory) -> Grown:
    workspace = tmp_path_factory.mktemp("grown") / "workspace"
    shutil.copytree(lab.workspace, workspace)
    later = write_dataset(tmp_path_factory.mktemp("arrived") / "later", LATER, 0, seed=9)
    return Grown(str(workspace), [*lab.sources, Source("auto", str(later))])


@pytest.fixture
def written(tmp_path):
    """Give the function that writes settings in which so many new cells are enough."""

    def write(cells: int) -> Path:
        (tmp_path / "settings.toml").write_text(SETTINGS.format(cells=cells))
        return tmp_path / "settings.toml"

    return write


def test_too_little_news_is_measured_and_ends_well(grown, written):
    before = grown.trainings()
    state = retrain(grown.sources, grown.workspace, read_settings(written(LATER + 1)), "cpu", return_state=True)
    done = state.result()
    assert (state.is_completed(), state.name, done.challenger) == (True, NOTHING_TO_DO, None)
    assert f"{LATER} new images with {LATER} labelled cells (limit {LATER + 1})" in state.message
    assert [figure.name for figure in done.decision.news.drift.figures] == [
        "stain", "prior coverage", "embedding", "class mix",
    ]  # fmt: skip
    told = json.loads(Workspace(grown.workspace).decision.read_text())
    assert told["news"]["drift"]["images"] == LATER
    assert grown.trainings() == before


def test_a_retraining_that_was_killed_goes_on_from_the_champion_s_weights(grown, written):
    registry = Registry(Workspace(grown.workspace).tracking_uri)
    before, champion, versions = grown.trainings(), registry.resolve("models:/sgcldff/1"), len(registry.versions())
    first = started(grown, written(LATER))
    wait_for(grown, before, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (key,) = grown.trainings() - before
    folder = Path(grown.workspace) / "training" / key
    assert (folder / "last.ckpt").is_file()
    assert not (folder / TRAINED).exists()
    facts = (Path(grown.workspace) / "catalog" / "facts.parquet").read_bytes()

    settings = with_start(read_settings(written(LATER)), warm=True)
    done = retrain(grown.sources, grown.workspace, settings, "cpu", promotion=False)
    assert done.decision.outcome == f"Retraining: {LATER} new labelled cells, {LATER} are enough."
    assert done.outcome == f"models:/sgcldff/{versions + 1} is challenger."
    assert grown.trainings() - before == {key}
    assert (Path(grown.workspace) / "catalog" / "facts.parquet").read_bytes() == facts
    assert champion[0].digest in json.loads((folder / TRAINED).read_text())["inherited"]
    scored = history(grown, "val/score")
    assert len(scored) == len(set(scored)) == 2, "no finished epoch is repeated"


def test_a_registered_model_brings_its_reference(grown, slide, tmp_path):
    """It knows what arrived, since it is trained by now, and refuses a limit that is finer than its steps."""
    registry = Registry(Workspace(grown.workspace).tracking_uri)
    _, folder = registry.resolve(f"models:/sgcldff@{CHALLENGER}")
    assert Reference.open(folder).model == load_model(folder, "cpu").digest
    assert len(Reference.open(folder).known) > len(Reference.open(registry.resolve("models:/sgcldff/1")[1]).known)
    limits = read_settings(None, {"infer": {"min_typicality": 1e-6}})
    with pytest.raises(InputError, match="resolves nothing below"):
        infer([str(slide.slide)], str(tmp_path), grown.workspace, str(folder), None, Compute(workers=0), limits)


def started(grown, settings):
    sources = [part for source in grown.sources for part in ("-d", source.folder)]
    given = ("-w", grown.workspace, "--settings", str(settings), "--device", "cpu", "--warm")
    environment = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()}
    command = [COMMAND, "retrain", *sources, *given]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(grown, before, running):
    """Wait until the new training has finished an epoch."""
    for _ in range(3000):
        made = grown.trainings() - before
        if any((Path(grown.workspace) / "training" / key / "last.ckpt").is_file() for key in made):
            return
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("no epoch was finished")


def history(grown, metric):
    """Give the steps at which a figure of the latest training was logged."""
    registry = Registry(Workspace(grown.workspace).tracking_uri)
    newest = registry.versions()[0]
    return [entry.step for entry in registry.client.get_metric_history(newest.run_id, metric)]
