"""`infra/install.sh` with stand-ins for pip and uv: what is asked of whom."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "install.sh"
LOCK = "--require-hashes -r requirements.lock"
PIP = """#!/bin/sh
if [ "$1" = config ]; then cat "$0.conf"; exit 0; fi
echo "pip $*" >> "$LOG"
case "$*" in *uv.txt*) cp "${0%/*}/../uv.txt" "$LOG.uv"; exit "$WITHOUT_UV";; esac
"""
UV = """#!/bin/sh
echo "uv $*" >> "$LOG"
env | grep -E "^(UV_|SSL_CERT_FILE)" | sort > "$LOG.env"
exit "$UV_FAILS"
"""


@pytest.fixture
def install(tmp_path):
    """Give a function that runs the script; it gives the commands, uv's environment, and the lock of uv itself."""
    folder = tmp_path / "venv with a space" / "bin"
    folder.mkdir(parents=True)
    for name, text in (("pip", PIP), ("uv", UV)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    log = tmp_path / "log"

    def run(config="", *, without_uv=0, uv_fails=0):
        (folder / "pip.conf").write_text(config)
        given = {"PATH": os.environ["PATH"], "LOG": str(log), "WITHOUT_UV": str(without_uv), "UV_FAILS": str(uv_fails)}
        subprocess.run([SCRIPT, folder.parent], env=given, check=True, capture_output=True)
        known = log.with_suffix(".env").read_text().splitlines() if log.with_suffix(".env").exists() else []
        settings = dict(line.split("=", 1) for line in known if not line.startswith("UV_FAILS"))
        return log.read_text().splitlines(), settings, log.with_suffix(".uv").read_text()

    return run


def test_uv_is_taken_as_it_is_locked_and_checks_the_hashes_of_all(install):
    commands, _, locked = install()
    assert locked.startswith("uv==")
    assert locked.count("==") == 1
    assert locked.count("--hash=sha256:") > 1
    first, second, last = commands
    assert "--require-hashes" in first
    assert second.startswith("uv pip install")
    assert "--require-hashes" in second
    assert second.endswith("-r requirements.lock")
    assert last.endswith("--no-deps --no-build-isolation --editable .")


@pytest.mark.parametrize("trouble", [{"without_uv": 1}, {"uv_fails": 2}])
def test_where_uv_cannot_be_had_or_fails_pip_installs_with_the_same_hashes(install, trouble):
    commands, _, _ = install(**trouble)
    assert commands[-2] == f"pip install --quiet {LOCK}"
    assert commands[-1].endswith("--editable .")


def test_uv_is_told_of_the_index_and_certificates_that_pip_is_configured_with(install):
    config = """:env:.index-url='https://a.example/simple'
global.cert='/certs.pem'
global.extra-index-url='\\nhttps://b.example/simple\\nhttps://c.example/simple'
global.index-url='https://other.example/simple'
"""
    _, settings, _ = install(config)
    assert settings["UV_DEFAULT_INDEX"] == "https://a.example/simple"
    assert settings["UV_INDEX"].split() == ["https://b.example/simple", "https://c.example/simple"]
    assert settings["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert settings["SSL_CERT_FILE"] == "/certs.pem"


def test_where_pip_is_not_configured_uv_is_told_nothing(install):
    assert install()[1] == {}
