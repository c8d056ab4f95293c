"""One Prefect server, one set of made-up smears and one trained workspace for all tests of flows, in all processes."""

import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from prefect.context import _temporary_global_settings_context, get_settings_context
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import interruption
from flows.cli import main
from flows.retrain import Retrained, retrain
from flows.review import review_make
from flows.settings import Settings, read_settings
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.data.adapters import Source
from sgcldff.data.synthetic import write_dataset
from sgcldff.data.synthetic.slides import SlideTruth, write_slide
from sgcldff.models import released
from sgcldff.models.export import export_model
from sgcldff.registry import Registry
from sgcldff.results.review.selection import ReviewSelection
from tasks.workspace import Workspace
from tests import servers, shared
from tests.flows.review_page import Page
from tests.small import SMALL_NET
from tests.terminal import QUICK, Ran


@pytest.fixture(scope="session", autouse=True)
def _tables(mlflow_tables):
    """Make new registries fast."""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Report to one Prefect server, as Prefect's own harness for tests does; gives its address."""
    address = shared.once("prefect", servers.lasting_prefect_server)
    with temporary_settings({PREFECT_API_URL: address}), _temporary_global_settings_context(get_settings_context()):
        yield address
        EventsWorker.drain_all()


@pytest.fixture(scope="session")
def smears() -> Path:
    """Make 40 crops and 6 fields, each of a patient of its own: a promotion wants at least five to test on."""

    def make(folder: Path) -> Path:
        written = write_dataset(folder / "smears", 40, 6, seed=1)
        manifest = pd.read_csv(written / "manifest.csv").drop(columns="group")
        manifest.to_csv(written / "manifest.csv", index=False)
        return written

    return shared.once("data", make)


@pytest.fixture(scope="session")
def slide() -> SlideTruth:
    """Make a small slide."""
    return shared.once("slides", lambda folder: write_slide(folder / "small.tiff", (1500, 1500), cells=8, seed=4))


def quick_settings(seed: int = 0, margin: float = 0.9, *, approval: bool = False) -> Settings:
    """Give settings for one epoch; a margin of 0.9 lets every challenger pass, one of -0.9 none."""
    lenient = {
        "class_margin": 1.0, "calibration_margin": 1.0, "robustness": ["noise"], "robustness_margin": 1.0,
        "max_time_ratio": 100.0, "timing_rounds": 1, "approval": approval, "approve_rare": False,
        "evaluation": {"resamples": 100},
    }  # fmt: skip
    return read_settings(
        None,
        {
            "net": SMALL_NET,
            "train": {"epochs": 1, "batch_size": 8, "seed": seed},
            "evaluate": {"resamples": 100},
            "promote": lenient | {"margin": margin},
        },
    )


@pytest.fixture(scope="session")
def quick():
    """Give the function that makes settings for quick runs."""
    return quick_settings


@pytest.fixture(scope="session")
def unused_port():
    """Give the function that finds a port on which nothing listens."""
    return servers.unused_port


class Lab(NamedTuple):
    """A workspace with its first champion."""

    workspace: str
    sources: list[Source]
    settings: Settings
    first: Retrained


@pytest.fixture(scope="session")
def lab(server, smears, quick) -> Lab:
    """Retrain once in an empty workspace."""
    sources = [Source("auto", str(smears))]

    def make(folder: Path) -> tuple[str, Retrained]:
        workspace = str(folder / "workspace")
        return workspace, retrain(sources, workspace, quick(), "cpu")

    workspace, first = shared.once("lab", make)
    return Lab(workspace, sources, quick(), first)


@pytest.fixture(scope="session")
def halved(lab) -> Path:
    """Export the first champion as a model is released."""
    reference = f"models:/sgcldff/{lab.first.challenger.model.version}"

    def make(folder: Path) -> Path:
        _, champion = Registry(Workspace(lab.workspace).tracking_uri).resolve(reference)
        return export_model(champion, folder / "model", half=True)

    return shared.once("halved", make)


@pytest.fixture
def shipped(halved, tmp_path, monkeypatch) -> Path:
    """Put that model where the released one lies; gives its folder."""
    monkeypatch.setattr(released, "ROOT", tmp_path / "root")
    return shutil.copytree(
        halved, tmp_path / "root" / "models" / f"{released.RELEASED_NAME}_{released.RELEASED_VERSION}"
    )


class Contest(NamedTuple):
    """A workspace with a champion and a refused challenger."""

    lab: Lab
    second: Retrained


@pytest.fixture(scope="session")
def contest(lab, quick) -> Contest:
    """Retrain in a copy of the workspace with another seed and a margin that nothing can pass."""

    def make(folder: Path) -> tuple[str, Retrained]:
        workspace = str(shutil.copytree(lab.workspace, folder / "workspace"))
        return workspace, retrain(lab.sources, workspace, quick(seed=1, margin=-0.9), "cpu", force=True)

    workspace, second = shared.once("contest", make)
    return Contest(lab._replace(workspace=workspace), second)


@pytest.fixture
def run(monkeypatch, capsys):
    """Give the function that runs the command line in this process."""
    before, handlers = dict(os.environ), {number: signal.getsignal(number) for number in interruption.SIGNALS}
    monkeypatch.setattr(interruption, "SHUTDOWN_S", 1e6)

    def ran(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["sgcldff", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ran(ended.value.code or 0, printed.out, printed.err)

    yield ran
    logging.captureWarnings(False)
    logging.raiseExceptions = True
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def settings(tmp_path) -> Path:
    """Write settings for quick runs."""
    path = tmp_path / "quick.toml"
    path.write_text(QUICK)
    return path


@pytest.fixture
def page(browser):
    """Give the page of a review in a browser."""
    return Page(*browser)


@pytest.fixture(scope="module")
def read(smear, read_as, tmp_path_factory):
    """Give a batch with a slide of which every third cell was told, all but the first rightly."""
    told = [cell.label if number % 3 == 0 else UNIDENTIFIED for number, cell in enumerate(smear.cells)]
    told[0] = next(label for label in FIVE_TYPES if label != told[0])
    return read_as(tmp_path_factory.mktemp("batch") / "results" / "smear", smear, told).parent


@pytest.fixture
def results(read, tmp_path):
    """Give a copy of the batch."""
    return Path(shutil.copytree(read, tmp_path / "results"))


@pytest.fixture(scope="module")
def queue(read, smear, server, tmp_path_factory):
    """Make a queue of all cells that are counted."""
    folder = tmp_path_factory.mktemp("queue") / "queue"
    review_make([str(read)], [str(smear.slide)], str(folder), ReviewSelection(sample=100))
    return folder
