"""Disks that are full, or cannot be written to: real file systems, mounted in a name space of their own."""

import os
import shutil
import subprocess

import pytest
from prefect.settings import PREFECT_API_URL

from flows.environment import QUIET
from tasks.workspace import Workspace
from tests.terminal import COMMAND, QUICK

APART = ("unshare", "--user", "--map-root-user", "--mount")
FILLING = """
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
def apart(tmp_path):
    """Give the function that runs a script where mounts are its own, in a folder that holds one to mount on."""
    (tmp_path / "disk").mkdir()
    if not shutil.which(APART[0]) or subprocess.run([*APART, "mount", "-t", "tmpfs", "none", tmp_path]).returncode:
        pytest.skip("no file system can be mounted here")
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}

    def apart(script, *command):
        return subprocess.run(
            [*APART, "bash", "-uc", script, "bash", *command],
            cwd=tmp_path,
            env=environment | {"PREFECT_API_URL": PREFECT_API_URL.value()},
            capture_output=True,
            text=True,
        )

    return apart


def test_a_disk_that_fills_up_is_told_in_one_line_and_the_same_command_goes_on_once_there_is_room(lab, apart, tmp_path):
    done = Workspace(lab.workspace)
    for folder in (done.catalog, done.priors):
        shutil.copytree(folder, tmp_path / "prepared" / folder.name)
    (tmp_path / "settings.toml").write_text(QUICK)
    given = ("train", "-w", "disk/workspace", "--settings", "settings.toml", "--device", "cpu")
    told = apart(FILLING, COMMAND, *given).stderr
    assert "ended with 7" in told, told
    assert "a disk is full" in told
    assert f"the fullest here is {tmp_path}/disk, " in told
    assert "Traceback" not in told
    assert "then with 0" in told, told


@pytest.mark.parametrize(
    "command", [("prepare", "-d", ".", "-w", "disk/made"), ("data", "synthesize", "--out", "disk/made")], ids=str
)
def test_a_disk_that_cannot_be_written_to_is_told_before_anything_is_done(server, apart, tmp_path, command):
    told = apart('mount -t tmpfs -o ro none disk; "$@"', COMMAND, *command)
    assert told.returncode == 2, told.stderr
    assert f"disk/made: this user cannot write to {tmp_path}/disk" in told.stderr
    assert "Traceback" not in told.stderr
