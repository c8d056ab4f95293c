"""Machines that lose the network, and a scheduler that restarts, while a slide is read whose results go to S3.

    python -m benchmarks.machines [SECONDS]

Two Dask workers run in network namespaces of their own, as on two machines, and are started again when they end, as
systemd would. In the first round the link of one is down for SECONDS (60); in the second the scheduler is killed and
started again, and so is the command. Both have to leave the same bytes as a quiet run, here and in the bucket. Needs
root and `ip`; outside of the namespaces only a bridge is made, which is removed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from socket import socket
from threading import Event, Thread
from typing import Any

import boto3

from benchmarks.kills import VARIES, committed, direct, forked
from sgcldff.cluster import connect, load_once, map_bounded
from sgcldff.core.errors import SgcldffError
from sgcldff.inference import ShardTask
from sgcldff.results.delivery import deliver, local_results
from tasks.slides import run_shard
from tests.damage.kept import files_digest, make_slide
from tests.servers import BUCKET, s3_server
from tests.sgcldff.painted import ColourModel

BRIDGE, NETWORK, PORT = "sgcldff0", "10.213.77", 8786
ADDRESS = f"tcp://{NETWORK}.1:{PORT}"
SLOWLY_S = 2.0
RESTART_S = 3.0
"""Time until a service is started again."""


class SlowModel(ColourModel):
    """Takes its time, so that a slide of nine shards is under way when something fails."""

    def segment(self, rgb: Any, prior: Any) -> Any:
        """Wait, then segment."""
        time.sleep(SLOWLY_S)
        return super().segment(rgb, prior)


def ip(*words: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *words], check=True)


@contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """Make network namespaces that a bridge connects with each other and with this one."""
    with ExitStack() as opened:
        ip("link", "add", BRIDGE, "type", "bridge")
        opened.callback(ip, "link", "del", BRIDGE)
        ip("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number, name in enumerate(names, 2):
            ip("netns", "add", name)
            opened.callback(ip, "netns", "del", name)
            ip("link", "add", f"{name}-out", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}-out", "master", BRIDGE, "up")
            ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
        yield


class Service:
    """A program that is started again whenever it ends."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command, self.log, self.over = command, log, Event()
        self.starts = 0
        self.thread = Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        """Start, wait, and start again."""
        while not self.over.is_set():
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
            self.starts += 1
            self.process.wait()
            self.over.wait(RESTART_S)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the program with all that it started."""
        os.killpg(self.process.pid, number)

    def stop(self) -> None:
        """End it for good."""
        self.over.set()
        with suppress(ProcessLookupError):
            self.kill()
        self.thread.join()


def program(part: str, *words: str, namespace: str = "") -> list[str]:
    """Give the command of a scheduler or worker."""
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    return [*inside, sys.executable, "-m", f"distributed.cli.dask_{part}", *words, "--dashboard-address", "127.0.0.1:0"]


def await_scheduler() -> None:
    """Wait until a scheduler listens."""
    while True:
        with socket() as probe:
            if probe.connect_ex((f"{NETWORK}.1", PORT)) == 0:
                return
        time.sleep(0.2)


def read(root: Path, uri: str) -> None:
    """Read the slide as a command does, and copy its results to the store; exits with 5 if the scheduler is gone."""

    def run(tasks: list[ShardTask]) -> Iterator[Any]:
        load_once(client, "slow", SlowModel)
        for task, outcome in map_bounded(client, partial(run_shard, "slow", {}), tasks):
            if isinstance(outcome, SgcldffError):
                raise outcome
            yield task, outcome

    try:
        with connect(ADDRESS) as client:
            direct(root, local_results(uri), run)
        deliver(uri)
    except SgcldffError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(error.exit_code)


def round_of(root: Path, uri: str, log: Path, fail: Callable[[], None]) -> tuple[list[int], float, int]:
    """Read a slide, let something fail once some shards are committed, and read on until it is done."""
    began, codes, before = time.monotonic(), list[int](), set[str]()
    while not codes or codes[-1]:
        await_scheduler()
        child = forked(log, read, root, uri)
        if not codes:
            while len(committed(local_results(uri))) < 4:
                assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, log.read_text()
                time.sleep(0.05)
            before = committed(local_results(uri))
            fail()
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert codes[-1] in (0, 5), log.read_text()
        assert len(codes) < 5, log.read_text()
    return codes, time.monotonic() - began, len(before)


def stored_digest(uri: str, place: Path) -> str:
    """Copy the results from the bucket and hash them."""
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    bucket = boto3.resource("s3").Bucket(BUCKET)
    for item in bucket.objects.filter(Prefix=prefix):
        target = place / item.key.removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(item.key, str(target))
    return files_digest(place / "slide", VARIES)


def main(down_s: float = 60.0) -> None:
    """Run both rounds and print what came of them."""
    with ExitStack() as opened:
        root = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="sgcldff-machines-")))
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        os.environ["DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION"] = "1.0"
        made = forked(root / "log", make_slide, root)
        assert os.waitpid(made, 0)[1] == 0, (root / "log").read_text()
        quiet = files_digest(root / "out" / "slide", VARIES)
        os.environ |= opened.enter_context(s3_server())
        opened.enter_context(namespaces("sgcldff-a", "sgcldff-b"))
        scheduler = Service(program("scheduler", "--host", f"{NETWORK}.1", "--port", str(PORT)), root / "scheduler.log")
        opened.callback(scheduler.stop)
        for name in ("sgcldff-a", "sgcldff-b"):
            worker = Service(program("worker", ADDRESS, "--nthreads", "1", namespace=name), root / f"{name}.log")
            opened.callback(worker.stop)

        def cut() -> None:
            ip("-n", "sgcldff-a", "link", "set", "eth0", "down")
            time.sleep(down_s)
            ip("-n", "sgcldff-a", "link", "set", "eth0", "up")

        for name, fail in {"a worker's link down": cut, "the scheduler restarted": scheduler.kill}.items():
            uri = f"s3://{BUCKET}/{name.replace(' ', '-')}"
            codes, seconds, shards = round_of(root, uri, root / "log", fail)
            same = files_digest(local_results(uri) / "slide", VARIES) == quiet
            stored = stored_digest(uri, root / "stored" / name) == quiet
            facts = {
                "seconds": round(seconds),
                "codes": codes,
                "committed before": shards,
                "same": same,
                "same in S3": stored,
            }
            print(json.dumps({"failed": name, **facts}), flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
