"""Slides on web servers, servers that fail, and what is said of addresses."""

import http.server
import socket
import threading
import traceback
from pathlib import Path

import fsspec
import pytest

from sgcldff.core.errors import InputError, MissingInputError, ServiceError
from sgcldff.core.locations import is_remote, local_path, shown
from sgcldff.slides import find_slides, open_slide
from sgcldff.slides.remote import stores
from sgcldff.slides.remote.cache import local_copy
from tests.sgcldff.slides.buckets import kept, same


class Web(http.server.BaseHTTPRequestHandler):
    """Serves one file; the path says what goes wrong."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = self.path.partition("?")[0]
        status = int(path[1:4]) if path[1:4].isdigit() else 200
        self.send_response(status)
        declared = len(self.server.content) // (2 if body and path == "/less.tif" else 1)
        self.send_header("Content-Length", str(declared))
        self.send_header("ETag", '"one"')
        self.end_headers()
        self.server.asked.append((self.command, self.path))
        asked = [command for command, _ in self.server.asked].count("GET")
        short = path == "/short.tif" or (path == "/twice.tif" and asked < 3)
        if body:
            self.wfile.write(self.server.content[: 20_000 if short else declared])

    def log_message(self, *_):
        pass


@pytest.fixture
def web(slides, cache):
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    running.content, running.asked = (slides / "scan.tif").read_bytes(), []
    running.url = f"http://127.0.0.1:{running.server_port}"
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


SECRETS = ("hush-one", "hush-two")
SIGNED = f"?X-Amz-Signature={SECRETS[0]}&name=%2Fa"


def test_a_slide_is_read_over_http(web, slides):
    (entry,) = find_slides([f"{web.url}/a%20scan.tif{SIGNED}"])
    assert entry.id == "a scan"
    slide = open_slide(entry.uri, name=entry.id)
    assert same(slide, open_slide(slides / "scan.tif"))
    assert open_slide(entry.uri).ref.id == "a scan"
    assert {path for _, path in web.asked} == {f"/a%20scan.tif{SIGNED}"}
    assert [command for command, _ in web.asked].count("GET") == 1


def test_a_copy_that_broke_off_is_begun_again(web, slides):
    assert same(open_slide(f"{web.url}/twice.tif"), open_slide(slides / "scan.tif"))
    assert [command for command, _ in web.asked].count("GET") == 3


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("/404.tif", MissingInputError, "does not exist"),
        ("/401.tif", InputError, "access is refused.*AWS_ACCESS_KEY_ID"),
        ("/403.tif", InputError, "access is refused"),
        ("/503.tif", ServiceError, "status 503"),
        ("/short.tif", ServiceError, "run again"),
        ("/less.tif", ServiceError, r"\d+ of \d+ bytes received"),
    ],
)
def test_errors_of_a_server_contain_no_secrets(web, cache, caplog, path, error, reason):
    with pytest.raises(error, match=rf"(?s){path}: .*{reason}") as raised:
        open_slide(f"{web.url.replace('//', f'//user:{SECRETS[1]}@')}{path}{SIGNED}")
    written = "".join(traceback.format_exception(raised.value))
    assert not any(secret in written + caplog.text for secret in SECRETS)
    assert not kept(cache)
    assert not list((cache / ".drafts").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("protocol", ["s3", "http"])
def test_a_dead_server_is_not_waited_for_for_ever(cache, monkeypatch, listening, protocol):
    monkeypatch.setattr(stores, "STORE_PATIENCE_S", 0.5)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRETS[1])
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        if listening:
            dead.listen()
        place = f"127.0.0.1:{dead.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{place}")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        url = "s3://bucket/x.svs" if protocol == "s3" else f"http://{place}/x.svs"
        with pytest.raises(ServiceError, match=r"x\.svs: the store does not answer.*run again") as raised:
            open_slide(url)
        assert SECRETS[1] not in "".join(traceback.format_exception(raised.value))
        with pytest.raises(ServiceError):
            find_slides([url])


def test_a_cache_that_cannot_be_made_is_named(memory, tmp_path):
    (tmp_path / "file").touch()
    memory.pipe_file("/a.png", b"a")
    with pytest.raises(InputError, match="set SGCLDFF_CACHE"):
        local_copy("memory://a.png", tmp_path / "file/cache")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://key:secret@bucket/a@b.svs", "s3://bucket/a@b.svs"),
        ("s3://key:sec?ret@bucket/x.svs", "s3://bucket/x.svs"),
        ("https://host/x.svs?X-Amz-Signature=1&b=2#c", "https://host/x.svs"),
        ("s3://bucket/x?.svs", "s3://bucket/x?.svs"),
        ("s3://bucket/x#1.svs", "s3://bucket/x#1.svs"),
        ("/data/a?b=c@d.svs", "/data/a?b=c@d.svs"),
    ],
)
def test_an_address_is_shown_without_secrets(uri, expected):
    assert shown(uri) == expected


def test_files_of_this_machine_are_not_remote(tmp_path, slides):
    assert not is_remote(str(slides / "scan.tif"))
    assert local_path((slides / "scan.tif").as_uri()) == slides / "scan.tif"
    (tmp_path / "a b%.txt").touch()
    assert local_path((tmp_path / "a b%.txt").as_uri()) == Path(f"file://{tmp_path}/a b%.txt".removeprefix("file://"))
    assert open_slide((slides / "scan.tif").as_uri()).ref == open_slide(slides / "scan.tif").ref
