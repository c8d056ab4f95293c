"""Fixtures of the tests beside this file."""

import shutil
from pathlib import Path

import pytest
import torch

from sgcldff.models.model import save_model
from sgcldff.models.nets import build
from sgcldff.registry import Registry
from tests.sgcldff.registry.odd_model import ODD, SPEC


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("trained") / ODD, SPEC, build(SPEC))


@pytest.fixture(scope="module")
def seed_home(mlflow_tables: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty registry; MLflow needs seconds for the first contact, copies of the file need none."""
    home = tmp_path_factory.mktemp("registry")
    assert Registry(home).client
    return home


@pytest.fixture
def registry(seed_home: Path, tmp_path: Path) -> Registry:
    shutil.copytree(seed_home, tmp_path / "registry")
    return Registry(tmp_path / "registry")
