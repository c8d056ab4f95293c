"""Python and the packages: those that are installed beside those that are asked for and locked."""

import platform
import re
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sgcldff.doctor.check import Check, failed, ok, warning

LOCK = Path(__file__).parents[2] / "requirements.lock"
"""Beside the package in a checkout; not there where the package was installed without one."""
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+))?", re.MULTILINE)
NAMED = 5
"""Packages that a message names."""
INSTALL = "make install, or pip install --require-hashes -r requirements.lock"


def python() -> Check:
    """Compare Python with what the package asks for."""
    asked, here = metadata("sgcldff")["Requires-Python"], platform.python_version()
    if not SpecifierSet(asked).contains(here, prereleases=True):
        return failed("python", f"{here}, needed is {asked}", "make a virtual environment with such a Python")
    return ok("python", f"{here} ({platform.system()} {platform.machine()})")


def packages() -> Check:
    """Compare the packages that are installed with the ranges of the project, and with its lock file."""
    wrong = [told for told in map(trouble, asked_for()) if told]
    if wrong:
        return failed("packages", listed(wrong), INSTALL)
    strays = [f"{name} {here} (locked {pinned})" for name, here, pinned in unlocked(LOCK)]
    if strays:
        return warning("packages", f"other versions than locked: {listed(strays)}", INSTALL)
    told = "all as locked" if LOCK.is_file() else "all in their ranges; there is no lock file to compare with"
    return ok("packages", f"{len(asked_for())} packages, {told}")


def asked_for() -> list[Requirement]:
    """List what the package needs on this machine, extras left out."""
    wanted = [Requirement(line) for line in requires("sgcldff") or ()]
    return [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def trouble(wanted: Requirement) -> str:
    """Say what is wrong with a package; nothing where all is well."""
    try:
        here = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is missing"
    fits = wanted.specifier.contains(here, prereleases=True)
    return "" if fits else f"{wanted.name} {here} is outside of {wanted.specifier}"


def unlocked(lock: Path) -> list[tuple[str, str, str]]:
    """List packages of other versions than locked: name, version, locked version."""
    pins = PIN.findall(lock.read_text()) if lock.is_file() else []
    locked = {name: pinned for name, pinned, marker in pins if not marker or _holds(f"{name}; {marker}")}
    here = {name: _installed(name) for name in locked}
    return [(name, here[name], pinned) for name, pinned in locked.items() if here[name] not in ("", _plain(pinned))]


def _holds(line: str) -> bool:
    marker = Requirement(line.strip()).marker
    return marker is None or marker.evaluate({"extra": ""})


def _installed(name: str) -> str:
    """Give the version, without a local part such as `+cpu`; nothing where it is not installed."""
    try:
        return _plain(version(name))
    except PackageNotFoundError:
        return ""


def _plain(text: str) -> str:
    return text.partition("+")[0]


def listed(items: list[str]) -> str:
    """Name the first of many."""
    return ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
