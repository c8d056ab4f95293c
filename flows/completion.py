"""Shell completion; libraries that are slow to load are not imported."""

from collections.abc import Iterable
from pathlib import Path

import typer


def _starting(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _after_comma(incomplete: str, words: Iterable[str]) -> list[str]:
    """Complete the last of several comma-separated names; each is offered once."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + word for word in _starting(last, words) if word not in before.split(",")]


def adapters(incomplete: str) -> list[str]:
    """Complete the name of an adapter, or `auto`."""
    from sgcldff.data.adapters import ADAPTERS, AUTO

    return _starting(incomplete, [AUTO, *ADAPTERS])


def data_sets(incomplete: str) -> list[str]:
    """Complete the name of a data set that can be downloaded."""
    from sgcldff.data.adapters import ADAPTERS

    return _starting(incomplete, [name for name, adapter in ADAPTERS.items() if adapter.download])


def registered_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete an alias or version in the workspace's registry, if it is a file."""
    from sgcldff.core.locations import Address
    from sgcldff.models.names import models_in_registry
    from tasks.workspace import WORKSPACE, Workspace

    workspace = Workspace(str(ctx.params.get("workspace") or WORKSPACE))
    by_name = models_in_registry(Address.parse(workspace.tracking_uri)) or {}
    aliases = [f"models:/{name}@{alias}" for name, model in by_name.items() for alias in model.aliases]
    versions = [f"models:/{name}/{number}" for name, model in by_name.items() for number in model.versions]
    return _starting(incomplete, aliases + versions)


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a registered model, `released`, or a folder that contains a model."""
    from sgcldff.models.checkpoint import SPEC_FILE
    from sgcldff.models.released import RELEASED

    folders = sorted(
        str(path) for path in Path().glob(f"{incomplete}*/") if incomplete and (path / SPEC_FILE).is_file()
    )
    return [*_starting(incomplete, [RELEASED]), *registered_models(ctx, incomplete), *folders]


def precisions(incomplete: str) -> list[str]:
    """Complete a floating-point precision of training."""
    from sgcldff.core.settings import TRAIN_PRECISIONS

    return _starting(incomplete, TRAIN_PRECISIONS)


def networks(incomplete: str) -> list[str]:
    """Complete the names of a benchmark's candidates."""
    from flows.candidates import candidates

    return _after_comma(incomplete, candidates())


def protocols(incomplete: str) -> list[str]:
    """Complete the names of a benchmark's protocols."""
    from sgcldff.benchmark.protocols import Protocol

    return _after_comma(incomplete, Protocol)
