"""Prefect, MLflow and Dask: whether they answer, whom they let in, and whether their versions fit."""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from urllib.parse import unquote, urlsplit

import psutil
import requests

from sgcldff.core.errors import InputError, ServiceError
from sgcldff.core.locations import shown
from sgcldff.doctor.check import Check, failed, ok, warning

PATIENCE_S = 8.0
REFUSED = (401, 403)
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  looked for, not bound to
OURS = ("prefect", "mlflow", "dask", "distributed")
"""Words in the commands of servers that are looked at."""
ORPHANED = "prefect.server.api.server:create_app"
"""In the command of a temporary Prefect server."""
CREDENTIALS = {
    "prefect": "PREFECT_API_AUTH_STRING (a server's own) or PREFECT_API_KEY (Prefect Cloud)",
    "mlflow": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
}
"""Variables by which each server is told who asks."""
METRICS_PORT = "SGCLDFF_METRICS_PORT"

Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest] | tuple[str, str] | None


@dataclass(frozen=True)
class Answer:
    """What a server says to one who knows the secret, and to one who does not."""

    status: int
    text: str
    stranger: int
    """Status of the answer to one without credentials."""


def prefect() -> Check:
    """Look at the Prefect server that `PREFECT_API_URL` names."""
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        return ok("prefect", "no server is named: each command starts a temporary one")
    asked = _ask(f"{address.rstrip('/')}/admin/version", _prefect_auth(address))
    number = asked.text.strip().strip('"') if asked else ""
    return _judged("prefect", address, asked, number)


def mlflow() -> Check:
    """Look at the MLflow server that `MLFLOW_TRACKING_URI` names."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address or not address.startswith(("http://", "https://")):
        return ok(
            "mlflow", f"{shown(address)}: no server" if address else "no server is named: SQLite in the workspace"
        )
    auth, root = _mlflow_auth(address), shown(address).rstrip("/")
    asked = _ask(f"{root}/api/2.0/mlflow/experiments/search?max_results=1", auth)
    told = requests.get(f"{root}/version", auth=auth, timeout=PATIENCE_S) if asked and asked.status < 400 else None
    return _judged("mlflow", address, asked, told.text if told is not None and told.ok else "")


def dask(address: str) -> Check:
    """Look at a Dask scheduler and its workers."""
    from sgcldff.cluster import versions_at

    try:
        client, others = versions_at(address)
    except ServiceError as error:
        return _server(failed("dask", str(error), "start `dask scheduler` and workers, or leave --cluster out"))
    except InputError as error:
        return _server(failed("dask", str(error), "write it as tcp://host:8786"))
    if len(others) < 2:
        return _server(failed("dask", f"{address}: answers, has no worker", f"dask worker {address} --nthreads 1"))
    if odd := sorted(_odd(client, others)):
        alike = ", ".join(f"{name} {number}" for name, number in client.items())
        remedy = f"install the same versions everywhere; here are {alike}"
        return _server(failed("dask", f"{address}: {'; '.join(odd[:4])}", remedy))
    told = f"{address}: answers, {len(others) - 1} workers, same versions"
    if not is_loopback(address) and not address.startswith("tls://"):
        return _server(warning("dask", told, "whoever reaches it can run code there: use TLS, or a network of its own"))
    return _server(ok("dask", told))


def _odd(here: Mapping[str, str], others: Mapping[str, Mapping[str, str]]) -> set[str]:
    return {
        f"{who} has {name} {told[name]}"
        for who, told in others.items()
        for name, number in here.items()
        if told[name] != number
    }


def _judged(name: str, address: str, asked: Answer | None, number: str) -> Check:
    """Say what an answer means."""
    place = shown(address)
    if asked is None:
        remedy = "start it, correct the address, or unset it to run without a server"
        return _server(failed(name, f"{place}: does not answer", remedy))
    if asked.status in REFUSED:
        return _server(failed(name, f"{place}: refuses access (status {asked.status})", f"set {CREDENTIALS[name]}"))
    if asked.status >= 400:
        return _server(
            failed(name, f"{place}: status {asked.status}", "look into the server's log, and at the address")
        )
    return _server(_open_or_old(name, address, asked, number))


def _open_or_old(name: str, address: str, asked: Answer, there: str) -> Check:
    here, guarded = version(name), asked.stranger in REFUSED
    door = "asks for a password" if guarded else "asks for no password"
    told = f"{shown(address)}: answers, version {there or 'unknown'} (here {here}), {door}"
    if there.split(".")[:2] != here.split(".")[:2]:
        return warning(name, told, f"run {name} {here} there, as the tests do")
    if not guarded and not is_loopback(address):
        return warning(name, told, "keep it on loopback, or behind something that asks for a password")
    if guarded and address.startswith("http://") and not is_loopback(address):
        return warning(name, told, "use https: the password goes over the network as it is")
    return ok(name, told)


def _ask(url: str, auth: Auth) -> Answer | None:
    """Ask with and without credentials; None if nobody answers."""
    plain = _without_user(url)
    try:
        known = requests.get(plain, auth=auth, timeout=PATIENCE_S)
        stranger = requests.get(plain, auth=_nobody, timeout=PATIENCE_S) if auth else known
    except requests.RequestException:
        return None
    return Answer(known.status_code, known.text, stranger.status_code)


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep `requests` from taking credentials of its own (.netrc)."""
    return request


def _prefect_auth(address: str) -> Auth:
    pair, key = os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY")
    if pair:
        user, _, password = pair.partition(":")
        return user, password
    return _bearer(key) if key else _user_of(address)


def _mlflow_auth(address: str) -> Auth:
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{what}") for what in ("USERNAME", "PASSWORD"))
    if user and password:
        return user, password
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return _bearer(token) if token else _user_of(address)


def _user_of(address: str) -> Auth:
    parts = urlsplit(address)
    return (unquote(parts.username), unquote(parts.password or "")) if parts.username else None


def _bearer(token: str) -> Auth:
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _server(check: Check) -> Check:
    return replace(check, server=True)


def listening() -> Check:
    """Look for servers of ours that all addresses of this machine reach."""
    found = sorted({f"{name} (process {pid}, port {port})" for name, pid, port in _listeners() if name})
    if found:
        remedy = "start them with --host 127.0.0.1, or behind something that asks for a password"
        return warning("listening", f"on all addresses: {', '.join(found)}", remedy)
    return ok("listening", "no Prefect, MLflow or Dask of this user listens on all addresses")


def _listeners() -> Iterator[tuple[str, int, int]]:
    for process in psutil.process_iter(["pid", "cmdline", "username"]):
        words = " ".join(process.info["cmdline"] or ())
        name = next((word for word in OURS if word in words), "")
        if name:
            yield from ((name, process.pid, port) for port in _open_ports(process))


def _open_ports(process: psutil.Process) -> list[int]:
    try:
        sockets = process.net_connections(kind="inet")
    except psutil.Error:
        return []
    return [one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN and one.laddr.ip in EVERYWHERE]


def stale() -> Check:
    """Look for temporary Prefect servers whose command was killed."""
    found = [process.pid for process in psutil.process_iter(["cmdline", "ppid"]) if _is_orphan(process)]
    if found:
        pids = " ".join(map(str, found))
        return warning("stale servers", f"{len(found)} temporary Prefect servers without a command", f"kill {pids}")
    return ok("stale servers", "no temporary Prefect server was left behind")


def _is_orphan(process: psutil.Process) -> bool:
    return ORPHANED in " ".join(process.info["cmdline"] or ()) and process.info["ppid"] == 1


def ports() -> Check:
    """See that servers can be started on this machine, and that the port for metrics is free if one is named."""
    told = os.environ.get(METRICS_PORT) or "0"
    if not told.isdecimal() or int(told) > 65535:
        return failed("ports", f"{METRICS_PORT} is {told!r}", "give a port, 1 to 65535, or unset it")
    try:
        with socket.create_server(("127.0.0.1", int(told))):
            return ok("ports", "ports of 127.0.0.1 can be had" + (f", {told} is free for metrics" if int(told) else ""))
    except OSError as error:
        remedy = f"end what listens there, or name another port in {METRICS_PORT}"
        return failed("ports", f"port {told} of 127.0.0.1 cannot be had ({error.strerror})", remedy)
