"""Damage to what is kept: every file deleted, emptied, halved, or with one bit flipped; then it is read again.

    python -m tests.damage CASES [SEED]

What is read has to be the same as before, or be refused with an error of this package; without a case that takes 20 s
or 2 GB. Each case runs in a process of its own. Prints how many ended how, and each that ended otherwise.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sgcldff.core.errors import SgcldffError
from tests.damage.kept import KEPT, Kept

MOST_S, MOST_KB = 20.0, 2 * 1024 * 1024
GOOD = ("same", "refused")


class Case(NamedTuple):
    """A file and what is done to it."""

    name: str
    file: str
    damage: str
    bit: int = 0


def cases(count: int, seed: int, files: dict[str, list[Path]], sizes: dict[Path, int]) -> Iterator[Case]:
    """Draw cases: each loss of each file once, in random order, and twice as many flipped bits."""
    draw = random.Random(seed)
    losses = [
        Case(name, str(file), damage)
        for name, found in files.items()
        for file in found
        for damage in ("deleted", "emptied", "halved")
        if not (damage == "deleted" and file.match(KEPT[name].lost or "-"))
    ]
    draw.shuffle(losses)
    for number in range(count):
        if number % 3 == 0 and losses:
            yield losses.pop()
        else:
            name = draw.choice(list(files))
            file = draw.choice([file for file in files[name] if sizes[file]])
            yield Case(name, str(file), "flipped", draw.randrange(8 * sizes[file]))


def apply(case: Case) -> None:
    """Damage the file of a case."""
    file = Path(case.file)
    content = bytearray(file.read_bytes())
    if case.damage == "deleted":
        file.unlink()
    elif case.damage == "flipped":
        content[case.bit // 8] ^= 1 << case.bit % 8
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2] if case.damage == "halved" else b"")


def outcome(kept: Kept, folder: Path, expected: str) -> str:
    """Read in a process of its own, and say how that ended."""
    note = folder.with_suffix(".outcome")
    note.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        note.write_text(attempt(kept, folder, expected))
        os._exit(0)
    end = time.monotonic() + MOST_S
    ended, status, usage = os.wait4(child, os.WNOHANG)
    while not ended:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"took more than {MOST_S:g} s"
        time.sleep(0.005)
        ended, status, usage = os.wait4(child, os.WNOHANG)
    if status:
        return f"ended with status {status}"
    return f"took {usage.ru_maxrss // 1024} MiB" if usage.ru_maxrss > MOST_KB else note.read_text()


def attempt(kept: Kept, folder: Path, expected: str) -> str:
    """Read and compare."""
    around = sorted(path.name for path in folder.iterdir())
    try:
        found = kept.read(folder)
    except SgcldffError:
        found = ""
    except Exception as error:  # noqa: BLE001  what the harness looks for
        return f"raised {type(error).__name__}: {error}"
    if sorted(path.name for path in folder.iterdir()) != around:
        return "wrote outside of its folder"
    return "refused" if not found else "same" if found == expected else "read other content"


def prepare(name: str, root: Path) -> tuple[Path, str]:
    """Make and read something once, in processes of their own, and keep a copy of it."""
    folder = root / name
    folder.mkdir()
    for step in ("make", "read"):
        child = os.fork()
        if child == 0:
            try:
                (root / f"{name}.{step}").write_text(str(getattr(KEPT[name], step)(folder)))
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0, f"{step} of {name} failed"
    shutil.copytree(folder / KEPT[name].place, root / f"{name}.whole")
    return folder, (root / f"{name}.read").read_text()


def main(count: int, seed: int = 0) -> dict[str, object]:
    """Run cases; returns how many ended how, and all that did not end well."""
    with tempfile.TemporaryDirectory(prefix="sgcldff-damage-") as temporary:
        made = {name: prepare(name, Path(temporary)) for name in KEPT}
        files = {
            name: sorted(path for path in (folder / KEPT[name].place).rglob("*") if path.is_file())
            for name, (folder, _) in made.items()
        }
        sizes = {file: file.stat().st_size for found in files.values() for file in found}
        counts, wrong = Counter[str](), []
        for case in cases(count, seed, files, sizes):
            folder, expected = made[case.name]
            place = folder / KEPT[case.name].place
            shutil.rmtree(place)
            shutil.copytree(folder.with_suffix(".whole"), place)
            apply(case)
            found = outcome(KEPT[case.name], folder, expected)
            counts[f"{case.name}: {found if found in GOOD else 'wrong'}"] += 1
            if found not in GOOD:
                wrong.append(f"{Path(case.file).relative_to(folder)} {case.damage} {case.bit}: {found}")
    return {"cases": count, "counts": dict(sorted(counts.items())), "wrong": wrong}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*map(int, sys.argv[1:])), indent=1) + "\n")
