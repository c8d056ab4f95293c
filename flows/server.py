"""Prefect's temporary server, for commands whose runs are recorded though no server is configured.

Prefect would start one itself, but waits for it long after it has died, or starts it anew for ever, and lets its
traceback onto the terminal.
"""

import atexit
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from flows.environment import server_configured
from sgcldff.core.errors import ServiceError

LOG = "server.log"
"""What the server says, in `PREFECT_HOME`."""
PATIENCE_S = 300.0
"""Time to come up; on an idle machine it takes about ten seconds."""
INTERNAL = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
}
"""As Prefect starts its own temporary servers; what it says goes to `LOG`, not to the terminal."""
ERROR = re.compile(r"^[\w.]*(?:Error|Exception)\b.*", re.MULTILINE)
"""Last line of a traceback."""


def start_temporary_server() -> None:
    """Start a server that ends with this process.

    None is started where one is configured, where a profile of Prefect may name one, or where Prefect is imported
    already and would not notice.

    Raises
    ------
    ServiceError
        If it does not come up.
    """
    home = Path(os.environ["PREFECT_HOME"])
    if server_configured() or (home / "profiles.toml").exists() or "prefect" in sys.modules:
        return
    log, address = home / LOG, f"http://127.0.0.1:{_free_port()}/api"
    with log.open("wb") as file:
        process = subprocess.Popen(_command(address), env=os.environ | INTERNAL, stdout=file, stderr=subprocess.STDOUT)
    atexit.register(_stop, process)
    _await(process, address, log)
    os.environ["PREFECT_API_URL"] = address


def _command(address: str) -> list[str]:
    port = str(httpx.URL(address).port)
    server = ["--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", port]
    return [sys.executable, "-m", "uvicorn", *server, "--log-level", "error", "--lifespan", "on"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{address}/health", timeout=10).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    code = process.poll()
    how = f"did not answer within {PATIENCE_S:.0f} s" if code is None else f"ended with code {code}"
    reasons = ERROR.findall(log.read_text(errors="replace"))
    raise ServiceError(
        f"Prefect's temporary server {how}{f' ({reasons[-1]})' if reasons else ''}; {log} says more. If its database "
        f"is damaged, remove {log.with_name('prefect.db')}, which holds only the history of runs; or name a server in "
        "PREFECT_API_URL"
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
