"""Fixtures of the tests beside this file."""

from pathlib import Path

import pytest

from tests.sgcldff.data.labs import Lab


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "lab").mkdir()
    return Lab(tmp_path / "lab")


@pytest.fixture
def reads(monkeypatch):
    """Record the names of decoded files."""
    import sgcldff.data.catalog.measurements as facts

    names = []
    for function in ("read_rgb", "read_grey"):
        original = getattr(facts, function)
        monkeypatch.setattr(facts, function, lambda path, read=original: names.append(Path(path).name) or read(path))
    return names
