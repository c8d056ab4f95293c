"""infra/Dockerfile and the scripts beside it, by their linters and by what they promise; no engine is needed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.servers import ROOT

DOCKERFILE = ROOT / "infra" / "Dockerfile"
SCRIPTS = [
    ROOT / ".ci" / "run", *(ROOT / "infra").rglob("*.sh"), *(ROOT / "infra").rglob("*.sbatch"),
]  # fmt: skip


def lint(linter: str, *arguments: str | Path) -> str:
    """Give what a linter of this environment finds."""
    done = subprocess.run(
        [Path(sys.executable).with_name(linter), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: instructions with what follows them, comments left out."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_hadolint_finds_nothing():
    assert not lint("hadolint", DOCKERFILE)


def test_hadolint_would_find_something(tmp_path):
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM debian\nRUN cd /tmp\n")
    assert "DL3006" in lint("hadolint", wrong)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script):
    assert not lint("shellcheck", script)


def test_the_image_runs_as_an_ordinary_user_from_a_pinned_base():
    found = instructions()
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    assert {text for name, text in found[last:] if name == "USER"} == {"10001:10001"}
    for name, text in found:
        assert name != "FROM" or re.match(r"python:3\.11\.\d+-slim-bookworm( AS \w+)?$", text)


def test_packages_are_those_of_the_lock_with_their_hashes_and_nothing_secret_is_passed():
    text = DOCKERFILE.read_text()
    assert "pip install --require-hashes --requirement requirements.lock" in text
    assert not re.search(r"index-url|https?://", text)
    arguments = {value.split("=")[0] for name, value in instructions() if name == "ARG"}
    assert arguments == {"EXTRAS"}


def test_what_is_copied_exists_and_is_let_through():
    ignore = (ROOT / "infra" / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignore[0] == "*"
    assert "**/.env" in ignore
    copied = [
        part for name, text in instructions() if name == "COPY" and "--from" not in text for part in text.split()[:-1]
    ]
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignore, name
    assert {"flows", "infra", "models", "sgcldff", "tasks", "prefect.yaml"} <= set(copied)


def test_the_image_can_run_the_servers():
    """What the lock is made from, or holds already, has the packages of the extra `server`."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {Requirement(item).name for item in extras["dev"]}
    locked = set(re.findall(r"^([A-Za-z0-9][^\s=]*)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {Requirement(item).name for item in extras["server"]} <= named | locked


def test_extras_keep_the_locked_versions(tmp_path):
    (pipeline,) = re.findall(r"(sed -n .*) > /tmp/versions.txt", DOCKERFILE.read_text())
    versions = subprocess.run(["sh", "-c", pipeline], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pins = [Requirement(line) for line in versions.splitlines()]
    locked = re.findall(r"^([A-Za-z0-9][^\s=]*)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert [pin.name for pin in pins] == locked
    assert all(len(pin.specifier) == 1 for pin in pins)


def test_the_training_job_passes_its_options_on(tmp_path):
    fake = tmp_path / "sgcldff"
    fake.write_text('#!/bin/sh\nprintf "%s|" "$PREFECT_HOME" "$@"\n')
    fake.chmod(0o755)
    script = ["bash", ROOT / "infra" / "slurm" / "train.sbatch", "--epochs", "3"]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SGCLDFF_WORKSPACE": "/lab", "TMPDIR": str(tmp_path)}
    done = subprocess.run(script, env=env, capture_output=True, text=True, check=True)
    home, *told = done.stdout.rstrip("|").split("|")
    assert told == ["train", "--epochs", "3"]
    assert Path(home).parent == tmp_path
    assert not Path(home).exists()
    unset = subprocess.run(script, env=env | {"SGCLDFF_WORKSPACE": ""}, capture_output=True, text=True, check=False)
    assert unset.returncode != 0
    assert "SGCLDFF_WORKSPACE" in unset.stderr
