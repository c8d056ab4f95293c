"""The documentation is true: what it shows exists, its code runs, its links lead somewhere, and the site builds."""

import re
import shlex
import subprocess
import sys
import tomllib
import unittest
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from typer.main import get_command
from typer.testing import CliRunner

from tests.reviews import write_reviews

ROOT = Path(__file__).parent.parent
README, INFRA = ROOT / "README.md", ROOT / "infra" / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
DOCUMENTS = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", INFRA)
ENVIRONMENT, IMAGES, RESULTS = (
    ROOT / "docs" / name for name in ("reference/environment.md", "guide/images.md", "results.md")
)
FOREIGN = {"--backend-store-uri", "--file", "--gres", "--nthreads", "--profile"}
"""Options of other programs that stand in a sentence."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=named)
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=named)


def blocks(page: Path, language: str) -> list[str]:
    """Give the fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """Give what stands between backticks in the sentences and tables of a page."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


@cache
def root() -> object:
    from flows.cli import app

    return get_command(app)


@cache
def tree() -> dict[str, object]:
    """Give all commands by their names, those of groups with their group; groups too."""
    found = dict(root().commands)
    return found | {f"{name} {own}": one for name, group in found.items() for own, one in members(group).items()}


def members(group: object) -> dict[str, object]:
    return getattr(group, "commands", {})


def leaves() -> set[str]:
    return {name for name, command in tree().items() if not members(command)}


def options_of(command: object) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}


def all_options() -> set[str]:
    return set().union(options_of(root()), *map(options_of, tree().values()))


def command_of(words: list[str]) -> tuple[object, list[str]]:
    """Find the command that a line names, the root where it names none, and its arguments."""
    if words[0].startswith("--"):
        return root(), words
    name = " ".join(words[:2]) if members(tree().get(words[0], object())) else words[0]
    assert name in tree(), f"sgcldff {' '.join(words)}: no such command"
    return tree()[name], words[len(name.split()) :]


def lines_of(page: Path) -> Iterator[str]:
    """Yield the command lines that a page shows, continued lines joined."""
    for block in blocks(page, "console"):
        yield from re.findall(r"^\$ (.*)$", block.replace("\\\n", " "), re.MULTILINE)


def programs(line: str) -> Iterator[list[str]]:
    """Cut a command line into the programs that it runs, without what is assigned or redirected."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    program: list[str] = []
    for word in [*words, ";"]:
        if re.fullmatch(r"[();<>|&]+", word):
            yield program
            program = []
        elif program or not re.match(r"[A-Z_]+=", word):
            program.append(word)


@every_page
def test_command_lines_can_be_typed(page):
    for program in (program for line in lines_of(page) for program in programs(line) if program):
        if program[:2] == ["docker", "compose"] and "sgcldff" in program:
            program = program[program.index("sgcldff") :]
        if program[0] == "make":
            targets = {word for word in program[1:] if "=" not in word}
            known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            assert targets <= known
        if program[0] == "sgcldff":
            require_parsed(program[1:])
        for word in program:
            if word.startswith("infra/") and word != "infra/.env":
                assert (ROOT / word).exists(), word


def require_parsed(words: list[str]) -> None:
    """See that a command takes these options, needs no others, and takes as many arguments."""
    command, arguments = command_of(words)
    context = command.context_class(command, info_name=command.name)
    values, left, _ = command.make_parser(context).parse_args(args=list(arguments))
    assert not left, f"{words}: nothing takes {left}"
    missing = [option.name for option in command.params if option.required and not values.get(option.name)]
    assert not missing, f"{words}: lacks {missing}"


@every_page
def test_commands_and_options_in_sentences_exist(page):
    for span in spans(page):
        words = span.split()
        if words[0] == "sgcldff" and len(words) > 1 and not re.match(r"[A-Z-]", words[1]):
            command, rest = command_of(words[1:])
            used = {word for word in rest if word.startswith("--")}
            assert used <= options_of(command), span
        elif words[0].startswith("--"):
            assert words[0].partition("=")[0] in all_options() | FOREIGN, span


def test_the_pages_name_every_command():
    text = "\n".join(page.read_text() for page in PAGES)
    for name in leaves():
        assert re.search(rf"sgcldff {name}\b", text), f"no page says anything of {name}"


def test_the_readme_is_short_and_shows_the_two_commands_and_a_small_picture():
    text = README.read_text()
    assert len(README.read_bytes()) <= 7000
    assert {"$ make demo", "$ make test"} <= set(text.splitlines())
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert (ROOT / picture).stat().st_size <= 200_000


@every_page
def test_settings_are_understood(page, tmp_path):
    from flows.settings import Settings, read_settings
    from sgcldff.cluster.config import cluster_of
    from sgcldff.counting.reference_intervals import read_reference

    path = tmp_path / "lab.toml"
    for block in blocks(page, "toml"):
        path.write_text(block)
        if "kind" in tomllib.loads(block):
            cluster_of(str(path))
        elif "interval" in tomllib.loads(block):
            read_reference(path)
        else:
            assert read_settings(path) != Settings()


@every_page
def test_settings_in_sentences_exist(page, tmp_path):
    from flows.settings import read_settings

    tables = settings_keys()
    for span in spans(page):
        if found := re.fullmatch(r"\[([\w.]+)\]( \w+)?( = .+)?", span):
            assert found[1] in tables, span
            assert not found[2] or found[2].strip() in tables[found[1]], span
            if found[3]:
                (tmp_path / "one.toml").write_text(f"[{found[1]}]\n{found[2]}{found[3]}\n")
                read_settings(tmp_path / "one.toml")
        elif found := re.fullmatch(r"([a-z]\w+) = .+", span):
            assert any(found[1] in keys for keys in tables.values()) or found[1] == "kind", span


@cache
def settings_keys() -> dict[str, set[str]]:
    """Give the keys of every table of the settings, commented ones too."""
    from flows.cli import app

    tables: dict[str, set[str]] = {}
    for line in CliRunner().invoke(app, ["settings"]).output.splitlines():
        if head := re.fullmatch(r"\[([\w.]+)\]", line):
            keys = tables.setdefault(head[1], set())
        elif key := re.match(r"(?:# )?(\w+) =", line):
            keys.add(key[1])
    return tables


def test_every_exit_code_is_listed():
    from sgcldff.core import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SgcldffError)]
    listed = {int(code) for code in re.findall(r"^\| (\d) \|", ENVIRONMENT.read_text(), re.MULTILINE)}
    assert listed == {0} | {kind.exit_code for kind in kinds}


def test_every_environment_variable_is_listed():
    sources = [path for folder in ("sgcldff", "tasks", "flows") for path in (ROOT / folder).rglob("*.py")]
    used = set(
        re.findall(r"\bSGCLDFF_[A-Z_]+", "\n".join(path.read_text() for path in (*sources, ROOT / "prefect.yaml")))
    )
    listed = set(re.findall(r"\bSGCLDFF_[A-Z_]+", ENVIRONMENT.read_text()))
    assert listed == used | {"SGCLDFF_DATA"}


def test_every_data_set_is_listed_with_its_scale():
    from sgcldff.data.adapters import ADAPTERS

    rows = re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \| [^|]+ \|$", IMAGES.read_text(), re.MULTILINE)
    scales = {name: "in the store" if item.own_scale else str(item.mpp or "`--mpp`") for name, item in ADAPTERS.items()}
    assert dict(rows) == scales


def test_every_column_of_the_results_is_listed():
    from sgcldff.core.records import cell_schema
    from sgcldff.results.batch.table import batch_schema

    parts = re.split(r"^## ", RESULTS.read_text(), flags=re.MULTILINE)
    listed = {part.partition("\n")[0]: set(re.findall(r"`(\w+)`", "\n".join(rows(part)))) for part in parts}
    assert listed["`cells.parquet`"] == set(cell_schema(["CLASS"], 2).names)
    assert listed["`batch.parquet`"] == set(batch_schema(["CLASS"], ["CLASS"], ["CLASS"]).names)


def rows(text: str) -> list[str]:
    """Give the first column of the tables of a text."""
    return re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)


def test_queries_name_columns_of_the_cells():
    from sgcldff.core.records import cell_schema

    (query,) = blocks(RESULTS, "sql")
    words = set(re.findall(r"\b[a-z]\w*\b", re.sub(r"'[^']*'", "", query))) - {"count", "avg"}
    assert words
    assert words <= set(cell_schema([]).names)


@every_document
def test_links_lead_somewhere(document):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]+)?\)", document.read_text()):
        place = document.parent / target if target else document
        assert place.exists(), f"{document.name} links to {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)
            known = {slugify(head.replace("`", ""), "-") for head in heads} | generated_anchors(place)
            assert anchor[1:] in known, f"{document.name} links to {target}{anchor}"


def generated_anchors(page: Path) -> set[str]:
    """Give the anchors that only the built page has."""
    return {table.replace(".", "-") for table in settings_keys()} if page.name == "settings.md" else set()


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """Make the folder in which the examples run: a slide, its results, a catalog, reviews, the released model."""
    from flows.cli import app
    from sgcldff.data.catalog import Catalog
    from sgcldff.data.synthetic import write_slide

    folder = tmp_path_factory.mktemp("laboratory")
    write_slide(folder / "slide.tiff", (1024, 1024), cells=6, seed=5)
    (folder / "models").symlink_to(ROOT / "models")
    (folder / "torch.toml").write_text('[infer]\nengine = "torch"\n')
    workspace = f"--workspace={folder}/sgcldff-workspace"
    for command in (
        [
            "infer",
            f"{folder}/slide.tiff",
            f"--out={folder}/results",
            f"--settings={folder}/torch.toml",
            "--workers=0",
            workspace,
        ],
        ["data", "synthesize", f"--out={folder}/drawn", "--crops=14", "--fields=0"],
        ["prepare", f"--data={folder}/drawn", workspace],
    ):
        ran = CliRunner().invoke(app, command)
        assert ran.exit_code == 0, ran.output
    cells = Catalog.open(folder / "sgcldff-workspace" / "catalog").samples
    write_reviews(folder / "reviews", [cell for cell in cells if cell.label])
    return folder


PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", PYTHON, ids=named)
def test_examples_in_python_run(page, laboratory, monkeypatch):
    monkeypatch.chdir(laboratory)
    for example in Sybil([PythonCodeBlockParser(), SkipParser()]).parse(page).examples():
        with suppress(unittest.SkipTest):
            example.evaluate()


class Site(HTMLParser):
    """What a page of the site loads, and the text on it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "link", "img", "iframe"):
            self.loaded |= {value for name, value in attrs if name in ("src", "href") and value}

    def handle_data(self, data):
        self.text += data


def test_the_site_builds_without_warnings_and_holds_what_the_code_knows(tmp_path):
    import sgcldff

    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    ran = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    pages = {path.relative_to(tmp_path).as_posix(): Site(path) for path in tmp_path.rglob("*.html")}
    assert not {url for page in pages.values() for url in page.loaded if "//" in url}
    commands, settings, python = (pages[f"reference/{name}.html"].text for name in ("commands", "settings", "python"))
    for name in leaves():
        assert f"sgcldff {name}" in commands
        assert all(option in commands for option in options_of(tree()[name]) - {"--help"})
    for table, keys in settings_keys().items():
        assert f"[{table}]" in settings
        assert all(key in settings for key in keys)
    assert all(f"sgcldff.{name}" in python for name in getattr(sgcldff, "__all__", ()) if not name.startswith("_"))
    assert not any("generated:" in page.text for page in pages.values())
