"""MLflow's webhooks, sent by a real server to a real receiver, which checks them as the documentation says."""

import json
import re
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import httpx
import pytest
from cryptography.fernet import Fernet

from sgcldff.registry import Registry
from tests.servers import mlflow_server

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[3] / "docs" / "operations" / "webhooks.md"
SECRET = "between us"


class Request(NamedTuple):
    headers: Mapping[str, str]
    body: bytes


@pytest.fixture
def receiver() -> Iterator[tuple[str, SimpleQueue[Request]]]:
    received: SimpleQueue[Request] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(Request(dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/model", received
    server.shutdown()


def test_a_new_champion_is_announced_with_a_signature(
    trained: Path, tmp_path: Path, receiver: tuple[str, SimpleQueue[Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url, received = receiver
    blocks = re.findall(r"```(json|python)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    webhook, example = (json.loads(text) for language, text in blocks if language == "json")
    documented: dict[str, Any] = {}
    exec("".join(text for language, text in blocks if language == "python"), documented)
    variables = {
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    }
    with mlflow_server(tmp_path / "server", environment=variables) as client:
        address = client["MLFLOW_TRACKING_URI"]
        httpx.post(
            f"{address}/api/2.0/mlflow/webhooks", json=webhook | {"url": url, "secret": SECRET}
        ).raise_for_status()
        registry = Registry(address)
        registry.promote(registry.register(trained))
        requests = [received.get(timeout=60) for _ in range(2)]
    announced = {json.loads(request.body)["data"]["alias"]: request for request in requests}
    assert announced.keys() == {"challenger", "champion"}
    headers, body = announced["champion"]
    assert json.loads(body).keys() == example.keys()
    assert json.loads(body)["data"] == {"name": "sgcldff", "alias": "champion", "version": "1"}
    is_from_mlflow = documented["is_from_mlflow"]
    assert is_from_mlflow(headers, body, SECRET)
    assert not is_from_mlflow(headers, body, "another")
    assert not is_from_mlflow(headers, body.replace(b'"1"', b'"2"'), SECRET)
    assert not is_from_mlflow(headers | {"X-MLflow-Timestamp": "1700000000"}, body, SECRET)
