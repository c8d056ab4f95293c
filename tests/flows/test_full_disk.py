"""A disk that fills up while a command runs: a real file system of 40 MB, mounted in a name space of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from flows.environment import QUIET
from tasks.workspace import Workspace

COMMAND = Path(sys.executable).with_name("sgcldff")
APART = ("unshare", "--user", "--map-root-user", "--mount")
SETTINGS = """
[net]
pretrained = "off"
[train]
epochs = 1
batch_size = 8
[evaluate]
resamples = 100
"""
SCRIPT = """
set -u
mount -t tmpfs -o size=40m none disk
cp -r prepared disk/workspace
"$@"
echo "ended with $?" >&2
mount -o remount,size=1g disk
"$@"
echo "then with $?" >&2
"""
"""Checkpoints of a training take more than the disk has, until it has more."""


@pytest.fixture
def prepared(lab, tmp_path):
    """Copy what is needed for a training, and nothing that one left."""
    if not shutil.which(APART[0]) or subprocess.run([*APART, "mount", "-t", "tmpfs", "none", tmp_path]).returncode:
        pytest.skip("no file system can be mounted here")
    done = Workspace(lab.workspace)
    for folder in (done.catalog, done.priors):
        shutil.copytree(folder, tmp_path / "prepared" / folder.name)
    (tmp_path / "disk").mkdir()
    (tmp_path / "settings.toml").write_text(SETTINGS)
    return tmp_path


def test_it_ends_in_one_line_and_the_same_command_goes_on_once_there_is_room(prepared):
    given = (COMMAND, "train", "-w", "disk/workspace", "--settings", "settings.toml", "--device", "cpu")
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    told = subprocess.run(
        [*APART, "bash", "-c", SCRIPT, "bash", *given],
        cwd=prepared,
        env=environment | {"PREFECT_API_URL": PREFECT_API_URL.value()},
        capture_output=True,
        text=True,
    )
    assert "ended with 7" in told.stderr, told.stderr
    assert "a disk is full" in told.stderr
    assert f"the fullest here is {prepared}/disk, " in told.stderr
    assert "Traceback" not in told.stderr
    assert "then with 0" in told.stderr, told.stderr
