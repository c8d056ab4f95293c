"""A temporary Prefect server for commands whose runs are recorded although no server is configured.

Prefect would start one itself, but keeps waiting for it after it has died, or restarts it forever, and shows its
traceback on the terminal.
"""

import atexit
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from flows.environment import server_configured
from sgcldff.core.disks import private_file
from sgcldff.core.errors import ServiceError

LOG = "server.log"
"""The server's log, in `PREFECT_HOME`."""
STARTUP_S = 300.0
"""Time allowed for the start, which takes about ten seconds on an idle machine."""
SERVE = """
import os, sys, threading, uvicorn

def end_with_parent():
    while os.read(0, 1):
        pass
    os._exit(0)

threading.Thread(target=end_with_parent, daemon=True).start()
application = "prefect.server.api.server:create_app"
uvicorn.run(application, factory=True, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", lifespan="on")
"""
"""Runs the server until its input ends, as it does with the process that holds the other end, whatever ends that. The
server has a session of its own: Ctrl-C and SIGTERM that all processes of a command get do not reach it."""
INTERNAL = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
}
"""The variables that Prefect sets for its own temporary servers; output goes to `LOG`, not to the terminal."""
ERROR = re.compile(r"^[\w.]*(?:Error|Exception)\b.*", re.MULTILINE)
"""Last line of a traceback."""


def start_temporary_server() -> None:
    """Start a server that ends with this process and answers only those who know its password, its children.

    Nothing is started if a server is configured, if a Prefect profile may name one, or if Prefect has been imported
    and would not notice the new address.

    Raises
    ------
    ServiceError
        If it does not start.
    """
    home = Path(os.environ["PREFECT_HOME"])
    if server_configured() or (home / "profiles.toml").exists() or "prefect" in sys.modules:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    private_file(home / "prefect.db")
    secret = f"sgcldff:{secrets.token_urlsafe()}"
    log, address = home / LOG, f"http://127.0.0.1:{port}/api"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(port)],
            env=os.environ | INTERNAL | {"PREFECT_SERVER_API_AUTH_STRING": secret},
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    atexit.register(_stop, process)
    _wait_until_healthy(process, address, log)
    os.environ |= {"PREFECT_API_URL": address, "PREFECT_API_AUTH_STRING": secret}
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")  # it does not come back


def _wait_until_healthy(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    end = time.monotonic() + STARTUP_S
    with httpx.Client(timeout=10) as client:
        while process.poll() is None and time.monotonic() < end:
            try:
                if client.get(f"{address}/health").is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
    code = process.poll()
    failure = f"did not answer within {STARTUP_S:.0f} s" if code is None else f"ended with code {code}"
    reasons = ERROR.findall(log.read_text(errors="replace"))
    raise ServiceError(
        f"Prefect's temporary server {failure}{f' ({reasons[-1]})' if reasons else ''}; see {log}. If its database is "
        f"damaged, remove {log.with_name('prefect.db')}, which holds only the history of runs; or name a server in "
        "PREFECT_API_URL"
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
