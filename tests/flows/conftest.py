"""One Prefect server, one set of made-up smears and one trained workspace for all tests of flows."""

import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.cli import main
from flows.retrain import Retrained, retrain
from flows.settings import Settings, read_settings
from sgcldff.data.adapters import Source
from sgcldff.data.synthetic import write_dataset
from sgcldff.data.synthetic.slides import SlideTruth, write_slide
from sgcldff.models import released
from sgcldff.models.export import export_model
from sgcldff.registry import Registry
from tasks.workspace import Workspace
from tests import servers
from tests.terminal import QUICK, Ran


@pytest.fixture(scope="session")
def server():
    """Start a Prefect server for the session."""
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def smears(tmp_path_factory) -> Path:
    """Make 40 crops and 6 fields."""
    return write_dataset(tmp_path_factory.mktemp("data") / "smears", 40, 6, seed=1)


@pytest.fixture(scope="session")
def slide(tmp_path_factory) -> SlideTruth:
    """Make a small slide."""
    return write_slide(tmp_path_factory.mktemp("slides") / "small.tiff", (1500, 1500), cells=8, seed=4)


def quick_settings(seed: int = 0, margin: float = 0.9, *, approval: bool = False) -> Settings:
    """Give settings for one epoch; a margin of 0.9 lets every challenger pass, one of -0.9 none."""
    lenient = {
        "class_margin": 1.0, "calibration_margin": 1.0, "robustness": ["noise"], "robustness_margin": 1.0,
        "max_time_ratio": 100.0, "timing_rounds": 1, "approval": approval, "evaluation": {"resamples": 100},
    }  # fmt: skip
    return read_settings(
        None,
        {
            "net": {"pretrained": "off"},
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
def lab(server, smears, quick, tmp_path_factory) -> Lab:
    """Retrain once in an empty workspace."""
    workspace, sources = str(tmp_path_factory.mktemp("lab") / "workspace"), [Source("auto", str(smears))]
    return Lab(workspace, sources, quick(), retrain(sources, workspace, quick(), "cpu"))


@pytest.fixture(scope="session")
def halved(lab, tmp_path_factory) -> Path:
    """Export the first champion as a model is released."""
    _, folder = Registry(Workspace(lab.workspace).tracking_uri).resolve(
        f"models:/sgcldff/{lab.first.challenger.model.version}"
    )
    return export_model(folder, tmp_path_factory.mktemp("halved") / "model", half=True)


@pytest.fixture
def shipped(halved, tmp_path, monkeypatch) -> Path:
    """Put that model where the released one lies; gives its folder."""
    monkeypatch.setattr(released, "ROOT", tmp_path / "root")
    return shutil.copytree(halved, tmp_path / "root" / "models" / f"{released.NAME}_{released.VERSION}")


class Contest(NamedTuple):
    """A workspace with a champion and a refused challenger."""

    lab: Lab
    second: Retrained


@pytest.fixture(scope="session")
def contest(lab, quick) -> Contest:
    """Retrain with another seed and a margin that nothing can pass."""
    return Contest(lab, retrain(lab.sources, lab.workspace, quick(seed=1, margin=-0.9), "cpu", force=True))


@pytest.fixture
def run(monkeypatch, capsys):
    """Give the function that runs the command line in this process."""
    before, handler = dict(os.environ), signal.getsignal(signal.SIGINT)

    def ran(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["sgcldff", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ran(ended.value.code or 0, printed.out, printed.err)

    yield ran
    logging.captureWarnings(False)
    logging.raiseExceptions = True
    signal.signal(signal.SIGINT, handler)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def settings(tmp_path) -> Path:
    """Write settings for quick runs."""
    path = tmp_path / "quick.toml"
    path.write_text(QUICK)
    return path
