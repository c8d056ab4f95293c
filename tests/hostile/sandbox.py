"""Reads hostile files, each in a child of its own that is bounded in time and memory and may write nowhere else."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

MOST_MB, MOST_S = 2000, 20
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "socket.connect", "ctypes.dlopen")


@dataclass(frozen=True)
class Outcome:
    """How a reader ended: `read`, `refused` with an error of our own, or a fault."""

    end: str
    text: str = ""
    seconds: float = 0.0
    mb: float = 0.0


class Sandbox:
    """One process that has imported everything, and forks a child for every case."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.hostile.sandbox"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, kind: str, folder: Path) -> Outcome:
        """Read the files of a folder as those of a kind."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([kind, str(folder)]), file=self.process.stdin, flush=True)
        return Outcome(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve() -> None:
    """Read the cases that standard input names."""
    from sgcldff.data.synthetic import write_dataset
    from tests.hostile.readers import READERS

    with TemporaryDirectory() as folder:  # what is imported late is imported before the first child
        READERS["annotations"](write_dataset(Path(folder) / "data", 2, 0))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        kind, folder = json.loads(line)
        print(json.dumps(in_child(READERS[kind], Path(folder))), file=replies, flush=True)


def in_child(reader: Callable[[Path], object], folder: Path) -> dict[str, object]:
    """Run a reader in a child, and say how it ended."""
    reading, writing = os.pipe()
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(MOST_S)
        os.write(writing, json.dumps(outcome(reader, folder)).encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    _, status, usage = os.wait4(child, 0)
    end, why = json.loads(text) if text else ("died", f"by signal {os.WTERMSIG(status)}")
    mb = max(0, usage.ru_maxrss - before) / 1024
    return {"end": end, "text": why, "seconds": time.monotonic() - start, "mb": mb}


def outcome(reader: Callable[[Path], object], folder: Path) -> tuple[str, str]:
    """Run a reader under the bounds."""
    from sgcldff.core.errors import SgcldffError

    pages = int(Path("/proc/self/statm").read_text().split()[5])
    most = pages * resource.getpagesize() + MOST_MB * 1_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    strayed: list[str] = []
    sys.addaudithook(lambda event, args: watch(strayed, folder, event, args))
    try:
        reader(folder)
        end = ("read", "")
    except SgcldffError as error:
        text = str(error)
        end = ("refused", text) if f"{folder}/" in text or ";" in text else ("vague", text)
    except BaseException as error:
        end = ("raised", f"{type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-3:])}")
    return ("strayed", "; ".join(strayed)) if strayed else (end[0], end[1].encode(errors="replace").decode()[:3000])


def watch(strayed: list[str], folder: Path, event: str, args: tuple[object, ...]) -> None:
    """Note what a reader does outside of its folder."""
    writes = event in WRITES or (event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR))
    place = os.fsdecode(args[0]) if writes and isinstance(args[0], (str, bytes)) else ""
    if event in FORBIDDEN or (place and not place.startswith((f"{folder}", "/dev/null"))):
        strayed.append(f"{event} {args}"[:300])


if __name__ == "__main__":
    serve()
