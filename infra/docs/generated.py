"""MkDocs hooks that fill in what the code knows: commands, settings and the Python interface.

A page says with a comment, `<!-- generated: commands -->`, what takes its place. Links out of `docs/` work where the
repository is browsed; on the site, which holds only `docs/`, they become paths.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

import sgcldff
from flows.cli import LOGGING, app

ROOT = Path(__file__).parents[2]
MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the generated parts of a page, and turn links out of `docs/` into paths."""
    folder = Path(page.file.abs_src_path).parent
    filled = MARKER.sub(lambda found: PARTS[found[1]](), markdown)
    return LINK.sub(lambda found: inside(found, folder), filled)


def inside(link: re.Match[str], folder: Path) -> str:
    """Give a link as it is where it stays in `docs/`, otherwise its text and the path in the repository."""
    text, target = link[1], (folder / link[2]).resolve()
    if target.is_relative_to(ROOT / "docs") or not target.exists():
        return link[0]
    path = f"`{target.relative_to(ROOT)}`"
    return path if text.strip("`") == path.strip("`") else f"{text} ({path})"


def commands() -> str:
    """Describe every command, by panel: what it does, its arguments and options, and examples."""
    root = get_command(app)
    panels: dict[str, list[str]] = {}
    for path, command, panel in leaves(root):
        panels.setdefault(panel, []).append(described(path, command))
    shared = [option for option in root.params if getattr(option, "rich_help_panel", None) == LOGGING]
    everywhere = "These options go before or after the name of any command:\n\n" + option_table(shared)
    return "\n\n".join([everywhere, *(f"## {panel}\n\n" + "\n\n".join(parts) for panel, parts in panels.items())])


def leaves(group: Any, above: str = "sgcldff", panel: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield the path, the command and the panel of every command below a group, in the order of the help."""
    for name, command in group.commands.items():
        own, path = panel or getattr(command, "rich_help_panel", None) or "Further commands", f"{above} {name}"
        if getattr(command, "commands", None):
            yield from leaves(command, path, own)
        else:
            yield path, command, own


def described(path: str, command: Any) -> str:
    """Describe one command."""
    options = [param for param in command.params if getattr(param, "rich_help_panel", None) != LOGGING]
    arguments = [param for param in options if param.param_type_name == "argument"]
    usage = " ".join([path, "[OPTIONS]", *(argument_usage(argument) for argument in arguments)])
    examples = re.findall(r"^- `(.+)`$", command.epilog or "", re.MULTILINE)
    return "\n\n".join(
        [
            f"### `{path}` {{ #{path.replace(' ', '-')} }}",
            cleandoc(command.help or ""),
            f"```text\n{usage}\n```",
            option_table(options),
            "```console\n" + "\n".join(f"$ {example}" for example in examples) + "\n```",
        ]
    )


def argument_usage(argument: Any) -> str:
    """Write an argument as a line of usage does."""
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def option_table(params: list[Any]) -> str:
    """Write arguments and options as a table."""
    rows = [f"| {spelled(param)} | {cell(param.help or '')} | {default_of(param)} |" for param in params]
    return "\n".join(["| option | meaning | default |", "| --- | --- | --- |", *rows])


def spelled(param: Any) -> str:
    """Give all spellings of an option, or the name of an argument."""
    if param.param_type_name == "argument":
        return f"`{argument_usage(param)}`"
    return ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))


def default_of(param: Any) -> str:
    """Say what holds where an option is left out."""
    if param.required:
        return "required"
    shown = getattr(param, "show_default", None)
    variable = f" (or `{param.envvar}`)" if getattr(param, "envvar", None) else ""
    if isinstance(shown, str):
        return cell(shown) + variable
    value = getattr(param.default, "value", param.default)
    return ("off" if value is False else f"`{value}`") + variable


def settings() -> str:
    """Describe every key of the settings, as `sgcldff settings` prints them."""
    ran = CliRunner().invoke(app, ["settings"], catch_exceptions=False)
    return "\n\n".join(settings_table(name, *parts) for name, parts in settings_tables(ran.output).items())


def settings_table(name: str, about: str, keys: Mapping[str, tuple[str, str]]) -> str:
    """Write one table of the settings."""
    rows = [f"| `{key}` | {value} | {cell(meaning)} |" for key, (value, meaning) in keys.items()]
    anchor = name.replace(".", "-")
    head = f"## `[{name}]` {{ #{anchor} }}\n\n{about}\n\n| key | default | meaning |\n| --- | --- | --- |"
    return "\n".join([head, *rows])


def settings_tables(toml: str) -> dict[str, tuple[str, dict[str, tuple[str, str]]]]:
    """Read commented TOML: table -> what it is about, and key -> (default, meaning)."""
    tables: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {}
    keys: dict[str, tuple[str, str]] = {}
    for block in re.split(r"\n\s*\n", toml.strip()):
        lines = block.splitlines()
        comment = " ".join(line[2:] for line in lines if line.startswith("# ") and not line.endswith(" ="))
        if lines[0].startswith("["):
            keys = {}
            tables[lines[0].strip("[]")] = comment, keys
        elif key := re.match(r"(?:# )?(\w+) =(.*)", lines[-1]):
            keys[key[1]] = (f"`{key[2].strip()}`" if key[2].strip() else "unset"), comment
    return tables


def api() -> str:
    """Name every public object of the library for mkdocstrings, which finds it without importing what it needs."""
    names = [name for name in getattr(sgcldff, "__all__", ()) if not name.startswith("_")]
    return "\n\n".join(f"::: sgcldff.{name}\n    options:\n      heading: sgcldff.{name}" for name in names)


def cell(text: str) -> str:
    """Write a text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


PARTS: Mapping[str, Callable[[], str]] = {"commands": commands, "settings": settings, "api": api}
"""What a page may name."""
