"""Versions and aliases of models, what was decided of them, and the test set on which it is decided.

Promotion and rollback hold a lock, since MLflow has no compare-and-set for aliases. With a SQLite registry the lock
lies beside the database, so that all processes that see this file take turns. With a server the lock is this user's on
this machine; promotions from several machines are checked after the fact: the alias is read back, and one of two that
collide is told that it lost.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp
from urllib.parse import unquote, urlsplit

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from sgcldff.core.errors import InputError, PromotionRefusedError, StoreError
from sgcldff.core.locks import locked
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import digest
from sgcldff.evaluation.report import EvalReport
from sgcldff.models.checkpoint import WEIGHTS_FILE
from sgcldff.models.names import (
    REGISTRY_PREFIX,
    RegisteredModel,
    known_models_hint,
    parse_model_name,
    resolve_unregistered,
)
from sgcldff.promotion import Decision, FrozenTest, Outcome, Signature
from sgcldff.registry.packaging import TRUTH_TAG, code_tags, pooled_scores, score_tags, write_package
from sgcldff.registry.tracking import EXISTS, MISSING, Runs
from sgcldff.slides.images import sha256_of

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DIGEST_TAG, WEIGHTS_TAG = "sgcldff.digest", "sgcldff.weights_sha256"
ALIAS_LOCK = "aliases.lock"
EVALUATION, ARTIFACTS = "evaluation", "artifacts"
DECISIONS, DECISION_TAG = "decisions", "sgcldff.decision."
"""Folder of a version's decision records; tags of the version, one a record: its name, and its outcome as the value."""
TEST_SET, TEST_SET_TAG = "test_set.parquet", "sgcldff.test_set"
"""The frozen test set: an artifact of the run that this tag of the registered model names."""
PUT_BACK = "the former champion was put back"


@dataclass(frozen=True)
class Version:
    """A registered version as the registry shows it."""

    ref: ModelRef
    aliases: tuple[str, ...]
    created_ms: int
    """Milliseconds since 1970 (UTC)."""
    run_id: str
    tags: Mapping[str, str]

    @property
    def outcome(self) -> str:
        """What was decided of it last; empty where nothing was."""
        records = sorted(tag for tag in self.tags if tag.startswith(DECISION_TAG))
        return self.tags[records[-1]] if records else ""


class Registry(Runs):
    """Models of one name, and the runs that made them: the experiment of `Runs` and the registered model share it."""

    def register(
        self,
        folder: str | Path,
        report: EvalReport | None = None,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
    ) -> ModelRef:
        """Make a trained model a new version with alias `challenger`.

        Parameters
        ----------
        folder
            Holds `spec.json` and `weights.safetensors`; they are loaded once to see that they fit.
        report
            Its scores become tags and metrics; report and predictions travel with the version.
        tags
            Further tags, such as the data snapshot's digest.
        run_id
            The run that made the model; a run is made where there is none.

        Raises
        ------
        InputError
            If the folder holds no loadable model.
        ServiceError
            If MLflow does not answer.
        """
        from sgcldff.models.model import load_model  # takes memory that who only reads the registry does without

        model = load_model(folder, "cpu")
        identity = {DIGEST_TAG: model.digest, WEIGHTS_TAG: sha256_of(Path(folder) / WEIGHTS_FILE)}
        with TemporaryDirectory() as workspace, self._run(run_id, "register") as run:
            package = write_package(Path(folder), Path(workspace) / "model", len(model.spec.labels.classes))
            if report is not None:
                report.save(package / EVALUATION)
            version = self._upload(package, run, identity | score_tags(report) | code_tags() | dict(tags or {}))
            self.log(run, {}, pooled_scores(report))
        return ModelRef(self.name, version, model.digest)

    def _upload(self, package: Path, run_id: str, tags: dict[str, str]) -> str:
        with self._answering():
            logged = self.client.create_logged_model(self.experiment_id, self.name, run_id, tags)
            self.client.log_model_artifacts(logged.model_id, str(package))
            self.client.finalize_logged_model(logged.model_id, "READY")
            self._ensure_name()
            made = self.client.create_model_version(
                self.name, logged.artifact_location, run_id, tags, model_id=logged.model_id
            )
            self.client.set_registered_model_alias(self.name, CHALLENGER, str(made.version))
        return str(made.version)

    def _ensure_name(self) -> None:
        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != EXISTS:
                raise

    def versions(self) -> tuple[Version, ...]:
        """List all versions, newest first."""
        held: dict[str, list[str]] = {}
        for alias, number in self.aliases().items():
            held.setdefault(number, []).append(alias)
        with self._answering():
            found = self.client.search_model_versions(f"name='{self.name}'")
        ordered = sorted(found, key=lambda version: int(version.version), reverse=True)
        return tuple(_version(version, tuple(sorted(held.get(str(version.version), ())))) for version in ordered)

    def aliases(self, name: str | None = None) -> dict[str, str]:
        """Give the version that each alias names; empty where nothing is registered."""
        with self._answering():
            try:
                held = self.client.get_registered_model(name or self.name).aliases
            except MlflowException as error:
                if error.error_code == MISSING:
                    return {}
                raise
        return {alias: str(number) for alias, number in held.items()}

    def champion(self) -> str | None:
        """Name the version that is champion now, for `resolve`; None where there is none.

        Where the registry is a SQLite file that is not there yet, none is made.
        """
        database = self.address.database
        if database is not None and not database.is_file():
            return None
        held = self.aliases().get(CHAMPION)
        return f"models:/{self.name}/{held}" if held else None

    def resolve(self, reference: str | Path) -> tuple[ModelRef, Path]:
        """Find a model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `released`, or a folder.

        Returns
        -------
        tuple
            The version and a local folder with `spec.json` and `weights.safetensors`, for `load_model`.

        Raises
        ------
        InputError
            If there is no such model; the message lists what there is.
        StoreError
            If the weights are not those that were registered.
        """
        text = str(reference)
        if not text.startswith(REGISTRY_PREFIX):
            return resolve_unregistered(text)
        version = self._find(text)
        if WEIGHTS_TAG not in version.tags:
            raise InputError(f"{text}: not registered by sgcldff; name a version that `sgcldff train` registered")
        folder = self._fetch(version, ARTIFACTS)
        if sha256_of(folder / WEIGHTS_FILE) != version.tags[WEIGHTS_TAG]:
            raise StoreError(
                f"{folder / WEIGHTS_FILE}: not the weights registered as {text}; restore or register again"
            )
        return _ref(version), folder

    def report(self, ref: ModelRef) -> EvalReport | None:
        """Give the report with which a version was registered, predictions included; None if there was none."""
        version = self._version(ref.name, ref.version)
        return EvalReport.open(self._fetch(version, EVALUATION)) if TRUTH_TAG in version.tags else None

    def promote(
        self, ref: ModelRef, expected: Mapping[str, str] | None = None, decision: Decision | None = None
    ) -> dict[str, str]:
        """Make a version champion, and the former champion `previous`; done twice it changes nothing more.

        Parameters
        ----------
        expected
            The aliases on which the decision was based; refused if the champion has changed since.
        decision
            Its record, which is kept before any alias moves: no champion is without one.

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
        with self._lock(ALIAS_LOCK):
            self._version(self.name, ref.version)
            held = self.aliases()
            if expected is not None and held.get(CHAMPION) != expected.get(CHAMPION):
                raise PromotionRefusedError(_overtaken(ref, held.get(CHAMPION)))
            if held.get(CHAMPION) == ref.version:
                return held
            if decision is not None:
                self.keep(ref, decision)
            return self._crown(ref, held.get(CHAMPION))

    def _crown(self, ref: ModelRef, former: str | None) -> dict[str, str]:
        """`previous` moves first: killed in between, the champion is the former one still."""
        if former is not None:
            self._point(PREVIOUS, former)
        self._point(CHAMPION, ref.version)
        after = self.aliases()
        if after.get(CHAMPION) != ref.version:
            raise PromotionRefusedError(_overtaken(ref, after.get(CHAMPION)))
        return after

    def rollback(self, signed: Signature | None = None, because: str = PUT_BACK) -> ModelRef:
        """Make the former champion champion again; `previous` is then gone. Both versions keep a record of it.

        Raises
        ------
        InputError
            If there is no former champion.
        """
        with self._lock(ALIAS_LOCK):
            held = self.aliases()
            former = held.get(PREVIOUS)
            if former is None or former == held.get(CHAMPION):
                raise InputError(f"{self.name} at {self.address} has no former champion to put back: {_listed(held)}")
            restored, deposed = (_ref(self._version(self.name, number)) for number in (former, held[CHAMPION]))
            signature = signed or Signature.now()
            last = self.decision(deposed) or Decision(Outcome.WITHDRAWN, signature, deposed, restored)
            self.keep(deposed, last.withdrawn(signature, because, restored))
            self.keep(restored, Decision(Outcome.RESTORED, signature, restored, deposed, because=because))
            self._point(CHAMPION, former)
            with self._answering():
                self.client.delete_registered_model_alias(self.name, PREVIOUS)
        return restored

    def keep(self, ref: ModelRef, decision: Decision) -> None:
        """Keep a decision's record with a version: first the file, then the tag that finds it."""
        version, name = self._version(ref.name, ref.version), _record_name(decision)
        with TemporaryDirectory() as workspace, self._answering():
            record = Path(workspace) / f"{name}.json"
            record.write_text(decision.to_json())
            get_artifact_repository(version.source, self.address.uri).log_artifact(str(record), DECISIONS)
            self.client.set_model_version_tag(ref.name, ref.version, DECISION_TAG + name, decision.outcome.value)

    def decisions(self, ref: ModelRef) -> tuple[Decision, ...]:
        """Give the records of all decisions on a version, oldest first.

        Raises
        ------
        StoreError
            If one is gone or damaged.
        """
        version = self._version(ref.name, ref.version)
        names = sorted(tag.removeprefix(DECISION_TAG) for tag in version.tags if tag.startswith(DECISION_TAG))
        if not names:
            return ()
        with TemporaryDirectory() as workspace:
            folder = self._copy(f"{version.source.rstrip('/')}/{DECISIONS}", workspace)
            return tuple(_read_decision(folder / f"{name}.json") for name in names)

    def decision(self, ref: ModelRef) -> Decision | None:
        """Give the newest decision on a version; None if there was none."""
        return (self.decisions(ref) or (None,))[-1]

    def test_set(self) -> FrozenTest | None:
        """Give the frozen test set; None if none was frozen yet.

        Raises
        ------
        StoreError
            If it is gone or damaged.
        """
        run = self._model_tags().get(TEST_SET_TAG)
        if run is None:
            return None
        with self._answering():
            known = self.client.get_run(run)
        with TemporaryDirectory() as workspace:
            frozen = FrozenTest.open(self._copy(f"{known.info.artifact_uri}/{TEST_SET}", workspace))
        if frozen.digest != known.data.tags.get(TEST_SET_TAG):
            raise StoreError(f"run {run} holds another test set than was frozen; restore it or freeze one again")
        return frozen

    def freeze(self, frozen: FrozenTest, signed: Signature, *, anew: bool = True) -> FrozenTest:
        """Make this the test set of all further promotions; gives the one that is in force afterwards.

        Parameters
        ----------
        anew
            Off: one that was frozen before stays.
        """
        with self._lock(ALIAS_LOCK):
            if not anew and (former := self.test_set()):
                return former
            tags = {TEST_SET_TAG: frozen.digest, "sgcldff.by": signed.by, "sgcldff.at": signed.at}
            with self._run(None, "test-set", tags) as run, TemporaryDirectory() as workspace:
                self.attach(run, frozen.save(Path(workspace) / TEST_SET))
            with self._answering():
                self._ensure_name()
                self.client.set_registered_model_tag(self.name, TEST_SET_TAG, run)
        return frozen

    def _model_tags(self) -> dict[str, str]:
        with self._answering():
            try:
                return dict(self.client.get_registered_model(self.name).tags)
            except MlflowException as error:
                if error.error_code == MISSING:
                    return {}
                raise

    def _point(self, alias: str, number: str) -> None:
        with self._answering():
            self.client.set_registered_model_alias(self.name, alias, number)

    def _find(self, reference: str) -> ModelVersion:
        name, alias, number = parse_model_name(reference)
        if number is not None:
            return self._version(name, number)
        held = self.aliases(name)
        if alias not in held:
            raise InputError(f"{reference}: no such alias at {self.address}: {self._existing(name)}")
        return self._version(name, held[alias])

    def _version(self, name: str, number: str) -> ModelVersion:
        with self._answering():
            try:
                return self.client.get_model_version(name, number)
            except MlflowException as error:
                if error.error_code != MISSING:
                    raise
        raise InputError(f"models:/{name}/{number}: no such version at {self.address}: {self._existing(name)}")

    def _existing(self, name: str) -> str:
        with self._answering():
            models = sorted(model.name for model in self.client.search_registered_models())
            if name not in models:
                return known_models_hint(models)
            numbers = sorted(int(version.version) for version in self.client.search_model_versions(f"name='{name}'"))
        return str(RegisteredModel(self.aliases(name), list(map(str, numbers))))

    def _fetch(self, version: ModelVersion, part: str) -> Path:
        """Give a local folder with a part of a version: where it lies, or a copy kept for the next time."""
        uri = f"{version.source.rstrip('/')}/{part}"
        kept = self.address.folder / "models" / digest((uri, version.creation_timestamp))
        if uri.startswith("file:"):
            kept = Path(unquote(urlsplit(uri).path))
        elif not kept.is_dir():
            self._download(uri, kept)
        if not kept.is_dir():
            raise StoreError(
                f"{kept}: the registry at {self.address} points here, but it is gone; restore or train again"
            )
        return kept

    def _download(self, uri: str, kept: Path) -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        workspace = Path(mkdtemp(dir=kept.parent, suffix=".partial"))
        try:
            with self._answering():
                got = Path(download_artifacts(uri, dst_path=str(workspace), tracking_uri=self.address.uri))
            with locked(kept.parent / "downloads.lock"):
                if not kept.is_dir():
                    got.rename(kept)
        finally:
            rmtree(workspace, ignore_errors=True)


def _version(version: ModelVersion, aliases: tuple[str, ...]) -> Version:
    return Version(_ref(version), aliases, int(version.creation_timestamp), version.run_id or "", dict(version.tags))


def _ref(version: ModelVersion) -> ModelRef:
    return ModelRef(version.name, str(version.version), version.tags.get(DIGEST_TAG, ""))


def _record_name(decision: Decision) -> str:
    """Name a record by its time, so that names sort, and by its content."""
    stamp = re.sub(r"[^0-9T]", "", decision.signed.at.removesuffix("+00:00"))
    return f"{stamp}-{digest((decision.to_json(),))[:8]}"


def _read_decision(path: Path) -> Decision:
    if not path.is_file():
        raise StoreError(f"{path.name}: a tag names this decision record, but it is gone; restore it")
    return Decision.from_json(path.read_text())


def _listed(aliases: Mapping[str, str]) -> str:
    return "aliases " + (", ".join(f"{alias} (version {number})" for alias, number in aliases.items()) or "none")


def _overtaken(ref: ModelRef, champion: str | None) -> str:
    now = f"version {champion}" if champion else "nobody"
    return f"version {ref.version} is not promoted: another promotion came first, champion is now {now}; compare again"
