"""The files of a registered version: fetched once, and checked against the digests in its tags."""

from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from urllib.parse import unquote, urlsplit

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion

from sgcldff.core.errors import StoreError
from sgcldff.core.locks import locked
from sgcldff.core.settings import digest
from sgcldff.registry.tracking import Runs
from sgcldff.slides.images import sha256_of

EVALUATION, ARTIFACTS = "evaluation", "artifacts"
"""Folders of a version: the report with which it was registered, and the files of the model."""
FILES_TAG = "sgcldff.sha256."
"""Beginning of the tags with digests of these folders."""


def files_tags(package: Path) -> dict[str, str]:
    """Return tags with digests of the names and contents of the files of a package that are read again."""
    parts = (package / part for part in (ARTIFACTS, EVALUATION) if (package / part).is_dir())
    return {FILES_TAG + part.name: _files_digest(part) for part in parts}


def require_intact(version: ModelVersion, part: str, folder: Path) -> None:
    """Check files against the tag of their version; versions of earlier releases have none.

    Raises
    ------
    StoreError
        If they are not the files that were registered.
    """
    registered = version.tags.get(FILES_TAG + part)
    if registered is not None and registered != _files_digest(folder):
        raise StoreError(
            f"{folder}: not the files registered as models:/{version.name}/{version.version}; restore them or register "
            "the model again"
        )


def _files_digest(folder: Path) -> str:
    return digest(
        {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}
    )


def fetch_part(runs: Runs, version: ModelVersion, part: str) -> Path:
    """Return a local folder with a part of a version: the original, or a cached copy.

    Raises
    ------
    StoreError
        If it is missing.
    """
    uri = f"{version.source.rstrip('/')}/{part}"
    local = runs.address.folder / "models" / digest((uri, version.creation_timestamp))
    if uri.startswith("file:"):
        local = Path(unquote(urlsplit(uri).path))
    elif not local.is_dir():
        _copy(runs, uri, local)
    if not local.is_dir():
        raise StoreError(
            f"{local}: the registry at {runs.address} points here, but it is missing; restore or train again"
        )
    return local


def _copy(runs: Runs, uri: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(mkdtemp(dir=folder.parent, suffix=".partial"))
    try:
        with runs.answering():
            copy = Path(download_artifacts(uri, dst_path=str(workspace), tracking_uri=runs.address.uri))
        with locked(folder.parent / "downloads.lock"):
            if not folder.is_dir():
                copy.rename(folder)
    finally:
        rmtree(workspace, ignore_errors=True)
