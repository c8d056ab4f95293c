"""Fixtures of the tests beside this file."""

import shutil
from pathlib import Path

import pytest

from sgcldff.core.records import Split
from sgcldff.data.adapters import detect
from sgcldff.data.catalog import Catalog, ingest
from sgcldff.data.synthetic import write_dataset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("drawn") / "data", 14, 0, seed=8)


@pytest.fixture
def lab(drawn: Path, tmp_path: Path) -> tuple[Path, Catalog]:
    """Give a folder of images and its catalog, some of them in the test split."""
    data = Path(shutil.copytree(drawn, tmp_path / "data"))
    catalog = ingest(detect(data), tmp_path / "catalog")
    assert len(catalog.select(Split.TEST)) >= 2
    return data, catalog
