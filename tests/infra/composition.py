"""infra/compose.yaml as this machine can run it: values for its variables, loopback in place of its network."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.servers import LOOPBACK, ROOT, Environment, Program

COMPOSE = ROOT / "infra" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<mark>:[?-])(?P<text>[^}]*))?\}")
CONFIDENTIAL = re.compile(r"PASSWORD|SECRET|KEY|TOKEN|AUTH_STRING")
"""Names of variables whose values no file may hold."""
WORK_POOLS = {
    "docker": ROOT / "infra" / "docker" / "work-pool.json",
    "kubernetes": ROOT / "infra" / "kubernetes" / "jobs" / "work-pool.json",
}
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """Put values for `${NAME}`, `${NAME:-default}` and `${NAME:?message}`, as Compose does."""

    def value(match: re.Match[str]) -> str:
        default = match["text"] if match["mark"] == ":-" else None
        return values.get(match["name"]) or (default if default is not None else values[match["name"]])

    return VARIABLE.sub(value, text)


def program(service: str, values: Mapping[str, str], here: Mapping[str, str], log: Path) -> Program:
    """Give what a service runs.

    Parameters
    ----------
    values
        Of the variables in the file.
    here
        What stands in the place of its hosts and ports, such as `{"http://mlflow": "http://127.0.0.1"}`.
    """
    parts = [_moved(interpolated(part, values), here) for part in SERVICES[service]["command"]]
    command = [Path(sys.executable).with_name(parts[0]), *parts[1:]]
    return Program(command, log, os.environ | environment(service, values, here))


def probe(service: str, here: Mapping[str, str]) -> list[str]:
    """Give the command that tells whether a service is healthy."""
    kind, name, *arguments = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    return [str(Path(sys.executable).with_name(name)), *(_moved(part, here) for part in arguments)]


def environment(service: str, values: Mapping[str, str], here: Mapping[str, str]) -> Environment:
    """Give the variables of a service, with `here` in the place of hosts and ports."""
    given = SERVICES[service].get("environment", {})
    return {name: _moved(interpolated(text, values), here) for name, text in given.items()}


def _moved(text: str, here: Mapping[str, str]) -> str:
    for old, new in ({"0.0.0.0": LOOPBACK} | dict(here)).items():
        text = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w.-])", new, text)
    return text
