import contextlib
import hashlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from sgcldff.core.errors import InputError, MissingInputError, SlideError
from sgcldff.data.synthetic import write_slide
from sgcldff.slides import find_slides, open_slide, reopen
from sgcldff.slides.remote.cache import local_copy
from tests.sgcldff.slides.buckets import SHAPE, kept, same

BUCKET = "smears"
OPEN = "import sys; from sgcldff.slides import open_slide; print(open_slide(sys.argv[1]).ref.sha256)"
"""A process of its own that opens a slide."""


class Gate:
    """A line to a server that can be cut, or held, once so many bytes received from it."""

    def __init__(self, port):
        self.target, self.cuts, self.after, self.hold, self.large = port, 0, 0, False, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self.pump, args=(server, client, True), daemon=True).start()

    def pump(self, source, sink, down):
        count = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                count += len(data)
                if down and self.after and count > self.after:
                    self.large += count - len(data) <= self.after
                    if self.cuts:
                        self.cuts -= 1
                        break
                    while self.hold:
                        time.sleep(0.01)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server(slides):
    """An S3 server with both slides, and some others, in a bucket."""
    with pytest.MonkeyPatch.context() as patch:
        running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        running.start()
        port = running.get_host_and_port()[1]
        keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in keys.items():
            patch.setenv(name, value)
        running.s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
        running.s3.create_bucket(Bucket=BUCKET)
        for file in slides.rglob("*"):
            if file.is_file():
                running.s3.upload_file(str(file), BUCKET, f"shelf/{file.relative_to(slides)}")
        running.s3.upload_file(str(slides / "scan.tif"), BUCKET, "shelf/b/scan.tif")
        running.port = port
        yield running
        running.stop()


@pytest.fixture
def bucket(server, cache, monkeypatch):
    """The bucket's URL, and the line through which it is reached."""
    line = Gate(server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    line.url, line.s3 = f"s3://{BUCKET}/shelf", server.s3
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield line
    line.hold = False
    line.socket.close()


def start(url):
    return subprocess.Popen([sys.executable, "-c", OPEN, url], stdout=subprocess.PIPE, text=True)


def waited(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ["b-scan", "image", "shelf-scan"]),
        ("/*.tif", ["scan"]),
        ("/**/*.tif", ["b-scan", "shelf-scan"]),
        ("/*.zarr", ["image"]),
        ("/image.ome.zarr", ["image"]),
        ("/b/scan.tif", ["scan"]),
    ],
)
def test_a_bucket_is_listed_by_prefix_and_pattern(bucket, text, ids):
    assert [entry.id for entry in find_slides([bucket.url + text])] == ids
    assert all(entry.uri.startswith(f"s3://{BUCKET}/shelf/") for entry in find_slides([bucket.url + text]))


@pytest.mark.parametrize("name", ["scan.tif", "image.ome.zarr"])
def test_a_slide_in_a_bucket_is_read_like_a_local_one(bucket, slides, cache, name):
    far, near = open_slide(f"{bucket.url}/{name}", name="far"), open_slide(slides / name)
    assert same(far, near)
    assert (far.ref.id, far.ref.uri, far.ref.sha256) == ("far", f"{bucket.url}/{name}", near.ref.sha256)
    again = pickle.loads(pickle.dumps(far))
    assert same(again, near)
    assert len(kept(cache)) == 1
    assert not list((cache / ".drafts").iterdir())


def test_a_copy_is_made_once_a_machine_and_anew_elsewhere(bucket, slides, cache, tmp_path):
    url = f"{bucket.url}/scan.tif"
    file = local_copy(url).path
    (made,) = ([file.stat().st_ino, file.stat().st_mtime_ns],)
    again = local_copy(url).path
    assert [again.stat().st_ino, again.stat().st_mtime_ns] == made
    elsewhere = local_copy(url, tmp_path / "elsewhere").path
    assert elsewhere.is_relative_to(tmp_path / "elsewhere")
    assert elsewhere.read_bytes() == again.read_bytes() == (slides / "scan.tif").read_bytes()


@pytest.mark.parametrize("damaged", ["about.json", "scan.tif"])
def test_a_copy_that_was_damaged_is_made_anew(bucket, slides, cache, damaged):
    url = f"{bucket.url}/scan.tif"
    copy = local_copy(url).path.parent
    (copy / damaged).write_bytes((copy / damaged).read_bytes()[:40])
    assert local_copy(url).path.read_bytes() == (slides / "scan.tif").read_bytes()


def test_an_object_that_changed_is_copied_anew_and_not_read_on(bucket, slides, cache, tmp_path):
    url = f"s3://{BUCKET}/changing/scan.tif"
    bucket.s3.upload_file(str(slides / "scan.tif"), BUCKET, "changing/scan.tif")
    before = open_slide(url)
    write_slide(tmp_path / "new.tif", SHAPE, 0.25, 5, seed=1)
    bucket.s3.upload_file(str(tmp_path / "new.tif"), BUCKET, "changing/scan.tif")
    assert same(open_slide(url), open_slide(tmp_path / "new.tif"))
    assert same(before, open_slide(slides / "scan.tif"))
    with pytest.raises(SlideError, match=r"changing/scan\.tif: changed while it was read"):
        reopen(before.ref)


@pytest.mark.slow
def test_a_process_killed_while_it_copies_leaves_nothing_that_is_taken_for_a_slide(bucket, slides, cache):
    bucket.after, bucket.hold = 50_000, True
    process = start(f"{bucket.url}/scan.tif")
    waited(lambda: any(file.stat().st_size for file in cache.glob(".drafts/*/scan.tif")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not kept(cache)
    assert list(cache.glob(".drafts/*/scan.tif")), "it was not killed in the middle"
    bucket.hold = False
    assert same(open_slide(f"{bucket.url}/scan.tif"), open_slide(slides / "scan.tif"))
    assert not list((cache / ".drafts").iterdir())


@pytest.mark.slow
def test_simultaneous_processes_copy_a_slide_once_and_see_it_complete(bucket, slides, cache):
    bucket.after, bucket.hold = 50_000, True
    processes = [start(f"{bucket.url}/scan.tif") for _ in range(2)]
    waited(lambda: bucket.large)
    time.sleep(0.5)
    bucket.hold = False
    expected = hashlib.sha256((slides / "scan.tif").read_bytes()).hexdigest()
    assert [process.communicate()[0].strip() for process in processes] == [expected] * 2
    assert len(kept(cache)) == bucket.large == 1


def test_a_line_that_breaks_is_tried_again_a_few_times(bucket, slides):
    bucket.after, bucket.cuts = 50_000, 2
    assert same(open_slide(f"{bucket.url}/scan.tif"), open_slide(slides / "scan.tif"))
    assert bucket.cuts == 0


def test_missing_slides_are_named(bucket):
    with pytest.raises(MissingInputError, match=r"shelf/none\.tif: does not exist"):
        open_slide(f"{bucket.url}/none.tif")
    with pytest.raises(MissingInputError, match=r"nowhere.*shelf/none"):
        find_slides(["s3://nowhere/x", f"{bucket.url}/none", f"{bucket.url}/*.svs"])
    with pytest.raises(SlideError, match="without Zarr metadata"):
        open_slide(bucket.url)


def test_names_cannot_lead_out_of_the_cache(bucket, cache):
    for key in ("evil.zarr/zarr.json", "evil.zarr/../../../escaped"):
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")
    with pytest.raises(SlideError, match="leads out of its folder"):
        open_slide(f"s3://{BUCKET}/evil.zarr")
    assert not list(cache.parent.rglob("escaped"))
    assert local_copy(f"{bucket.url}/scan.tif").path.is_relative_to(cache)


def test_the_folder_beside_an_mrxs_file_comes_with_it(memory, cache):
    for name in ("case.mrxs", "case/Slidedat.ini", "case/deep/Data0000.dat", "other/Data0000.dat"):
        memory.pipe_file(f"/shelf/{name}", name.encode())
    copy = local_copy("memory://shelf/case.mrxs")
    found = {str(file.relative_to(copy.path.parent)) for file in copy.path.parent.rglob("*") if file.is_file()}
    assert found == {"case.mrxs", "case/Slidedat.ini", "case/deep/Data0000.dat", "about.json"}
    assert (copy.path.with_suffix("") / "Slidedat.ini").read_bytes() == b"case/Slidedat.ini"
    memory.pipe_file("/shelf/case/Slidedat.ini", b"changed")
    assert (local_copy("memory://shelf/case.mrxs").path.with_suffix("") / "Slidedat.ini").read_bytes() == b"changed"


def test_the_longest_unused_copies_go_but_none_that_is_open(memory, cache, monkeypatch):
    monkeypatch.setenv("SGCLDFF_CACHE_GB", str(2500 / 1e9))
    for name in "abcd":
        memory.pipe_file(f"/{name}.png", name.encode() * 1000)
    (cache / ".drafts/0123").mkdir(parents=True)
    first, second = local_copy("memory://a.png"), local_copy("memory://b.png")
    for age, copy in ((20, first), (10, second)):
        os.utime(copy.path.parent, (time.time() - age,) * 2)
    second.close()
    third = local_copy("memory://c.png")
    assert [copy.path.exists() for copy in (first, second, third)] == [True, False, True]
    fourth = local_copy("memory://d.png")
    assert all(copy.path.exists() for copy in (first, third, fourth)), "what is open may exceed the bound"
    del first
    os.utime(fourth.path.parent, (time.time() - 5,) * 2)
    local_copy("memory://b.png")
    assert {json.loads((place / "about.json").read_text())["uri"][-5] for place in kept(cache)} == {"b", "c", "d"}
    assert not list((cache / ".drafts").iterdir())


@pytest.mark.parametrize("size", ["0", "-1", "many", "nan"])
def test_a_bound_that_is_none_is_refused(memory, cache, monkeypatch, size):
    monkeypatch.setenv("SGCLDFF_CACHE_GB", size)
    memory.pipe_file("/a.png", b"a")
    with pytest.raises(InputError, match=f"SGCLDFF_CACHE_GB is '{size}'"):
        local_copy("memory://a.png")


def test_a_damaged_slide_is_named_by_its_url(memory, cache):
    memory.pipe_file("/shelf/bad.tif", b"II*\0nonsense")
    with pytest.raises(SlideError, match=r"^memory://shelf/bad\.tif: "):
        open_slide("memory://shelf/bad.tif")


@pytest.mark.parametrize(
    ("url", "expected"), [("gs://b/x.svs", "gcsfs"), ("az://b/x.svs", "adlfs"), ("strange://b/x.svs", "s3, http")]
)
def test_a_protocol_without_its_package_names_it(cache, url, expected):
    with pytest.raises(InputError, match=expected):
        open_slide(url)
