"""Events as JSON lines: whole, attributed to their run and slide, and without secrets."""

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from sgcldff.core.errors import InputError
from sgcldff.core.logs import LOG_FILE, OWN_LOGGERS, JsonLog, current_log_context, log_context, start_json_log
from sgcldff.core.redaction import redacted
from sgcldff.inference.prefetch import prefetched

SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "hunter2-mlflow",
    "PREFECT_API_KEY": "pnu_0123456789abcdef",
    "PREFECT_API_AUTH_STRING": "admin:auth-string-pw",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "MLFLOW_TRACKING_URI": "http://ann:p%40ss-w0rd@127.0.0.1:5000",
}
VALUES = (
    "hunter2-mlflow",
    "pnu_0123456789abcdef",
    "auth-string-pw",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "p%40ss-w0rd",
    "p@ss-w0rd",
)


@pytest.fixture
def secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Start a log and yield a function that reads its events; restore logging afterwards."""
    monkeypatch.setenv(LOG_FILE, str(tmp_path / "logs" / "events.jsonl"))
    make, levels = logging.getLogRecordFactory(), {name: logging.getLogger(name).level for name in OWN_LOGGERS}
    start_json_log()
    yield lambda: [json.loads(line) for line in (tmp_path / "logs" / "events.jsonl").read_text().splitlines()]
    logging.setLogRecordFactory(make)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, JsonLog)]:
        root.removeHandler(handler)
        handler.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_an_event_carries_time_logger_and_context(log):
    with log_context({"run_id": "r", "slide_id": "outer"}), log_context({"slide_id": "s"}):
        logging.getLogger("sgcldff.x").info("read %d", 3, extra={"seconds": 0.5})
    logging.getLogger("tasks.y").warning("alone")
    first, second = log()
    assert (first["message"], first["level"], first["logger"]) == ("read 3", "INFO", "sgcldff.x")
    assert (first["run_id"], first["slide_id"], first["seconds"]) == ("r", "s", 0.5)
    assert first["time"].endswith("+00:00")
    assert "slide_id" not in second


def test_only_warnings_of_libraries_are_logged(log):
    library = logging.getLogger("chatty.library")
    library.setLevel(logging.INFO)
    library.info("chatter")
    library.warning("trouble")
    assert [event["message"] for event in log()] == ["trouble"]


def test_threads_log_their_own_slide(log):
    def read(slide):
        with log_context({"slide_id": slide}):
            logging.getLogger("tasks.slides").info(slide)

    with log_context({"run_id": "r"}), ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(copy_context().run, read, f"s{number}") for number in range(40)]:
            done.result()
    events = log()
    assert len(events) == 40
    assert all(event["slide_id"] == event["message"] and event["run_id"] == "r" for event in events)


def test_a_prefetching_thread_inherits_the_context():
    with log_context({"slide_id": "s"}):
        assert list(prefetched(current_log_context()["slide_id"] for _ in range(5))) == ["s"] * 5


def test_processes_share_a_file_and_no_line_is_torn(log):
    script = (
        "import logging; from sgcldff.core.logs import *; start_json_log()\n"
        "with log_context({'slide_id': 'child'}):\n"
        "    for n in range(200): logging.getLogger('tasks.x').info('%d ' * 300, *[n] * 300)"
    )
    children = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [child.wait(120) for child in children] == [0, 0]
    events = log()
    assert len(events) == 400
    assert all(event["slide_id"] == "child" for event in events)


def test_no_secret_reaches_a_log_by_message_argument_or_traceback(log, secrets, caplog):
    logger = logging.getLogger("some.library")
    for value in VALUES:
        logger.warning("gave %s", value)
        logger.warning("headers %r", {"Authorization": f"Bearer {value}"})
        try:
            raise ValueError(f"cannot log in with {value}")
        except ValueError:
            logger.exception("failed")
    logger.warning("at %s", SECRETS["MLFLOW_TRACKING_URI"])
    written = json.dumps(log()) + caplog.text
    assert written.count("***") > 2 * len(VALUES)
    assert not [value for value in VALUES if value in written]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://key:topsecret@bucket/a", "s3://***@bucket/a"),
        ("postgresql+asyncpg://prefect:pw@db/prefect", "postgresql+asyncpg://***@db/prefect"),
        ("https://h/a?X-Amz-Signature=ff00&x=1", "https://h/a?X-Amz-Signature=***&x=1"),
        ("AKIAIOSFODNN7EXAMPLE was refused", "*** was refused"),
        ("password=letmein, again", "password=***, again"),
        ("password: letmein", "password: ***"),
        ("m\udcfcller.svs", "m?ller.svs"),
        ('{"token": "abc", "n": 1}', '{"token": "***", "n": 1}'),
        ("mail ann@example.org about /data/a@b.svs", "mail ann@example.org about /data/a@b.svs"),
        ("http://127.0.0.1:4200/api does not answer", "http://127.0.0.1:4200/api does not answer"),
    ],
)
def test_secrets_are_redacted_and_ordinary_text_is_kept(text, expected):
    assert redacted(text) == expected


def test_a_log_that_cannot_be_written_is_an_input_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(LOG_FILE, str(tmp_path / "file" / "events.jsonl"))
    make = logging.getLogRecordFactory()
    with pytest.raises(InputError, match="--log-json"):
        start_json_log()
    logging.setLogRecordFactory(make)


def test_a_password_of_a_real_servers_address_is_in_no_log(log, monkeypatch, tmp_path):
    """A server that drops connections makes its client's library log and raise the address that it was given."""
    import socket

    import urllib3

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://ann:correct-horse@127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        logging.getLogger("urllib3").setLevel(logging.DEBUG)
        try:
            urllib3.PoolManager(retries=urllib3.Retry(1, backoff_factor=0)).request("GET", address, timeout=0.2)
        except urllib3.exceptions.HTTPError as error:
            logging.getLogger("sgcldff.registry").exception("MLflow at %s: %s", address, error)
        finally:
            logging.getLogger("urllib3").setLevel(logging.NOTSET)
    events = log()
    assert any("urllib3" in event["logger"] for event in events)
    assert "correct-horse" not in json.dumps(events)
    assert "exc_info" in events[-1]
