"""Results in an object store: complete, current, copied once, and kept where the store fails."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from sgcldff.core.errors import InputError, ServiceError
from sgcldff.results.delivery import deliver, local_results
from sgcldff.slides.remote import upload
from sgcldff.slides.remote.stores import require_bucket
from tests.servers import BUCKET, s3_server, unused_port

pytestmark = pytest.mark.slow

OUT = f"s3://{BUCKET}/lab/results"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    import boto3

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of clients of earlier servers
        yield boto3.resource("s3", endpoint_url=environment["AWS_ENDPOINT_URL"]).Bucket(BUCKET)


def contents(bucket: object) -> dict[str, bytes]:
    return {item.key: item.get()["Body"].read() for item in bucket.objects.all()}


def write(files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = local_results(OUT) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return local_results(OUT)


def test_the_store_holds_what_the_folder_holds(bucket: object, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = {"a/summary.json": b"{}", "a/labels.ome.zarr/c/0/0": b"\0" * 9000, "a/report ü.html": b"<p>", "b/x": b"y"}
    folder, sent = write(slide | {"a/.lock": b"", "batch.html": b"page"}), list[str]()
    put = upload._send

    def noted(store: object, source: Path, target: str, names: list[str]) -> None:
        sent.extend(names)
        put(store, source, target, names)

    monkeypatch.setattr(upload, "_send", noted)
    require_bucket(OUT)
    deliver(OUT, "a")
    at = {f"lab/results/{name}": content for name, content in slide.items()}
    assert contents(bucket) == {name: content for name, content in at.items() if "/a/" in name}
    assert sent[-1] == "a/summary.json", "it says that the others are there"
    deliver(OUT)
    assert contents(bucket) == at | {"lab/results/batch.html": b"page"}
    del sent[:]
    deliver(OUT)
    assert sent == [], "nothing has changed"
    write({"a/summary.json": b"[]"})
    (folder / "a" / "report ü.html").unlink()
    bucket.Object("lab/results/b/x").delete()
    bucket.put_object(Key="lab/results/of others", Body=b"1")
    deliver(OUT)
    assert sorted(sent) == ["a/summary.json", "b/x"]
    del at["lab/results/a/report ü.html"]
    now = {"lab/results/a/summary.json": b"[]", "lab/results/batch.html": b"page", "lab/results/of others": b"1"}
    assert contents(bucket) == at | now


def test_a_bucket_that_is_missing_is_refused_before_anything_is_read(bucket: object) -> None:
    with pytest.raises(InputError, match=r"s3://other/results.*there is no s3://other"):
        require_bucket("s3://other/results")


def test_a_store_that_fails_leaves_the_results_here(bucket: object, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.objects.delete()
    folder = write({"a/summary.json": b"{}"})
    address = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_port()}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(ServiceError, match=f"results are kept in {folder}"):
        deliver(OUT, "a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    deliver(OUT, "a")
    assert contents(bucket) == {"lab/results/a/summary.json": b"{}"}


def test_a_folder_is_where_its_results_are(tmp_path: Path) -> None:
    assert local_results(tmp_path) == tmp_path
    deliver(str(tmp_path))
