"""What a person sees: exit codes, and one clear line for each kind of bad input."""

import json
import os
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
import tifffile

from sgcldff.data.catalog import Catalog
from sgcldff.data.synthetic import write_dataset
from sgcldff.slides.images import read_rgb
from tests.servers import prefect_home
from tests.terminal import COMMAND, QUICK, Ran, outside


def spoiled(folder: Path) -> Path:
    """Make 8 crops: one truncated, one of an unknown type, one with the mask of another, one of which is missing."""
    data = write_dataset(folder, 8, 1, seed=6)
    first = data / "images" / "crop-00000.png"
    first.write_bytes(first.read_bytes()[:500])
    masks = sorted((data / "masks").iterdir())
    field = next(path for path in masks if "field" in path.name)
    next(path for path in masks if "00001" in path.name).write_bytes(field.read_bytes())
    (data / "images" / "crop-00002.png").unlink()
    table = data / "manifest.csv"
    head, *rows = table.read_text().splitlines()
    label = head.split(",").index("label")
    cells = [row.split(",") for row in rows]
    cells[3][label] = "martian"
    table.write_text("\n".join([head, *(",".join(row) for row in cells)]))
    return data


def test_bad_images_are_set_aside_and_the_rest_goes_on(server, run, tmp_path):
    data = spoiled(tmp_path / "data")
    ran = run("prepare", "-d", data, "-w", tmp_path / "ws")
    assert ran.code == 3
    assert "4 inputs were skipped, the rest is done" in ran.line
    assert "5 images." in ran.out
    aside = {
        Path(row["image"]).stem: row["reason"]
        for row in Catalog.open(tmp_path / "ws" / "catalog").quarantine.to_pylist()
    }
    assert "not a readable image" in aside["crop-00000"]
    assert "crop or export both at one size" in aside["crop-00001"]
    assert "no such file" in aside["crop-00002"]
    assert "'martian' is in no class" in aside["crop-00003"]


def test_a_truncated_jpeg_alone_is_no_data_set(server, run, tmp_path):
    from PIL import Image

    data = write_dataset(tmp_path / "data", 1, 0)
    image = tmp_path / "neutrophil" / "a.jpg"
    image.parent.mkdir()
    Image.fromarray(read_rgb(data / "images" / "crop-00000.png")).save(image)
    image.write_bytes(image.read_bytes()[:-400])
    ran = run("prepare", "-d", tmp_path, "--adapter", "folder", "--mpp", "0.2", "-w", tmp_path / "ws")
    assert ran.code == 2
    assert "a.jpg" in ran.line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "is empty"),
        (("--adapter", "folder", "--mpp", "0.2"), "expected folders"),
        (("--adapter", "table"), "expected manifest.csv"),
        (("--adapter", "nonsense"), "adapter 'nonsense' is unknown"),
    ],
)
def test_an_empty_folder_says_what_is_missing(run, tmp_path, arguments, told):
    (tmp_path / "data").mkdir()
    ran = run("prepare", "-d", tmp_path / "data", "-w", tmp_path / "ws", *arguments)
    assert ran.code == 2
    assert told in ran.line


def test_a_folder_that_is_not_there(run, tmp_path):
    ran = run("prepare", "-d", tmp_path / "nowhere", "-w", tmp_path / "ws")
    assert ran.code == 2
    assert "nowhere: no such folder" in ran.line


def test_a_table_without_its_columns(run, tmp_path):
    (tmp_path / "manifest.csv").write_text("picture,label\na.png,neutrophil\n")
    ran = run("prepare", "-d", tmp_path, "-w", tmp_path / "ws")
    assert ran.code == 2
    assert "manifest.csv" in ran.line
    assert "image" in ran.line


def test_a_folder_of_unknown_scale_asks_for_mpp(run, tmp_path):
    data = write_dataset(tmp_path / "data", 2, 0)
    (tmp_path / "set" / "neutrophil").mkdir(parents=True)
    (data / "images" / "crop-00000.png").rename(tmp_path / "set" / "neutrophil" / "a.png")
    ran = run("prepare", "-d", tmp_path / "set", "--adapter", "folder", "-w", tmp_path / "ws")
    assert ran.code == 2
    assert "give mpp" in ran.line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[train]\nepoch = 3\n", "unknown train.epoch"),
        ("[train]\nepochs = 0\n", "train.epochs is 0"),
        ("[train]\nepochs = 'many'\n", "train.epochs"),
        ("epochs 3", "not TOML"),
        (None, "no such settings file"),
    ],
)
def test_settings_that_are_not_understood(run, tmp_path, content, told):
    path, data = tmp_path / "settings.toml", write_dataset(tmp_path / "data", 1, 0)
    if content is not None:
        path.write_text(content)
    ran = run("prepare", "-d", data, "-w", tmp_path / "ws", "--settings", path)
    assert ran.code == 2
    assert told in ran.line
    assert "settings.toml" in ran.line


def test_a_command_that_is_misspelled_ends_like_bad_input(run):
    assert run("prepair").code == 2


def test_labels_of_another_label_space(lab, run, settings, tmp_path):
    (tmp_path / "set" / "blast").mkdir(parents=True)
    data = write_dataset(tmp_path / "data", 3, 0, seed=12)
    for image in (data / "images").iterdir():
        image.rename(tmp_path / "set" / "blast" / image.name)
    given = ("--adapter", "folder", "--mpp", "0.2", "-w", lab.workspace, "--settings", settings)
    asked = ("evaluate", "-d", tmp_path / "set", "--model", "models:/sgcldff@champion", *given)
    ran = run(*asked)
    assert ran.code == 2
    assert "blast" in ran.line
    known = tmp_path / "set" / "neutrophil"
    known.mkdir()
    max((tmp_path / "set" / "blast").iterdir()).rename(known / "cell.png")
    ran = run(*asked)
    assert ran.code == 3
    assert ran.line.startswith("sgcldff: 2 images were skipped, first ")
    assert "labelled blast, which the model does not predict" in ran.line
    assert "## Skipped: 2" in ran.out


def test_a_slide_without_a_scale_asks_for_it(lab, run, tmp_path, slide):
    bare = tmp_path / "bare.tiff"
    tifffile.imwrite(bare, tifffile.imread(slide.slide)[:600, :600], photometric="rgb", tile=(256, 256))
    given = ("-o", tmp_path / "out", "-w", lab.workspace, "--workers", "0")
    ran = run("infer", bare, *given)
    assert ran.code == 2
    assert "bare.tiff" in ran.line
    assert "--mpp" in ran.line
    assert run("infer", bare, *given, "--mpp", "0.1").code == 0


def test_a_slide_that_cannot_be_opened_does_not_stop_the_batch(lab, slide, run, tmp_path):
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"II*\0 no slide")
    ran = run("infer", bad, slide.slide, "-o", tmp_path / "out", "-w", lab.workspace, "--workers", "0")
    assert ran.code == 3
    assert "1 of 2 slides was skipped, the other is done" in ran.line
    assert (tmp_path / "out" / "small" / "report.html").is_file()


def test_evaluate_writes_its_report_where_it_is_told(lab, run, settings, tmp_path):
    data, report = write_dataset(tmp_path / "data", 6, 1, seed=21), tmp_path / "reports" / "unseen.json"
    model = ("--model", "models:/sgcldff@champion", "--json", report)
    ran = run("evaluate", "-d", data, *model, "-w", lab.workspace, "--settings", settings)
    assert ran.code == 0
    assert json.loads(report.read_text())["model"] == lab.first.challenger.model.digest
    assert str(report) in ran.out.splitlines()[-1]


def test_the_gate_is_calibrated_on_the_catalog(lab, run, tmp_path):
    ran = run("gate", "-w", lab.workspace, "--json", tmp_path / "gate.json")
    assert ran.code == 0
    told = json.loads((tmp_path / "gate.json").read_text())
    found = tomllib.loads(ran.out[ran.out.index("[infer.gate]") :])["infer"]["gate"]
    assert found["threshold"] == told["spec"]["threshold"] > 0
    assert found["kept"] == told["held_out"]["kept"] <= found["calibrated_on"]
    assert told["low"] <= told["recall"] <= told["high"]


def test_without_a_reason_to_retrain_there_is_nothing_to_do(lab, run, settings):
    ran = run("retrain", "-d", lab.sources[0].folder, "-w", lab.workspace, "--settings", settings, "--device", "cpu")
    assert ran.code == 0
    assert "- 0 new images with 0 labelled cells (limit 200)" in ran.out
    assert "Nothing to do: " in ran.out.splitlines()[-1]
    assert "decision.json" in ran.out.splitlines()[-1]


def test_a_refusal_has_its_own_exit_code(contest, run, tmp_path):
    strict = tmp_path / "strict.toml"
    strict.write_text(QUICK + "[promote]\nmargin = -0.9\nrobustness = ['noise']\ntiming_rounds = 1\n")
    workspace = shutil.copytree(contest.lab.workspace, tmp_path / "workspace")
    ran = run("promote", "-w", workspace, "--settings", strict)
    assert ran.code == 6
    assert "stays challenger" in ran.line


def test_a_prefect_server_that_is_down(run, tmp_path, monkeypatch, unused_port):
    monkeypatch.setenv("PREFECT_API_URL", f"http://user:secret@127.0.0.1:{unused_port()}/api")
    ran = run("prepare", "-d", write_dataset(tmp_path / "data", 1, 0), "-w", tmp_path / "ws")
    assert ran.code == 5
    assert "unset it to run without a server" in ran.line
    assert "secret" not in ran.err


def test_drawn_smears_are_a_data_set_and_the_same_again(server, run, tmp_path):
    def drawn(name):
        folder = tmp_path / name
        assert run("data", "synthesize", "--out", folder, "--crops", 5, "--fields", 1, "--seed", 4).code == 0
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}

    once = drawn("once")
    assert once == drawn("again")
    assert len(once) == 2 * 6 + 1
    assert run("prepare", "-d", tmp_path / "once", "-w", tmp_path / "ws").code == 0
    nothing = run("data", "synthesize", "--out", tmp_path / "none", "--crops", 0, "--fields", 0)
    assert "need at least 1" in nothing.line


def test_an_mlflow_server_that_is_down_is_told_in_one_line_and_nothing_else(server, unused_port, tmp_path):
    mlflow = f"http://127.0.0.1:{unused_port()}"
    command, known = (
        [COMMAND, "rollback", "-w", tmp_path],
        outside(MLFLOW_TRACKING_URI=mlflow, PREFECT_API_URL=server, MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="0"),
    )
    done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=240)
    ran = Ran(done.returncode, done.stdout, done.stderr)
    assert ran.code == 5
    assert ran.line.startswith(f"sgcldff: MLflow at {mlflow} does not answer")
    assert ran.err.splitlines() == [ran.line]
    assert ran.out == ""


def test_ctrl_c_ends_in_one_line_and_leaves_nothing_running(settings, tmp_path):
    """Ctrl-C reaches all processes of a terminal's job, Prefect's temporary server too."""
    smears = write_dataset(tmp_path / "data", 12, 0, seed=1)
    settings.write_text(QUICK.replace("epochs = 1", "epochs = 500"))
    prefect_home(tmp_path / "ws" / "prefect")
    command = [COMMAND, "retrain", "-d", smears, "-w", tmp_path / "ws", "--settings", settings, "--device", "cpu"]
    running = subprocess.Popen(
        command, env=outside(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(1200):
        if list((tmp_path / "ws" / "training").glob("*/*.ckpt")) or running.poll() is not None:
            break
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    ran = Ran(0, *running.communicate(timeout=120))
    assert running.returncode == 130
    assert ran.line == "sgcldff: stopped; run the same command again to resume"
    for _ in range(200):
        if not alive(running.pid):
            break
        time.sleep(0.1)
    assert not alive(running.pid)


def alive(group: int) -> bool:
    """Tell whether a process group has members."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
