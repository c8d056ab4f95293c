"""Checks of what is installed: Python, packages against the required and locked versions, and the released model."""

import platform
import re
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.settings import require
from sgcldff.core.wording import first_few
from sgcldff.doctor.check import Check, failed, ok, warning
from sgcldff.models.checkpoint import TRAINED_ON
from sgcldff.models.reference import Reference
from sgcldff.models.released import released, released_folder

LOCK_FILE = Path(__file__).parents[2] / "requirements.lock"
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
        return failed("packages", first_few(problems, LISTED), INSTALL)
    other = [f"{name} {installed} (locked {pin})" for name, installed, pin in unlocked(LOCK_FILE)]
    if other:
        return warning("packages", f"not the locked versions: {first_few(other, LISTED)}", INSTALL)
    found = "all as locked" if LOCK_FILE.is_file() else "all in their ranges; there is no lock file to compare with"
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


def unlocked(lock: Path) -> list[tuple[str, str, str]]:
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


def released_model() -> Check:
    """Check that the released model is complete, and that its reference was measured with its weights."""
    try:
        folder = released_folder()
    except MissingInputError as error:
        return warning(
            "released model", str(error), "name a model with --model, or promote a champion, before reading slides"
        )
    try:
        model, _ = released()
        measured = Reference.open(folder).model
        require(measured == model.digest, f"{folder}: weights {model.digest}, but the reference is of {measured}")
        require((folder / TRAINED_ON).is_file(), f"{folder}: contains no {TRAINED_ON}")
    except InputError as error:
        return failed("released model", str(error), "install sgcldff again, or restore the folder from the repository")
    return ok("released model", f"{folder}: {model.name} {model.version} ({model.digest}), complete")
