"""Versions and aliases of models, the decisions on them, and the frozen test set.

Promotion and rollback hold a lock, since MLflow has no compare-and-set for aliases. With a SQLite registry the lock is
next to the database, so that all processes that use this file take turns. With a server the lock is per user and
machine; promotions from several machines are checked afterwards: the alias is read back, and if two collide, one of
them is refused.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from sgcldff.core.errors import InputError, PromotionRefusedError, StoreError
from sgcldff.core.records import ModelRef
from sgcldff.core.wording import first_few
from sgcldff.evaluation.report import EvalReport
from sgcldff.models.checkpoint import WEIGHTS_FILE
from sgcldff.models.names import (
    REGISTRY_PREFIX,
    RegisteredModel,
    known_models_hint,
    parse_model_name,
    resolve_unregistered,
)
from sgcldff.promotion import Attribution, Decision, FrozenTest, Outcome
from sgcldff.registry import decisions
from sgcldff.registry.decisions import VerifiedChain
from sgcldff.registry.packaging import TRUTH_TAG, code_tags, pooled_scores, score_tags, write_package
from sgcldff.registry.tracking import DEFAULT_NAME, EXISTS, MISSING, DataSet, Runs
from sgcldff.registry.version_files import ARTIFACTS, EVALUATION, fetch_part, files_tags, require_intact
from sgcldff.slides.images import sha256_of

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DIGEST_TAG, WEIGHTS_TAG = "sgcldff.digest", "sgcldff.weights_sha256"
ALIAS_LOCK = "aliases.lock"
TEST_SET, TEST_SET_TAG = "test_set.parquet", "sgcldff.test_set"
"""The frozen test set: an artifact of the run whose id is in this tag of the registered model."""
CALIBRATED_TAG, ORIGINAL_TAG = "sgcldff.calibrated", "sgcldff.original"
"""What `sgcldff calibrate` changed, and the version that it calibrated."""
MODEL_ID_TAG = "sgcldff.model_id"
"""Id of the logged model, which MLflow's own versions do not keep."""
ADOPTED_TAG = "sgcldff.adopted"
"""Name and version of a model that comes from elsewhere."""
FORBIDDEN_IN_NAMES = r"[/:.%\"']"
"""Characters that MLflow refuses in the name of a logged model."""
ROLLED_BACK = "the previous champion was restored"


@dataclass(frozen=True)
class Version:
    """A registered version."""

    ref: ModelRef
    aliases: tuple[str, ...]
    created_ms: int
    """Milliseconds since 1970 (UTC)."""
    run_id: str
    tags: Mapping[str, str]
    title: str = ""
    """What it was trained on and when, or where it comes from; empty for versions of earlier releases."""

    @property
    def model_id(self) -> str | None:
        """Id of MLflow's logged model, to which metrics belong; None for versions of earlier releases."""
        return self.tags.get(MODEL_ID_TAG)

    @property
    def calibrated(self) -> str:
        """What `sgcldff calibrate` changed; empty if it did not make this version."""
        return self.tags.get(CALIBRATED_TAG, "")

    @property
    def outcome(self) -> str:
        """The last decision on it; empty if there is none."""
        records = sorted(tag for tag in self.tags if tag.startswith(decisions.TAG))
        return self.tags[records[-1]] if records else ""


class Registry:
    """Versions of one registered model; `runs` are those of the experiment of the same name.

    Parameters
    ----------
    location, name
        As for `Runs`.
    """

    def __init__(self, location: str | Path = "mlflow", name: str = DEFAULT_NAME) -> None:
        self.runs = Runs(location, name)
        self.name, self.address = name, self.runs.address

    @property
    def client(self) -> MlflowClient:
        """MLflow's client."""
        return self.runs.client

    def register(
        self,
        folder: str | Path,
        report: EvalReport | None = None,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
        title: str = "",
    ) -> ModelRef:
        """Register a trained model as a new version with alias `challenger`.

        Parameters
        ----------
        folder
            Folder with `spec.json` and `weights.safetensors`, which are loaded once to verify them.
        report
            Its scores become tags and metrics; report and predictions are stored with the version.
        tags
            Further tags, such as the data snapshot's digest.
        run_id
            The run of the training; by default a new run.
        title
            What people call it; the version's description, and the name of the logged model and of a new run.

        Raises
        ------
        InputError
            If the folder contains no loadable model.
        ServiceError
            If MLflow does not answer.
        """
        from sgcldff.models.model import load_model  # torch takes memory that readers of the registry do not need

        model = load_model(folder, "cpu")
        identity = {DIGEST_TAG: model.digest, WEIGHTS_TAG: sha256_of(Path(folder) / WEIGHTS_FILE)}
        if model.spec.calibrated:
            identity[CALIBRATED_TAG] = model.spec.calibrated
        with TemporaryDirectory() as workspace, self.runs.run(run_id, title or "register") as run:
            package = write_package(Path(folder), Path(workspace) / "model", len(model.spec.labels.classes))
            if report is not None:
                report.save(package / EVALUATION)
            all_tags = identity | score_tags(report) | code_tags() | files_tags(package) | dict(tags or {})
            version, model_id = self._upload(package, run, all_tags, title)
            if report is not None:
                self.log_scores(run, report, model_id)
        return ModelRef(self.name, version, model.digest)

    def adopt(self, source: ModelRef, folder: str | Path) -> ModelRef:
        """Register a model from elsewhere as challenger."""
        name = f"{source.name} {source.version}"
        return self.register(folder, tags={ADOPTED_TAG: name}, title=name)

    def log_scores(self, run_id: str, report: EvalReport, model_id: str | None) -> None:
        """Log a report's pooled scores into a run, as metrics of a logged model on the data set of the report."""
        data = DataSet(first_few([one.source for one in report.sources]), report.truth, f"runs:/{run_id}/{EVALUATION}")
        self.runs.add_inputs(run_id, EVALUATION, data, model_id)
        self.runs.log(run_id, {}, pooled_scores(report), model_id, data)

    def with_weights(self, weights: str) -> Version | None:
        """Return the newest version whose weights have this digest; None if there is none."""
        return next((version for version in self.versions() if version.ref.digest == weights), None)

    def _upload(self, package: Path, run_id: str, tags: dict[str, str], title: str) -> tuple[str, str]:
        """Return the number of the new version, and the id of its logged model."""
        name = re.sub(FORBIDDEN_IN_NAMES, "-", title) or self.name
        with self.runs.answering():
            logged = self.client.create_logged_model(self.runs.experiment_id, name, run_id, tags)
            self.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
            self.client.log_model_artifacts(logged.model_id, str(package))
            self.client.finalize_logged_model(logged.model_id, "READY")
            self._ensure_name()
            tags |= {MODEL_ID_TAG: logged.model_id}
            version = self.client.create_model_version(
                self.name, logged.artifact_location, run_id, tags, description=title or None, model_id=logged.model_id
            )
            named = json.dumps([{"name": self.name, "version": int(version.version)}])
            self.client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: named})
            self.client.set_registered_model_alias(self.name, CHALLENGER, str(version.version))
        return str(version.version), str(logged.model_id)

    def _ensure_name(self) -> None:
        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != EXISTS:
                raise

    def versions(self) -> tuple[Version, ...]:
        """List all versions, newest first."""
        by_number: dict[str, list[str]] = {}
        for alias, number in self.aliases().items():
            by_number.setdefault(number, []).append(alias)
        return tuple(
            Version(
                _ref(entry),
                tuple(sorted(by_number.get(str(entry.version), ()))),
                int(entry.creation_timestamp),
                entry.run_id or "",
                dict(entry.tags),
                entry.description or "",
            )
            for entry in sorted(self._search_versions(), key=lambda entry: int(entry.version), reverse=True)
        )

    def _search_versions(self) -> list[ModelVersion]:
        with self.runs.answering():
            return list(self.client.search_model_versions(f"name='{self.name}'"))

    def aliases(self, name: str | None = None) -> dict[str, str]:
        """Return the version of each alias; empty if nothing is registered."""
        entry = self.runs.registered_model(name or self.name)
        return {alias: str(number) for alias, number in entry.aliases.items()} if entry else {}

    def champion(self) -> str | None:
        """Return a reference to the current champion's version, for `resolve`; None if there is no champion.

        If the registry is a SQLite file that does not exist, it is not created.
        """
        database = self.address.database
        if database is not None and not database.is_file():
            return None
        number = self.aliases().get(CHAMPION)
        return f"models:/{self.name}/{number}" if number else None

    def resolve(self, reference: str | Path) -> tuple[ModelRef, Path]:
        """Find a model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released`, or a folder.

        Returns
        -------
        tuple
            The version and a local folder with `spec.json` and `weights.safetensors`, for `load_model`.

        Raises
        ------
        InputError
            If there is no such model; the message lists those that exist.
        StoreError
            If the weights are not those that were registered.
        """
        text = str(reference)
        if not text.startswith(REGISTRY_PREFIX):
            return resolve_unregistered(text)
        version = self._find(text)
        if WEIGHTS_TAG not in version.tags:
            raise InputError(f"{text}: not registered by sgcldff; name a version that `sgcldff train` registered")
        folder = fetch_part(self.runs, version, ARTIFACTS)
        weights = folder / WEIGHTS_FILE
        if not weights.is_file() or sha256_of(weights) != version.tags[WEIGHTS_TAG]:
            raise StoreError(f"{weights}: not the weights registered as {text}; restore or register again")
        require_intact(version, ARTIFACTS, folder)
        return _ref(version), folder

    def report(self, ref: ModelRef) -> EvalReport | None:
        """Return the report with which a version was registered, predictions included; None if there was none."""
        version = self._version(ref.name, ref.version)
        if TRUTH_TAG not in version.tags:
            return None
        folder = fetch_part(self.runs, version, EVALUATION)
        require_intact(version, EVALUATION, folder)
        return EvalReport.open(folder)

    def promote(
        self, ref: ModelRef, expected: Mapping[str, str] | None = None, decision: Decision | None = None
    ) -> dict[str, str]:
        """Make a version champion, and the former champion `previous`; idempotent.

        If a calibrated version is the first champion, its original becomes `previous`, so that a rollback restores it.

        Parameters
        ----------
        expected
            The aliases on which the decision was based; refused if the champion has changed since.
        decision
            Its record, which is stored before any alias moves, so that there is no champion without one.

        Returns
        -------
        dict
            The aliases afterwards.

        Raises
        ------
        PromotionRefusedError
            If another promotion came first.
        InputError
            If there is no such version.
        """
        with self.runs.lock(ALIAS_LOCK):
            version, aliases = self._version(self.name, ref.version), self.aliases()
            champion = aliases.get(CHAMPION)
            if champion == ref.version:
                return aliases
            if expected is not None and champion != expected.get(CHAMPION):
                raise _overtaken(ref, champion)
            if decision is not None:
                self.keep(ref, decision)
            if former := champion or version.tags.get(ORIGINAL_TAG):
                self._set_alias(PREVIOUS, former)  # moves first: if killed in between, the champion is unchanged
            self._set_alias(CHAMPION, ref.version)
            after = self.aliases()
            if after.get(CHAMPION) != ref.version:
                raise _overtaken(ref, after.get(CHAMPION))
            return after

    def rollback(self, signed: Attribution | None = None, because: str = ROLLED_BACK) -> ModelRef:
        """Make the previous champion champion again and remove alias `previous`; both versions get a record.

        Raises
        ------
        InputError
            If there is no previous champion.
        """
        with self.runs.lock(ALIAS_LOCK):
            aliases = self.aliases()
            previous = aliases.get(PREVIOUS)
            if previous is None or previous == aliases.get(CHAMPION):
                named = ", ".join(f"{alias} (version {number})" for alias, number in aliases.items()) or "none"
                raise InputError(f"{self.name} at {self.address} has no previous champion to restore: aliases {named}")
            restored, withdrawn = (_ref(self._version(self.name, number)) for number in (previous, aliases[CHAMPION]))
            signature = signed or Attribution.now()
            last = self.decision(withdrawn) or Decision(Outcome.WITHDRAWN, signature, withdrawn, restored)
            self.keep(withdrawn, last.withdrawn(signature, because, restored))
            self.keep(restored, Decision(Outcome.RESTORED, signature, restored, withdrawn, because=because))
            self._set_alias(CHAMPION, previous)
            with self.runs.answering():
                self.client.delete_registered_model_alias(self.name, PREVIOUS)
        return restored

    def record(self, decision: Decision) -> None:
        """Store the record of a decision that moves no alias with its challenger.

        Raises
        ------
        PromotionRefusedError
            If another promotion has made that version champion meanwhile: nothing is recorded against a champion.
        """
        version = decision.challenger
        with self.runs.lock(ALIAS_LOCK):
            if version.name == self.name and self.aliases().get(CHAMPION) == version.version:
                raise PromotionRefusedError(
                    f"version {version.version} has become champion by another promotion: this decision on it "
                    f"({decision.outcome.value}) is not recorded; to withdraw it, run `sgcldff rollback`"
                )
            self.keep(version, decision)

    def keep(self, ref: ModelRef, decision: Decision) -> None:
        """Store a decision's record with a version, signed if a key is configured."""
        decisions.keep(self.runs, self._version(ref.name, ref.version), decision)

    def decisions(self, ref: ModelRef) -> tuple[Decision, ...]:
        """Return the records of all decisions on a version, oldest first.

        Raises
        ------
        StoreError
            If one is missing or damaged.
        """
        return decisions.read(self.runs, self._version(ref.name, ref.version))

    def verify_decisions(self, signer: str | None = None) -> VerifiedChain:
        """Find decision records that were changed, removed or added by other means.

        Parameters
        ----------
        signer
            Public key, in hexadecimal, with which records have to be signed from the first signed one on.
        """
        return decisions.verify(self.runs, self._search_versions(), self.name, signer)

    def all_decisions(self) -> tuple[Decision, ...]:
        """Return the records of all decisions on all versions."""
        judged = (version.ref for version in self.versions() if version.outcome)
        return tuple(decision for ref in judged for decision in self.decisions(ref))

    def decision(self, ref: ModelRef) -> Decision | None:
        """Return the newest decision on a version; None if there is none."""
        return (self.decisions(ref) or (None,))[-1]

    def test_set(self) -> FrozenTest | None:
        """Return the frozen test set; None if none has been frozen.

        Raises
        ------
        StoreError
            If it is missing or damaged.
        """
        entry = self.runs.registered_model(self.name)
        if entry is None or (run_id := entry.tags.get(TEST_SET_TAG)) is None:
            return None
        with self.runs.answering():
            run = self.client.get_run(run_id)
        with TemporaryDirectory() as workspace:
            frozen = FrozenTest.open(self.runs.download(f"{run.info.artifact_uri}/{TEST_SET}", workspace))
        if frozen.digest != run.data.tags.get(TEST_SET_TAG):
            raise StoreError(f"the test set of run {run_id} is not the one that was frozen; restore it or freeze again")
        return frozen

    def freeze(self, frozen: FrozenTest, signed: Attribution, *, replace: bool = True) -> FrozenTest:
        """Make this the test set of all further promotions; returns the one that is in force afterwards.

        Parameters
        ----------
        replace
            Off: a test set that was frozen before is kept.
        """
        with self.runs.lock(ALIAS_LOCK):
            if not replace and (existing_set := self.test_set()):
                return existing_set
            tags = {TEST_SET_TAG: frozen.digest, "sgcldff.by": signed.by, "sgcldff.at": signed.at}
            with self.runs.run(None, "test-set", tags) as run, TemporaryDirectory() as workspace:
                self.runs.attach(run, frozen.save(Path(workspace) / TEST_SET))
            with self.runs.answering():
                self._ensure_name()
                self.client.set_registered_model_tag(self.name, TEST_SET_TAG, run)
        return frozen

    def _set_alias(self, alias: str, number: str) -> None:
        with self.runs.answering():
            self.client.set_registered_model_alias(self.name, alias, number)

    def _find(self, reference: str) -> ModelVersion:
        name, alias, number = parse_model_name(reference)
        if number is not None:
            return self._version(name, number)
        aliases = self.aliases(name)
        if alias not in aliases:
            raise InputError(f"{reference}: no such alias at {self.address}: {self._existing(name)}")
        return self._version(name, aliases[alias])

    def _version(self, name: str, number: str) -> ModelVersion:
        with self.runs.answering():
            try:
                return self.client.get_model_version(name, number)
            except MlflowException as error:
                if error.error_code != MISSING:
                    raise
        raise InputError(f"models:/{name}/{number}: no such version at {self.address}: {self._existing(name)}")

    def _existing(self, name: str) -> str:
        with self.runs.answering():
            models = sorted(model.name for model in self.client.search_registered_models())
            if name not in models:
                return known_models_hint(models)
            numbers = sorted(int(version.version) for version in self.client.search_model_versions(f"name='{name}'"))
        return str(RegisteredModel(self.aliases(name), list(map(str, numbers))))


def _ref(version: ModelVersion) -> ModelRef:
    return ModelRef(version.name, str(version.version), version.tags.get(DIGEST_TAG, ""))


def _overtaken(ref: ModelRef, champion: str | None) -> PromotionRefusedError:
    current = f"the champion is now version {champion}" if champion else "there is no champion now"
    return PromotionRefusedError(
        f"version {ref.version} is not promoted: another promotion came first, and {current}; promote again"
    )
