"""Decision records in MLflow: files beside a version, named by its tags and chained by the registered model's."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from sgcldff.core.errors import StoreError
from sgcldff.promotion import Decision
from sgcldff.promotion.record_chain import chained, faults, record_digest, signing_key
from sgcldff.registry.tracking import MISSING, Runs

FOLDER, TAG = "decisions", "sgcldff.decision."
"""Folder of a version's records, and the prefix of its tags with their names and outcomes."""
NEWEST_TAG = "sgcldff.newest_decision"
"""Tag of the registered model with its `StoredRecord`, as JSON."""


class StoredRecord(NamedTuple):
    """Where a record is stored."""

    version: str
    name: str
    """Of the file; sorts by time and ends in the digest of the text."""
    outcome: str

    @property
    def place(self) -> str:
        """Its name in the chain."""
        return f"{self.version}/{self.name}"


class VerifiedChain(NamedTuple):
    """The result of `verify`."""

    records: int
    newest: str
    """Name of the last record; empty if there is none."""
    faults: tuple[str, ...]
    """What is wrong with which record."""


def keep(runs: Runs, version: ModelVersion, decision: Decision) -> None:
    """Store a record with a version, as the last of the chain: first the file, then the tags that name it."""
    newest = _newest(runs, version.name)
    if newest is not None:  # the process that stored it may have ended between the tags
        _tag(runs, version.name, newest)
    text = chained(decision.to_json(), newest.place if newest else "", signing_key())
    stored = StoredRecord(str(version.version), _name(decision, text), decision.outcome.value)
    with TemporaryDirectory() as workspace, runs.answering():
        record = Path(workspace) / f"{stored.name}.json"
        record.write_text(text)
        get_artifact_repository(version.source, runs.address.uri).log_artifact(str(record), FOLDER)
        runs.client.set_registered_model_tag(version.name, NEWEST_TAG, json.dumps(stored))
    _tag(runs, version.name, stored)


def read(runs: Runs, version: ModelVersion) -> tuple[Decision, ...]:
    """Return the records of all decisions on a version, oldest first.

    Raises
    ------
    StoreError
        If one is missing or damaged.
    """
    return tuple(_read_decision(name, text) for name, text in _texts(runs, version).items())


def verify(runs: Runs, versions: Iterable[ModelVersion], name: str, signer: str | None) -> VerifiedChain:
    """Check the chain of all records of a registered model, as `faults` does.

    Records of earlier releases, whose names contain only the beginning of a digest, are left out.
    """
    records = {
        StoredRecord(str(version.version), record, "").place: text
        for version in versions
        for record, text in _texts(runs, version).items()
        if len(record.rpartition("-")[2]) == len(record_digest(""))
    }
    stored = _newest(runs, name)
    newest = stored.place if stored else ""
    return VerifiedChain(len(records), newest, tuple(faults(records, newest, signer)))


def _texts(runs: Runs, version: ModelVersion) -> dict[str, str]:
    """Return the text of each record of a version, oldest first; empty where the file is missing."""
    names = sorted(tag.removeprefix(TAG) for tag in version.tags if tag.startswith(TAG))
    if not names:
        return {}
    with TemporaryDirectory() as workspace:
        folder = runs.download(f"{version.source.rstrip('/')}/{FOLDER}", workspace)
        files = {name: folder / f"{name}.json" for name in names}
        return {name: file.read_text(errors="replace") if file.is_file() else "" for name, file in files.items()}


def _newest(runs: Runs, model: str) -> StoredRecord | None:
    entry = runs.registered_model(model)
    tag = entry.tags.get(NEWEST_TAG) if entry else None
    return StoredRecord(*json.loads(tag)) if tag else None


def _tag(runs: Runs, model: str, record: StoredRecord) -> None:
    with runs.answering():
        try:
            runs.client.set_model_version_tag(model, record.version, TAG + record.name, record.outcome)
        except MlflowException as error:
            if error.error_code != MISSING:  # somebody deleted that version
                raise


def _name(decision: Decision, text: str) -> str:
    stamp = re.sub(r"[^0-9T]", "", decision.signed.at.removesuffix("+00:00"))
    return f"{stamp}-{record_digest(text)}"


def _read_decision(name: str, text: str) -> Decision:
    if not text:
        raise StoreError(f"{name}.json: a tag names this decision record, but it is missing; restore it")
    decision = Decision.from_json(text)
    if not (actual := _name(decision, text)).startswith(name):
        raise StoreError(f"{name}.json: damaged (its content belongs to {actual}); restore it")
    return decision
