"""Checks of Prefect, MLflow and Dask servers: whether they answer, whom they admit, their versions, and secrets."""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import unquote, urlsplit

import psutil
import requests

from sgcldff.core.errors import InputError, ServiceError
from sgcldff.core.locations import shown
from sgcldff.doctor.check import Check, failed, ok, warning

TIMEOUT_S = 8.0
REFUSED = (401, 403)
ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104  compared, not bound to
SERVER_NAMES = ("prefect", "mlflow", "dask", "distributed")
"""Words that identify servers by their commands."""
TEMPORARY = "prefect.server.api.server:create_app"
"""Part of the command of a temporary Prefect server."""
CREDENTIALS = {
    "prefect": "PREFECT_API_AUTH_STRING (a server's own) or PREFECT_API_KEY (Prefect Cloud)",
    "mlflow": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
}
"""Variables with the credentials for each server."""
METRICS_PORT = "SGCLDFF_METRICS_PORT"
TRUE = ("1", "true", "yes", "on")
UNSAFE_SWITCHES = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "unset it: a model that holds pickled code could run it",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "unset it: a checkpoint that holds pickled code could run it",
    "MLFLOW_TRACKING_INSECURE_TLS": "unset it: the server's identity is not verified",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "unset it: the server's identity is not verified",
}
"""Variables that are unsafe when true, with remedies."""

Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest] | tuple[str, str] | None


@dataclass(frozen=True)
class Response:
    """A server's response with and without credentials."""

    status: int
    text: str
    anonymous_status: int
    """Status without credentials."""


def prefect() -> Check:
    """Check the Prefect server at `PREFECT_API_URL`."""
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        return ok("prefect", "no server is configured: each command starts a temporary one")
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = _auth(address, (user, password), os.environ.get("PREFECT_API_KEY"))
    response = _request(f"{address.rstrip('/')}/admin/version", auth)
    server_version = response.text.strip().strip('"') if response else ""
    return _server_check("prefect", address, response, server_version)


def mlflow() -> Check:
    """Check the MLflow server at `MLFLOW_TRACKING_URI`."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address or not address.startswith(("http://", "https://")):
        found = f"{shown(address)}: no server" if address else "no server is configured: SQLite in the workspace"
        return ok("mlflow", found)
    user, password, token = (os.environ.get(f"MLFLOW_TRACKING_{what}") for what in ("USERNAME", "PASSWORD", "TOKEN"))
    auth, root = _auth(address, (user, password), token), shown(address).rstrip("/")
    response = _request(f"{root}/api/2.0/mlflow/experiments/search?max_results=1", auth)
    server_version = ""
    if response and response.status < 400:
        answer = requests.get(f"{root}/version", auth=auth, timeout=TIMEOUT_S)
        server_version = answer.text if answer.ok else ""
    return _server_check("mlflow", address, response, server_version)


def dask(address: str) -> Check:
    """Check a Dask scheduler and its workers."""
    from sgcldff.cluster import versions_at

    try:
        client, others = versions_at(address)
    except ServiceError as error:
        return failed("dask", str(error), "start `dask scheduler` and workers, or omit --cluster")
    except InputError as error:
        return failed("dask", str(error), "write it as tcp://host:8786")
    if len(others) < 2:
        return failed("dask", f"{address}: answers, has no worker", f"dask worker {address} --nthreads 1")
    different = sorted(
        f"{process} has {name} {versions[name]}"
        for process, versions in others.items()
        for name, number in client.items()
        if versions[name] != number
    )
    if different:
        own = ", ".join(f"{name} {number}" for name, number in client.items())
        remedy = f"install the same versions everywhere; this process has {own}"
        return failed("dask", f"{address}: {'; '.join(different[:4])}", remedy)
    found = f"{address}: answers, {len(others) - 1} workers, same versions"
    if not is_loopback(address) and not address.startswith("tls://"):
        return warning("dask", found, "anyone who can reach it can run code there: use TLS, or a private network")
    return ok("dask", found)


def _server_check(name: str, address: str, response: Response | None, server_version: str) -> Check:
    url = shown(address)
    if response is None:
        remedy = "start it, correct the address, or unset it to run without a server"
        return failed(name, f"{url}: does not answer", remedy)
    if response.status in REFUSED:
        return failed(name, f"{url}: refuses access (status {response.status})", f"set {CREDENTIALS[name]}")
    if response.status >= 400:
        return failed(name, f"{url}: status {response.status}", "check the server's log and the address")
    installed, protected = version(name), response.anonymous_status in REFUSED
    access = "requires a password" if protected else "requires no password"
    found = f"{url}: answers, version {server_version or 'unknown'} (installed {installed}), {access}"
    if server_version.split(".")[:2] != installed.split(".")[:2]:
        return warning(name, found, f"run {name} {installed} there, the tested version")
    if not protected and not is_loopback(address):
        return warning(name, found, "bind it to loopback, or put it behind a proxy with a password")
    if protected and address.startswith("http://") and not is_loopback(address):
        return warning(name, found, "use https: the password is sent over the network unencrypted")
    return ok(name, found)


def _request(url: str, auth: Auth) -> Response | None:
    """Send a request with and without credentials; None if there is no response."""
    parts = urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        response = requests.get(plain, auth=auth, timeout=TIMEOUT_S)
        # an explicit `auth` that adds nothing keeps `requests` from using credentials of its own (.netrc)
        anonymous = requests.get(plain, auth=lambda request: request, timeout=TIMEOUT_S) if auth else response
    except requests.RequestException:
        return None
    return Response(response.status_code, response.text, anonymous.status_code)


def _auth(address: str, pair: tuple[str | None, str | None], token: str | None) -> Auth:
    """Return the credentials of the environment: user and password, a token, or those within the address."""
    user, password = pair
    if user and password:
        return user, password
    if token:

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        return sign
    parts = urlsplit(address)
    return (unquote(parts.username), unquote(parts.password or "")) if parts.username else None


def is_loopback(address: str) -> bool:
    """Return whether an address is on the loopback interface."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening() -> Check:
    """Find servers that listen on all addresses of this machine."""
    found = sorted({f"{name} (process {pid}, port {port})" for name, pid, port in _public_servers()})
    if found:
        remedy = "start them with --host 127.0.0.1, or behind a proxy with a password"
        return warning("listening", f"on all addresses: {', '.join(found)}", remedy)
    return ok("listening", "no Prefect, MLflow or Dask server of this user listens on all addresses")


def _public_servers() -> Iterator[tuple[str, int, int]]:
    """Yield name, process id and port of servers that listen on all addresses."""
    for process in psutil.process_iter(["pid", "cmdline", "username"]):
        command = " ".join(process.info["cmdline"] or ())
        name = next((word for word in SERVER_NAMES if word in command), "")
        if not name:
            continue
        try:
            sockets = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        for one in sockets:
            if one.status == psutil.CONN_LISTEN and one.laddr.ip in ALL_ADDRESSES:
                yield name, process.pid, one.laddr.port


def stale() -> Check:
    """Find temporary Prefect servers whose command was killed."""
    orphans = [
        str(process.pid)
        for process in psutil.process_iter(["cmdline", "ppid"])
        if TEMPORARY in " ".join(process.info["cmdline"] or ()) and process.info["ppid"] == 1
    ]
    if orphans:
        remedy = f"kill {' '.join(orphans)}"
        return warning("stale servers", f"{len(orphans)} temporary Prefect servers without a command", remedy)
    return ok("stale servers", "no temporary Prefect server was left behind")


def ports() -> Check:
    """Check that servers can be started on this machine, and that the port for metrics, if any, is available."""
    port = os.environ.get(METRICS_PORT) or "0"
    if not port.isdecimal() or int(port) > 65535:
        return failed("ports", f"{METRICS_PORT} is {port!r}", "give a port, 1 to 65535, or unset it")
    try:
        with socket.create_server(("127.0.0.1", int(port))):
            metrics = f", {port} is free for metrics" if int(port) else ""
            return ok("ports", f"ports of 127.0.0.1 are available{metrics}")
    except OSError as error:
        remedy = f"end the process that listens there, or name another port in {METRICS_PORT}"
        return failed("ports", f"port {port} of 127.0.0.1 is not available ({error.strerror})", remedy)


def unsafe_variables() -> Check:
    """Check the environment for unsafe variables."""
    remedies = {}
    for name, remedy in UNSAFE_SWITCHES.items():
        if (value := os.environ.get(name, "")).lower() in TRUE:
            remedies[f"{name} is {value}"] = remedy
    for name in ("PREFECT_SERVER_API_HOST", "MLFLOW_HOST"):
        if (value := os.environ.get(name, "")) in ALL_ADDRESSES:
            remedies[f"{name} is {value}"] = f"set {name}=127.0.0.1"
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        if urlsplit(os.environ.get(name, "")).password:
            remedies[f"{name} contains a password"] = (
                "put user and password into separate variables (MLFLOW_TRACKING_USERNAME, PREFECT_API_AUTH_STRING, ...)"
            )
    if remedies:
        return warning("safety", "; ".join(remedies), "; ".join(dict.fromkeys(remedies.values())))
    return ok("safety", "no unsafe setting; models and checkpoints are read without running code")
