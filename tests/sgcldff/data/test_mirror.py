"""Folders of training images in a bucket of a real S3 server: mirrored, updated, and resumed after SIGKILL."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from sgcldff.core.errors import InputError, MissingInputError, SlideError
from sgcldff.data import mirror
from sgcldff.data.adapters import Source, detect
from sgcldff.data.catalog import ingest
from sgcldff.data.mirror import mirrored
from sgcldff.data.synthetic import write_dataset

BUCKET, SHELF = "arrivals", "lab/smears"
LAND = """
import sys
from sgcldff.data import mirror
from sgcldff.data.adapters import Source
mirror.FILES_AT_ONCE = 1
mirror.mirrored(Source("auto", sys.argv[1]), sys.argv[2])
"""


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("local") / "smears", 9, 1, seed=8)


@pytest.fixture(scope="module")
def bucket(smears):
    """Start an S3 server with a data set in a bucket; return the client."""
    with pytest.MonkeyPatch.context() as patch:
        running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        running.start()
        address = f"http://127.0.0.1:{running.get_host_and_port()[1]}"
        keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in (keys | {"AWS_ENDPOINT_URL": address}).items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket=BUCKET)
        upload(client, smears, SHELF)
        yield client
        running.stop()


def upload(client, folder, prefix):
    for file in folder.rglob("*"):
        if file.is_file():
            client.upload_file(str(file), BUCKET, f"{prefix}/{file.relative_to(folder)}")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_a_bucket_is_ingested_like_the_folder_it_came_from(bucket, smears, tmp_path):
    source = mirrored(Source("auto", f"s3://{BUCKET}/{SHELF}"), tmp_path / "landing")
    assert contents(Path(source.folder)) == contents(smears)
    far, near = (ingest(detect(folder), tmp_path / name) for name, folder in (("a", source.folder), ("b", smears)))
    assert far.digest == near.digest
    assert len(far.samples) == 10


def test_a_mirror_follows_its_bucket_and_copies_only_what_changed(bucket, smears, tmp_path):
    upload(bucket, smears, "changing")
    source = Source("table", f"s3://{BUCKET}/changing")
    folder = Path(mirrored(source, tmp_path).folder)
    before = times(folder)
    assert Path(mirrored(source, tmp_path).folder) == folder
    assert times(folder) == before
    bucket.put_object(Bucket=BUCKET, Key="changing/images/crop-00001.png", Body=b"other bytes")
    bucket.put_object(Bucket=BUCKET, Key="changing/images/new.png", Body=b"new")
    bucket.delete_object(Bucket=BUCKET, Key="changing/masks/crop-00002.png")
    (folder / "images" / "crop-00003.png").write_bytes(b"cut off")
    mirrored(source, tmp_path)
    after = times(folder)
    changed = {f"images/{name}.png" for name in ("crop-00001", "crop-00003", "new")}
    assert {name for name in after if after[name] != before.get(name)} == changed
    expected = contents(smears) | {"images/crop-00001.png": b"other bytes", "images/new.png": b"new"}
    del expected["masks/crop-00002.png"]
    assert contents(folder) == expected


@pytest.mark.slow
def test_after_sigkill_complete_files_are_not_copied_again(bucket, smears, tmp_path):
    command = [sys.executable, "-c", LAND, f"s3://{BUCKET}/{SHELF}", str(tmp_path)]
    process = subprocess.Popen(command, env=os.environ)
    for _ in range(2400):
        journals = list(tmp_path.glob(f"*/{mirror.JOURNAL}"))
        if (journals and journals[0].read_text().count("\n") >= 3) or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (journal,) = tmp_path.glob(f"*/{mirror.JOURNAL}")
    with journal.open("a") as file:
        file.write('no line of JSON\n7\n["smears/images/torn')
    copied = times(journal.parent / "files")
    whole = [name for name in copied if not name.endswith(".partial")]
    assert 3 <= len(whole) < len(contents(smears))
    folder = Path(mirrored(Source("auto", f"s3://{BUCKET}/{SHELF}"), tmp_path).folder)
    assert contents(folder) == contents(smears)
    assert len(journal.read_text().splitlines()) == len(contents(smears))
    again = times(folder.parent)
    assert sum(again[name] == copied[name] for name in whole) >= len(whole) - 1, "one may not be in the journal yet"


def test_a_folder_that_cannot_be_mirrored_is_an_error(bucket, tmp_path):
    local = Source("auto", str(tmp_path))
    assert mirrored(local, tmp_path) is local
    bucket.put_object(Bucket=BUCKET, Key="evil/../../escaped.png", Body=b"x")
    for folder, error, told in (
        (f"s3://{BUCKET}/nothing", MissingInputError, "nothing: does not exist"),
        (f"s3://{BUCKET}/{SHELF}/manifest.csv", InputError, "is a file; name the folder"),
        ("http://127.0.0.1:9/x", InputError, "web servers do not list folders"),
        (f"s3://{BUCKET}/evil", SlideError, "leads out of its folder"),
    ):
        with pytest.raises(error, match=told):
            mirrored(Source("auto", folder), tmp_path / "landing")
    assert not list(tmp_path.rglob("escaped.png"))
