"""What slides say of patients reaches no result, no report, no log and no record of Prefect."""

import base64
import json
import logging
import re
from pathlib import Path

import cv2
import numpy as np
import openslide
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from PIL import Image, PngImagePlugin
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId

from flows.infer import infer
from sgcldff.core.errors import IncompleteBatchError
from sgcldff.core.logs import LOG_FILE, JsonLog
from sgcldff.slides.images import read_rgb
from tasks.compute import Compute

NAME = "PATIENT-DOE-4711"
MAGENTA = (255, 0, 255)
"""Colour of label and macro image; no smear has it."""
TAGS = [(tag, "s", 0, NAME, False) for tag in ("Artist", "HostComputer", "DocumentName", "Copyright", 65000)]
MPP = 0.2


def painted(side: int) -> np.ndarray:
    return np.full((side, side, 3), MAGENTA, np.uint8)


def write_svs(path: Path, rgb: np.ndarray) -> Path:
    """Write a slide as an Aperio scanner does, with a thumbnail, a label and a macro image, and NAME in every text."""
    size = f"{rgb.shape[1]}x{rgb.shape[0]}"
    told = f"Aperio Image Library v12\r\n{size}|AppMag = 40|MPP = {MPP}|User = {NAME}|Title = {NAME}"
    common = {"photometric": "rgb", "extratags": TAGS, "metadata": None, "software": NAME}
    with tifffile.TiffWriter(path) as file:
        file.write(rgb, tile=(240, 240), compression="jpeg", description=told, **common)
        file.write(rgb[::4, ::4], compression="jpeg", rowsperstrip=16, description=told, **common)
        for what, kind in (("label", 1), ("macro", 9)):
            named = f"Aperio Image Library v12\r\n{what} 96x96 {NAME}"
            file.write(painted(96), subfiletype=kind, rowsperstrip=16, description=named, **common)
    with openslide.OpenSlide(path) as slide:
        assert {"label", "macro"} <= set(slide.associated_images)
        assert NAME in slide.properties["aperio.User"]
    return path


def write_ome(path: Path, rgb: np.ndarray) -> Path:
    scale = {"PhysicalSizeX": MPP, "PhysicalSizeY": MPP, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    told = {"axes": "YXS", **scale, "Name": NAME, "Description": NAME, "Creator": NAME}
    tifffile.imwrite(path, rgb, ome=True, photometric="rgb", tile=(240, 240), metadata=told, extratags=TAGS)
    return path


def write_png(path: Path, rgb: np.ndarray) -> Path:
    text, exif = PngImagePlugin.PngInfo(), Image.Exif()
    text.add_text("Author", NAME)
    exif[0x013B] = NAME
    Image.fromarray(rgb).save(path, pnginfo=text, exif=exif, dpi=(25400 / MPP,) * 2)
    return path


class Audit:
    """All that a batch left behind."""

    def __init__(self, out: Path, log: Path, error: str, records: str) -> None:
        self.out, self.log, self.error, self.records = out, log, error, records

    def files(self) -> list[Path]:
        return [self.log, *(path for path in self.out.rglob("*") if path.is_file())]


@pytest.fixture(scope="module")
def audit(lab, slide, tmp_path_factory):
    """Read slides of all kinds of formats, and slides that are damaged, from a folder that is named after a patient."""
    place = tmp_path_factory.mktemp("privacy")
    folder, out, log = place / NAME, place / "out", place / "events.jsonl"
    folder.mkdir()
    rgb = read_rgb(slide.slide)[:480, :480]
    write_svs(folder / "aperio.svs", rgb)
    write_svs(folder / f"{NAME}.svs", rgb)
    write_ome(folder / "ome.ome.tif", rgb)
    write_png(folder / "plain.png", rgb)
    for name in ("damaged", f"{NAME}-b"):
        (folder / f"{name}.svs").write_bytes((folder / "aperio.svs").read_bytes()[:20_000])
    table = place / "slides.csv"
    named = {f"{NAME}.svs": "s-1", f"{NAME}-b.svs": "s-2"}
    rows = [f"{path},{named.get(path.name, '')}" for path in sorted(folder.iterdir())]
    table.write_text("\n".join(["slide,id", *rows]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LOG_FILE, str(log))
        levels = {room: logging.getLogger(room).level for room in ("sgcldff", "tasks", "flows")}
        with pytest.raises(IncompleteBatchError) as ended:
            infer(
                [str(table)],
                str(out),
                lab.workspace,
                "models:/sgcldff@champion",
                None,
                Compute(workers=0),
                lab.settings,
            )
    stop(levels)
    return Audit(out, log, str(ended.value), records_of(log))


def stop(levels):
    """Take the log's handler away again."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, JsonLog)]:
        root.removeHandler(handler)
        handler.close()
    for room, level in levels.items():
        logging.getLogger(room).setLevel(level)


def records_of(log: Path) -> str:
    """Give what Prefect keeps of the run: artifacts, and how its tasks ended; its parameters are the user's words."""
    run = json.loads(log.read_text().splitlines()[0])["run_id"]
    this = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        )
        states = [
            client.read_flow_run(run).state,
            *(task.state for task in client.read_task_runs(flow_run_filter=this)),
        ]
    return str([*artifacts, *states])


def readable(path: Path) -> bytes:
    """Give a file's bytes and what is packed in them: tables, and the pictures of pages."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        content += f"{table.to_pylist()}{table.schema.metadata}{pq.read_metadata(path).metadata}".encode()
    for picture in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
        content += base64.b64decode(picture)
    return content


def test_no_file_names_the_patient(audit):
    files = audit.files()
    assert {"batch.html", "batch.parquet", "report.html", "cells.parquet", "summary.json"} <= {
        path.name for path in files
    }
    spellings = [NAME.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    for path in files:
        assert NAME not in str(path.relative_to(audit.out.parent))
        content = readable(path)
        assert not any(spelling in content for spelling in spellings), path


def test_neither_do_errors_nor_the_records_of_prefect(audit):
    assert "2 of 6 slides were skipped, the others are done" in audit.error
    assert "damaged.svs" in audit.error
    assert "s-2" in audit.error
    assert NAME not in audit.error
    assert "damaged.svs" in audit.records
    assert "prefect.task_runs" in audit.log.read_text(), "what Prefect logs of failures was not looked at"
    assert NAME not in audit.records


def test_no_picture_shows_label_or_macro_image(audit):
    inside = [
        base64.b64decode(picture)
        for path in audit.out.rglob("*.html")
        for picture in re.findall(r"image/(?:jpeg|png);base64,([A-Za-z0-9+/=]+)", path.read_text())
    ]
    beside = [path.read_bytes() for path in audit.out.glob("*/report/*.jpg")]
    decoded = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for file in inside + beside]
    labels = [
        np.moveaxis(zarr.open_array(path / "0", mode="r")[:], 0, 2) for path in audit.out.rglob("labels.ome.zarr")
    ]
    assert inside
    assert labels
    for picture in decoded + labels:
        assert np.abs(picture.astype(int) - MAGENTA).max(axis=2).min() > 60
    assert len(decoded + labels) > 8


def test_the_log_says_which_slide_run_and_model(audit, lab):
    events = [json.loads(line) for line in audit.log.read_text().splitlines()]
    model = lab.first.challenger.model
    ended = {
        event["slide_id"]: event for event in events if event.get("outcome") and event.get("stage") == "read-slide"
    }
    assert {name: event["outcome"] for name, event in ended.items()} == {
        **dict.fromkeys(("aperio", "s-1", "ome", "plain"), "done"),
        **dict.fromkeys(("damaged", "s-2"), "failed"),
    }
    assert len({event["run_id"] for event in ended.values()}) == 1
    for event in ended.values():
        assert (event["model_version"], event["model_digest"]) == (model.version, model.digest)
        assert event["seconds"] >= 0
        assert event["time"].endswith("+00:00")
