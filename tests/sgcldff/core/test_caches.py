"""Where caches go if the home folder is read-only, and that one warning says so."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sgcldff.core.disks import private_folder
from sgcldff.core.locations import user_cache
from sgcldff.core.settings import ModelSpec
from sgcldff.models.model import save_model
from sgcldff.models.nets import build
from sgcldff.models.runtimes.graph import Graph, NetworkTask, cached_graph
from sgcldff.slides.remote.cache import cache_folder
from tests.small import SMALL

SAY = """
import json, subprocess, sys
from sgcldff.core.locations import user_cache
from sgcldff.core.logs import show_warnings
show_warnings()
first, again = user_cache(), user_cache()
script = "from sgcldff.core.locations import user_cache; print(user_cache(), end='')"
child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
print(json.dumps([str(first), str(again), child.stdout, child.stderr]))
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Return the folder for temporary files, with no cache configured."""
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "SGCLDFF_CACHE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def a_file(folder):
    (folder / "home").write_text("no folder")
    return folder / "home"


def a_file_in_a_home(folder):
    (folder / "home").mkdir()
    (folder / "home" / ".cache").write_text("no folder")
    return folder / "home"


@pytest.mark.parametrize("home", [a_file, a_file_in_a_home, lambda folder: Path("/proc/no-home")])
def test_a_private_folder_replaces_an_unwritable_home(temporary, tmp_path, monkeypatch, caplog, home):
    monkeypatch.setenv("HOME", str(home(tmp_path)))
    cache = user_cache()
    assert cache.is_relative_to(temporary)
    assert stat.S_IMODE(cache.parent.stat().st_mode) == 0o700
    assert user_cache() == cache
    assert cache_folder().is_relative_to(temporary)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "sgcldff.core.locations"]
    assert str(cache.parent) in warning
    assert "XDG_CACHE_HOME" in warning


def test_a_home_that_is_missing_but_can_be_created_is_used(temporary, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HOME", str(tmp_path / "new" / "home"))
    assert user_cache() == tmp_path / "new" / "home" / ".cache" / "sgcldff"
    assert not (tmp_path / "new").exists()
    assert list(temporary.iterdir()) == []
    assert not caplog.records


def test_child_processes_use_the_same_folder_without_another_warning(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "MPLCONFIGDIR")}
    environment |= {"HOME": str(a_file(tmp_path)), "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", SAY], env=environment, capture_output=True, text=True)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("sgcldff: nothing can be written to the cache")
    first, again, child, warned = json.loads(ended.stdout)
    assert first == again == child == str(tmp_path / f"sgcldff-{os.getuid()}" / "sgcldff")
    assert warned == ""


@pytest.mark.parametrize("taken", ["file", "link", "open"])
def test_a_temporary_folder_of_others_is_not_used(temporary, tmp_path, taken):
    name = temporary / f"mine-{os.getuid()}"
    (tmp_path / "theirs").mkdir()
    match taken:
        case "file":
            name.write_text("taken")
        case "link":
            name.symlink_to(tmp_path / "theirs")
        case "open":
            name.mkdir()
            name.chmod(0o777)
    folder = private_folder("mine")
    assert folder != name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.slow
def test_graphs_are_cached_in_the_private_folder_if_the_home_is_unwritable(temporary, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(a_file(tmp_path)))
    spec = ModelSpec(net=SMALL)
    model = save_model(tmp_path / "model", spec, build(spec))
    assert cached_graph(Graph(str(model), NetworkTask.CLASSIFY, (1, 32, 32))).is_relative_to(temporary)
