"""Checks of Python and of the installed packages against the required and locked versions."""

import platform
import re
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sgcldff.doctor.check import Check, failed, ok, warning

LOCK = Path(__file__).parents[2] / "requirements.lock"
"""In the root of a checkout; missing if the package was installed without one."""
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+))?", re.MULTILINE)
LISTED = 5
"""Packages that a message lists."""
INSTALL = "make install, or pip install --require-hashes -r requirements.lock"


def python() -> Check:
    """Compare Python with the required version."""
    required, installed = metadata("sgcldff")["Requires-Python"], platform.python_version()
    if not SpecifierSet(required).contains(installed, prereleases=True):
        remedy = "create a virtual environment with such a Python"
        return failed("python", f"{installed}, but sgcldff requires {required}", remedy)
    return ok("python", f"{installed} ({platform.system()} {platform.machine()})")


def packages() -> Check:
    """Compare the installed packages with the required ranges and with the lock file."""
    required = [Requirement(line) for line in requires("sgcldff") or ()]
    required = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    problems = [text for text in map(problem, required) if text]
    if problems:
        return failed("packages", first_few(problems), INSTALL)
    unlocked = [f"{name} {installed} (locked {pin})" for name, installed, pin in differences(LOCK)]
    if unlocked:
        return warning("packages", f"not the locked versions: {first_few(unlocked)}", INSTALL)
    found = "all as locked" if LOCK.is_file() else "all in their ranges; there is no lock file to compare with"
    return ok("packages", f"{len(required)} packages, {found}")


def problem(requirement: Requirement) -> str:
    """Describe how a package fails a requirement; empty if it does not."""
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{requirement.name} {installed} is outside of {requirement.specifier}"


def differences(lock: Path) -> list[tuple[str, str, str]]:
    """Return installed packages that differ from the lock file: name, version, locked version."""
    found = []
    for name, pin, marker in PIN.findall(lock.read_text()) if lock.is_file() else []:
        condition = Requirement(f"{name}; {marker.strip()}").marker if marker else None
        if condition is not None and not condition.evaluate({"extra": ""}):
            continue
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
        if installed != pin.partition("+")[0]:
            found.append((name, installed, pin))
    return found


def first_few(items: list[str]) -> str:
    """List the first `LISTED` items, and how many more there are."""
    return ", ".join(items[:LISTED]) + (f" and {len(items) - LISTED} more" if len(items) > LISTED else "")
