import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from sgcldff.core.errors import InputError, ServiceError
from sgcldff.data.adapters import ADAPTERS, Download
from sgcldff.data.adapters.download import fetch


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


GOOD = archive({"BCCD/JPEGImages/BloodImage_00000.jpg": b"pixels", "BCCD/Annotations/BloodImage_00000.xml": b"<a/>"})


class Server:
    """Serves files from memory on loopback and counts requests."""

    def __init__(self):
        self.files, self.asked = {"/good.zip": GOOD}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                body = outer.files.get(self.path)
                self.send_response(500 if self.path == "/broken" else 200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def download(self, path, content=GOOD):
        self.files.setdefault(path, content)
        return {"bccd": Download(self.url + path, hashlib.sha256(content).hexdigest())}

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()


def everything_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_download_is_unpacked_and_not_repeated(server, tmp_path):
    for _ in range(2):
        folder = fetch("bccd", tmp_path, server.download("/good.zip"))
    assert (folder / "BCCD/JPEGImages/BloodImage_00000.jpg").read_bytes() == b"pixels"
    assert ADAPTERS["bccd"].recognises(folder)
    assert server.asked == ["/good.zip"]


def test_a_wrong_checksum_keeps_nothing(server, tmp_path):
    registry = {"bccd": Download(f"{server.url}/good.zip", "0" * 64)}
    with pytest.raises(InputError, match=r"good\.zip: has another checksum than 0000"):
        fetch("bccd", tmp_path, registry)
    assert not everything_in(tmp_path)


def test_without_a_known_checksum_the_user_has_to_give_one(server, tmp_path):
    registry = {"bccd": Download(f"{server.url}/good.zip")}
    with pytest.raises(InputError, match="--sha256"):
        fetch("bccd", tmp_path, registry)
    assert server.asked == []
    folder = fetch("bccd", tmp_path, registry, sha256=hashlib.sha256(GOOD).hexdigest().upper())
    assert everything_in(folder) >= {"BloodImage_00000.jpg"}


def test_an_invalid_checksum_is_refused(server, tmp_path):
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        fetch("bccd", tmp_path, server.download("/good.zip"), sha256="d41d8cd9")


def test_a_missing_file_and_a_failing_server_are_distinguished(server, tmp_path):
    with pytest.raises(InputError, match="status 404"):
        fetch("bccd", tmp_path, {"bccd": Download(f"{server.url}/nothing.zip", "0" * 64)})
    with pytest.raises(ServiceError, match="status 500"):
        fetch("bccd", tmp_path, {"bccd": Download(f"{server.url}/broken", "0" * 64)})


def test_a_server_that_is_down_is_a_service_error(server, tmp_path):
    registry = server.download("/good.zip")
    server.stop()
    with pytest.raises(ServiceError, match="does not answer"):
        fetch("bccd", tmp_path, registry)
    assert not everything_in(tmp_path)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/sgcldff-evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil"]
)
def test_an_archive_cannot_write_outside_its_folder(server, tmp_path, name):
    inside = tmp_path / "inside"
    content = archive({"fine.txt": b"", name: b"evil"})
    with pytest.raises(InputError, match="leads out of its folder"):
        fetch("bccd", inside, server.download("/evil.zip", content))
    assert everything_in(tmp_path) == {"archive.zip"}


def test_a_link_in_an_archive_is_refused(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc")
    with pytest.raises(InputError, match="leads out"):
        fetch("bccd", tmp_path, server.download("/link.zip", buffer.getvalue()))


@pytest.mark.parametrize("kind", [0o020666, 0o060666, 0o010666, 0o140666], ids=["character", "block", "fifo", "socket"])
def test_a_device_in_an_archive_is_refused(server, tmp_path, kind):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        device = zipfile.ZipInfo("device")
        device.external_attr = kind << 16
        file.writestr(device, "")
    with pytest.raises(InputError, match="no plain file or folder"):
        fetch("bccd", tmp_path, server.download("/device.zip", buffer.getvalue()))
    assert everything_in(tmp_path) == {"archive.zip"}


def declaring(size: int) -> bytes:
    """Return an archive whose only member declares a wrong size."""
    content = archive({"bomb": b"x"})
    central = content.index(b"PK\x01\x02")
    return content[: central + 24] + size.to_bytes(4, "little") + content[central + 28 :]


def test_an_archive_that_declares_too_much_is_refused_before_it_is_unpacked(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sgcldff.data.adapters.download.MAX_BYTES", 10**9)
    with pytest.raises(InputError, match=r"would unpack to 4\.0 GB"):
        fetch("bccd", tmp_path, server.download("/bomb.zip", declaring(4 * 10**9)))
    monkeypatch.setattr("sgcldff.data.adapters.download.MAX_FILES", 3)
    with pytest.raises(InputError, match="in 4 files"):
        fetch("bccd", tmp_path / "b", server.download("/many.zip", archive({str(n): b"" for n in range(4)})))


def test_an_archive_writes_no_more_than_it_declares(server, tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(20_000_000))
    content = bomb.getvalue()
    central = content.index(b"PK\x01\x02")
    lying = content[: central + 24] + (1000).to_bytes(4, "little") + content[central + 28 :]
    with pytest.raises(InputError, match="not a readable zip"):
        fetch("bccd", tmp_path, server.download("/lying.zip", lying))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 100_000


def test_an_archive_that_does_not_fit_on_the_disk_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sgcldff.data.adapters.download.shutil.disk_usage", lambda place: SimpleNamespace(free=5))
    with pytest.raises(InputError, match="free some space"):
        fetch("bccd", tmp_path, server.download("/good.zip"))


def test_a_tar_archive_is_refused(server, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("../evil.txt"))
    with pytest.raises(InputError, match="not a readable zip"):
        fetch("bccd", tmp_path / "inside", server.download("/evil.tar", buffer.getvalue()))
    assert everything_in(tmp_path) == {"archive.zip"}


def test_a_file_that_is_not_an_archive_is_refused(server, tmp_path):
    with pytest.raises(InputError, match="not a readable zip"):
        fetch("bccd", tmp_path, server.download("/page.html", b"<html>log in first</html>"))


def test_a_users_own_folder_is_never_replaced(server, tmp_path):
    own = tmp_path / "bccd" / "mine.txt"
    own.parent.mkdir()
    own.write_text("precious")
    with pytest.raises(InputError, match="was not downloaded"):
        fetch("bccd", tmp_path, server.download("/good.zip"))
    assert own.read_text() == "precious"
    assert server.asked == []


def test_a_new_version_replaces_the_downloaded_one(server, tmp_path):
    fetch("bccd", tmp_path, server.download("/good.zip"))
    folder = fetch("bccd", tmp_path, server.download("/next.zip", archive({"next.txt": b"2"})))
    assert everything_in(folder) == {"next.txt", ".sgcldff-fetched"}


@pytest.mark.parametrize("name", ["lisc", "all_idb1", "all_idb2", "jtsc", "cellavision"])
def test_data_sets_without_a_download_say_how_to_get_them(name, tmp_path):
    item = ADAPTERS[name]
    with pytest.raises(InputError) as raised:
        fetch(name, tmp_path)
    for told in (item.title, item.licence, item.instructions, item.url):
        assert told in str(raised.value)


@pytest.mark.parametrize("name", ["bccd", "pbc"])
def test_no_checksum_is_invented(name, tmp_path):
    if ADAPTERS[name].download.sha256 is None:
        with pytest.raises(InputError, match="no checksum"):
            fetch(name, tmp_path)
    else:
        assert len(ADAPTERS[name].download.sha256) == 64
