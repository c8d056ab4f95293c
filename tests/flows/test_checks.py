"""What is wrong with a command's inputs is told before anything is started, and before anything heavy is loaded."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from mlflow import MlflowClient

from flows.checks import require_all, require_slides, require_sources
from sgcldff.core.errors import InputError, NothingFoundError
from sgcldff.data.adapters import Source
from sgcldff.data.synthetic import write_dataset
from tests.terminal import outside

HEAVY = (
    "dask", "distributed", "lightning", "matplotlib", "mlflow", "pandas", "prefect", "pyarrow.dataset", "scipy.stats",
    "skimage", "sklearn", "sqlalchemy", "torch", "zarr",
)  # fmt: skip
"""What takes seconds to load, or is loaded only to start something."""
SCRIPT = """
import contextlib, io, json, sys
from flows.cli import main

for words in json.load(sys.stdin):
    sys.argv = ["sgcldff", *words]
    told, code = io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            main()
    except SystemExit as ended:
        code = ended.code
    print(json.dumps([code or 0, told.getvalue(), [name for name in {heavy} if name in sys.modules]]))
"""
"""Runs commands one after the other in a process; says of each how it ended and what is loaded by then."""


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    told: str
    loaded: list[str]


def ended(folder: Path, *commands: Sequence[object], **environment: str) -> list[Ended]:
    """Run commands in a folder, in a new process."""
    asked = json.dumps([[str(word) for word in words] for words in commands])
    room = outside(PYTHONPATH=str(Path(__file__).parents[2]), **environment)
    call = [sys.executable, "-c", SCRIPT.format(heavy=HEAVY)]
    done = subprocess.run(call, input=asked, cwd=folder, env=room, capture_output=True, text=True, check=True)
    return [Ended(*json.loads(line)) for line in done.stdout.splitlines()]


def command(folder: Path, *words: object, **environment: str) -> Ended:
    """Run a command in a folder, in a new process."""
    (only,) = ended(folder, words, **environment)
    return only


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Make a folder with inputs, some of which are wrong."""
    folder = tmp_path_factory.mktemp("place")
    write_dataset(folder / "smears", 1, 0)
    files: Mapping[str, str] = {
        "slide.tiff": "",
        "head.csv": "file\nslide.tiff\n",
        "row.csv": "slide,mpp\nslide.tiff,quarter\n",
        "bad/manifest.csv": "picture,label\na.png,neutrophil\n",
        "counts.csv": "slide_id,label,count\nslide,neutrophil,many\n",
        "martians.csv": "slide_id,label,count\nslide,martian,3\n",
        "key.toml": "[train]\nepoch = 3\n",
        "value.toml": "[train]\nepochs = 0\n",
        "broken.toml": "[train",
        "once.csv": "slide_id,reader,label,count\nslide,x,monocyte,3\n",
        "intervals.toml": '[[interval]]\ntype = "monocyte"\nunit = "%"\nlow = 9\nhigh = 2\n',
        "prior.toml": "[prior]\nnames = ['ramf', 'ramff']\n",
        "net.toml": "[net]\nname = 'unnet'\n",
        "cluster.toml": 'kind = "slum"\n',
        "answers.csv": "cell_id\n",
        "results/slide/differential.json": "{}",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


INFER, SMEARS = ("infer", "slide.tiff", "-o", "out"), ("-d", "smears")
VALIDATE = ("validate", "--counts", "once.csv", "-o", "out")
WRONG = {
    "slide": (("infer", "nowhere.svs", "-o", "out"), "nowhere.svs: does not exist"),
    "pattern": (("infer", "*.svs", "-o", "out"), r"*.svs: no slide matches"),
    "folder of slides": (("infer", "bad", "-o", "out"), "bad: no slide was found among 1 files"),
    "header of slides": (("infer", "head.csv", "-o", "out"), "head.csv: lacks the column slide"),
    "row of slides": (("infer", "row.csv", "-o", "out"), "row.csv, row 1: mpp is 'quarter'; give a number"),
    "output": (("infer", "slide.tiff", "-o", "head.csv/out"), "head.csv is a file"),
    "workspace": ((*INFER, "-w", "head.csv"), "head.csv is a file"),
    "reference": ((*INFER, "--model", "models:/x@y@z"), "'models:/x@y@z' is no model"),
    "registered model": ((*INFER, "--model", "models:/sgcldff@best"), "registered models are none yet"),
    "folder of a model": ((*INFER, "--model", "smears"), "smears: contains no spec.json"),
    "no folder of a model": ((*INFER, "--model", "nothing"), "nothing: no such folder"),
    "goal": ((*INFER, "--until", "blast"), "write monocyte:0.05"),
    "type of a goal": ((*INFER, "--until", "martian:0.02"), "martian: unknown"),
    "manual count": ((*INFER, "--manual", "counts.csv"), "counts.csv, row 1 (slide 'slide'): neutrophil is 'many'"),
    "type of a manual count": ((*INFER, "--manual", "martians.csv"), "'martian' is in no class"),
    "white count": ((*INFER, "--wbc", "7200"), "--wbc is 7200.0: give 10^9/L, from 0.01 to 1000 (7200 per µL are 7.2)"),
    "no white count": ((*INFER, "--wbc", "nan"), "--wbc is nan: give 10^9/L"),
    "intervals": ((*INFER, "--reference", "intervals.toml"), "intervals.toml, interval 1: low 9 is not below high 2"),
    "no intervals": ((*INFER, "--reference", "gone.toml"), "gone.toml: no such file"),
    "no settings": ((*INFER, "--settings", "none.toml"), "none.toml: no such settings file"),
    "folder as settings": ((*INFER, "--settings", "smears"), "smears: cannot be read"),
    "settings": ((*INFER, "--settings", "broken.toml"), "broken.toml: not TOML"),
    "key": (("prepare", *SMEARS, "--settings", "key.toml"), "key.toml: unknown train.epoch"),
    "value": (("retrain", *SMEARS, "--settings", "value.toml"), "value.toml: train.epochs is 0"),
    "data": (("prepare", "-d", "nowhere"), "nowhere: no such folder"),
    "header of data": (("evaluate", "-d", "bad"), "manifest.csv: lacks column image"),
    "adapter": (("evaluate", *SMEARS, "--adapter", "nonsense"), "adapter 'nonsense' is unknown"),
    "report": (("evaluate", *SMEARS, "--json", "smears"), "smears: is a folder; name a file"),
    "model to evaluate": (("evaluate", *SMEARS, "--model", "nothing"), "nothing: no such folder"),
    "prior": (("prepare", *SMEARS, "--settings", "prior.toml"), "prior 'ramff' is unknown: name one of"),
    "catalog": (("train",), "run `sgcldff prepare --data FOLDER` first"),
    "catalog of the gate": (("gate",), "run `sgcldff prepare --data FOLDER` first"),
    "catalog to freeze": (("registry", "freeze"), "run `sgcldff prepare --data FOLDER` first"),
    "device": (("train", "--device", "quantum"), "'quantum' is not one of"),
    "precision": (("train", "--precision", "float"), "TrainSpec.precision is 'float': must be one of auto, 32-true"),
    "network": (("benchmark", *SMEARS, "-o", "out", "--networks", "unnet"), "candidate unnet is unknown"),
    "protocol": (("benchmark", *SMEARS, "-o", "out", "--protocols", "without"), "protocol without is unknown"),
    "budget": (("benchmark", *SMEARS, "-o", "out", "--budget", "much"), "budget 'much'"),
    "challenger": (("promote",), "registered models are none yet"),
    "former champion": (("rollback",), "no model is registered at sqlite:"),
    "version to show": (("registry", "show", "models:/sgcldff/7"), "registered models are none yet"),
    "version to approve": (("registry", "approve", "released"), "'released' is no model"),
    "version to reject": (("registry", "reject", "models:/sgcldff/1", "--because", "x"), "none yet"),
    "model to adopt": (("registry", "adopt", "nothing"), "nothing: no such folder"),
    "model to export": (("registry", "export", "models:/sgcldff/1", "-o", "out"), "none yet"),
    "results": (("review", "make", "nowhere", "-s", "slide.tiff", "-o", "queue"), "nowhere: no such folder of results"),
    "slides to review": (("review", "make", "results", "-s", "gone.svs", "-o", "queue"), "gone.svs: does not exist"),
    "queue": (("review", "read", "answers.csv", "-q", "queue", "-o", "store"), "queue.parquet: no such queue"),
    "answers": (("review", "read", "gone.csv", "-q", "queue", "-o", "store"), "gone.csv: no such file or folder"),
    "reviews": (("review", "apply", "results", "-o", "store"), "reviews: no such store of reviews"),
    "counts of a study": ((*VALIDATE, "results"), "slide 'slide': counted by 1 (x): give"),
    "results of a study": ((*VALIDATE, "gone"), "gone: no such folder of results"),
    "data set": (("data", "fetch", "nonsense"), "adapter 'nonsense' is unknown"),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(place) -> dict[str, Ended]:
    """Run all commands of `WRONG`; none of them may leave anything behind."""
    before = sorted(place.rglob("*"))
    found = dict(zip(WRONG, ended(place, *(words for words, _ in WRONG.values())), strict=True))
    assert sorted(place.rglob("*")) == before, "something was started"
    return found


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_before_anything_is_loaded_or_started(refusals, what):
    ran, (_, told) = refusals[what], WRONG[what]
    assert (ran.code, ran.loaded) == (2, [])
    assert told in " ".join(ran.told.replace("│", " ").split())


def test_a_cluster_file_is_read_before_a_cluster_is_started(place):
    ran = command(place, *INFER, "--cluster", "cluster.toml")
    assert ran.code == 2
    assert "cluster.toml: kind is 'slum'" in ran.told
    assert not {"prefect", "mlflow", "torch"} & set(ran.loaded)


def test_a_network_that_is_not_there_is_told_before_anything_is_started(place):
    ran = command(place, "retrain", *SMEARS, "--settings", "net.toml")
    assert ran.code == 2
    assert "network 'unnet' is unknown: name one of" in ran.told
    assert not {"prefect", "mlflow", "distributed"} & set(ran.loaded)


def test_what_needs_no_computing_loads_no_library_for_it(place):
    shown = ended(place, ("--version",), ("--help",), ("infer", "--help"), ("settings",))
    assert [(ran.code, ran.loaded) for ran in shown] == [(0, [])] * 4


def test_all_that_is_wrong_is_told_at_once(place):
    ran = command(place, "infer", "nowhere.svs", "-o", "out", "--model", "nothing", "--settings", "key.toml")
    assert ran.code == 2
    assert ran.told.startswith("sgcldff: 3 inputs are wrong:\n- ")
    assert all(told in ran.told for told in ("nowhere.svs", "nothing: no such folder", "unknown train.epoch"))


def test_a_registry_that_is_a_file_is_looked_into_without_mlflow(place, tmp_path):
    database = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(database, database)
    client.create_registered_model("sgcldff")
    client.create_model_version("sgcldff", str(tmp_path))
    client.set_registered_model_alias("sgcldff", "challenger", "1")
    missing = {"@best": "no such alias", "/2": "no such version"}
    asked = [(*INFER, "--model", f"models:/sgcldff{reference}") for reference in missing]
    for ran, told in zip(ended(place, *asked, MLFLOW_TRACKING_URI=database), missing.values(), strict=True):
        assert (ran.code, ran.loaded) == (2, [])
        assert f"{told} at {database}: aliases challenger (version 1), versions 1; name one of these" in ran.told


@pytest.mark.parametrize("where", ["before", "after", "environment"])
def test_a_log_is_written_wherever_its_option_stands(place, tmp_path, where):
    log, called = tmp_path / "log.jsonl", ("data", "synthesize", "--crops", "1", "--fields", "0", "-o", tmp_path / "d")
    option = ("--log-json", log)
    given = {"before": (*option, *called), "after": (*called, *option), "environment": called}[where]
    assert command(place, *given, **({"SGCLDFF_LOG": str(log)} if where == "environment" else {})).code == 0
    assert log.exists()


def test_the_log_that_a_command_names_goes_before_the_one_named_earlier(place, tmp_path):
    first, last = tmp_path / "first", tmp_path / "last"
    ran = command(place, "--log-json", first, "registry", "show", "--log-json", last, "-v")
    assert ran.code == 0
    assert (first.exists(), last.exists()) == (False, True)


def test_checks_let_pass_what_is_right(place):
    require_all()
    require_slides([str(place / "slide.tiff"), "s3://bucket/prefix"])
    require_sources([str(place / "smears"), "s3://bucket/prefix"], "auto", None)
    with pytest.raises(NothingFoundError):
        require_slides([str(place / "bad")])
    require_slides([str(place / "bad"), "s3://bucket/prefix"])


def test_one_error_is_told_as_it_is_and_several_as_a_list():
    def fail(text):
        raise InputError(text)

    with pytest.raises(InputError, match=r"^one$"):
        require_all(lambda: fail("one"), lambda: None)
    with pytest.raises(InputError, match=r"^2 inputs are wrong:\n- one\n- two$"):
        require_all(lambda: fail("one"), lambda: fail("two"))


def test_a_scale_that_is_given_holds_for_data_sets_that_are_found(tmp_path):
    (tmp_path / "manifest.csv").write_text("image,label\na.png,neutrophil\n")
    (found,) = Source("auto", str(tmp_path), 0.25).resolved()
    assert [sample.mpp for sample in found.scan()] == [0.25]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_report_that_cannot_be_written_is_told_at_once(place, tmp_path):
    tmp_path.chmod(0o500)
    ran = command(place, "evaluate", *SMEARS, "--json", tmp_path / "report.json")
    assert (ran.code, ran.loaded) == (2, [])
    assert "cannot write" in ran.told
