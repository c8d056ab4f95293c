"""What the command line says of itself: version, help, examples, completion, and the commands that messages name."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.main import get_command
from typer.testing import CliRunner

import sgcldff
from flows import completion
from flows.cli import app
from flows.options import Panel
from sgcldff.data.adapters import ADAPTERS

ROOT = Path(__file__).parents[2]
RUNNER = CliRunner()


def tree(command=None, above=()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield all commands and groups below the root by their names."""
    for name, found in getattr(command or get_command(app), "commands", {}).items():
        yield (*above, name), found
        yield from tree(found, (*above, name))


TREE = dict(tree())
LEAVES = {path: command for path, command in TREE.items() if not hasattr(command, "commands")}


def shown(*arguments: str) -> str:
    """Run a command that has to succeed; gives what it prints."""
    ran = RUNNER.invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_the_version_is_printed():
    assert shown("--version") == f"sgcldff {sgcldff.__version__}\n"


def test_help_names_every_command_in_a_panel():
    text = shown("--help")
    assert "─ Commands ─" not in text
    places = [text.index(f"─ {panel} ─") for panel in Panel]
    assert places == sorted(places)
    for path in TREE:
        if len(path) == 1:
            assert re.search(rf"^│ {path[0]} ", text[places[0] :], re.MULTILINE), path


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_shows_examples_that_hold_and_all_defaults(path):
    command = LEAVES[path]
    examples = re.findall(r"^- `(sgcldff .*)`$", command.epilog or "", re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])[1:]
        assert tuple(words[: len(path)]) == path
        taken, rest, _ = command.make_parser(command.make_context("", [], resilient_parsing=True)).parse_args(
            words[len(path) :]
        )
        assert not rest
        assert {option.name for option in command.params if option.required} <= set(taken)
    for option in command.params:
        hidden = option.default is None and not isinstance(getattr(option, "show_default", None), str)
        assert option.required or not hidden, f"{path}: {option.name} does not show what holds where it is left out"
        assert option.help, f"{path}: {option.name}"


def mentioned() -> Iterator[tuple[Path, str]]:
    """Yield the commands that sources and documents name, each with its file."""
    folders = [ROOT / name for name in ("flows", "tasks", "sgcldff", "infra", "benchmarks", "models")]
    suffixes = (".py", ".md", ".html", ".toml", ".yaml", ".sh", ".sbatch")
    files = [path for folder in folders for path in folder.rglob("*.*") if path.suffix in suffixes]
    for file in [*files, *ROOT.glob("*.md"), ROOT / "prefect.yaml"]:
        for line in file.read_text().splitlines():
            for found in re.findall(r"`sgcldff ([a-z][^`]*)`|^\$ sgcldff ([^#]*)", line):
                yield file, "".join(found).strip()


def test_commands_that_messages_and_documents_name_exist():
    found = list(mentioned())
    assert len(found) > 60
    for file, text in found:
        words = re.split(r"[\s.,;:]+", text)
        path = next((tuple(words[:depth]) for depth in (2, 1) if tuple(words[:depth]) in TREE), None)
        assert path, f"{file.relative_to(ROOT)} names `sgcldff {text}`"
        known = {name for option in TREE[path].params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
        options = set(re.findall(r"(?<!\S)--[a-z][\w-]+", text))
        assert options <= known, f"{file.relative_to(ROOT)} names `sgcldff {text}`: {options - known}"
        assert path in LEAVES or text == " ".join(path), f"{file.relative_to(ROOT)} names `sgcldff {text}`: a group"


def test_adapters_data_sets_networks_and_protocols_are_completed():
    assert completion.adapters("") == ["auto", *ADAPTERS]
    assert completion.adapters("jt") == ["jtsc"]
    assert set(completion.data_sets("")) == {name for name, item in ADAPTERS.items() if item.download}
    assert completion.networks("sgcldff,un") == ["sgcldff,unet"]
    assert "sgcldff,sgcldff" not in completion.networks("sgcldff,")
    assert completion.protocols("within,l") == ["within,left-out"]


class Typed:
    """What was typed before the word that is completed."""

    def __init__(self, workspace: Path) -> None:
        self.params = {"workspace": workspace}


def test_models_are_completed_from_the_registry_s_file(tmp_path, monkeypatch):
    place = tmp_path / "ws" / "mlflow"
    place.mkdir(parents=True)
    client = MlflowClient(f"sqlite:///{place}/mlflow.db", f"sqlite:///{place}/mlflow.db")
    client.create_registered_model("sgcldff")
    for _ in range(3):
        client.create_model_version("sgcldff", str(tmp_path))
    client.set_registered_model_alias("sgcldff", "champion", "2")
    client.delete_model_version("sgcldff", "1")
    typed = Typed(tmp_path / "ws")
    assert completion.registered_models(typed, "models:/") == [
        "models:/sgcldff@champion",
        "models:/sgcldff/2",
        "models:/sgcldff/3",
    ]
    assert completion.models(typed, "rel") == ["released"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert completion.registered_models(typed, "") == []


@pytest.mark.parametrize("option", ["--adapter", "--device", "--model"])
def test_the_shell_asks_for_completions(option):
    answer = {"--adapter": "bccd", "--device": "gpu", "--model": "released"}[option]
    command = {"--device": "train"}.get(option, "evaluate")
    typed = f"sgcldff {command} {option} "
    ran = RUNNER.invoke(
        app, env={"_SGCLDFF_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}, prog_name="sgcldff"
    )
    assert answer in ran.output


def test_data_list_names_every_adapter_with_licence_and_address():
    text = " ".join(shown("data", "list").split())
    rows = {row["name"]: row for row in json.loads(shown("data", "list", "--json"))}
    assert set(rows) == set(ADAPTERS)
    for adapter in ADAPTERS.values():
        assert adapter.name in text
        assert adapter.url in text
        row = rows[adapter.name]
        assert (row["licence"], row["mpp"], row["url"]) == (adapter.licence, adapter.mpp, adapter.url)


def test_settings_are_printed_as_json_too(tmp_path):
    from flows.settings import Settings

    path = tmp_path / "s.toml"
    path.write_text("[train]\nepochs = 7\n")
    printed = json.loads(shown("settings", "--json", "--settings", str(path)))
    assert printed["train"]["epochs"] == 7
    assert printed["train"]["version"] == Settings().train.version
    assert set(printed) == {"ingest", "prior", "net", "train", "evaluate", "promote", "infer", "report", "retrain"}


def test_an_empty_registry_says_that_the_released_model_is_used(tmp_path):
    from sgcldff.models.released import RELEASED_NAME

    text = shown("registry", "show", "-w", str(tmp_path))
    assert text.startswith(f"No model is registered yet: slides are read with the released model ({RELEASED_NAME} ")
    assert json.loads(shown("registry", "show", "--json", "-w", str(tmp_path))) == {"test_set": None, "versions": []}
    assert list(tmp_path.iterdir()) == []
