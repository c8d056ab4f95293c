"""Runs in MLflow: parameters, metrics, files and curves of one experiment, and the connection to MLflow."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, Metric, Param, RunTag
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from sgcldff.core.disks import private_file
from sgcldff.core.errors import InputError, ServiceError, StoreError
from sgcldff.core.locations import Address
from sgcldff.core.locks import locked
from sgcldff.registry.packaging import code_tags

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

DEFAULT_NAME = "sgcldff"
SETUP_LOCK = "setup.lock"
PARAMS_PER_REQUEST = 100
"""Largest number of parameters that MLflow accepts in one request."""
MISSING, EXISTS, INVALID = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE"
DENIED = (401, 403)
"""HTTP status without credentials, and with insufficient ones."""


@dataclass(frozen=True)
class DataSet:
    """Images or slides, as runs and metrics refer to them."""

    name: str
    digest: str
    """At most 36 characters."""
    uri: str
    """Where they, or a list of them, lie."""


class Runs:
    """Runs of one experiment.

    Parameters
    ----------
    location
        A folder (created if needed, for a SQLite database and the artifacts), `sqlite:///` and a path, or the address
        of an MLflow server.
    name
        Name of the experiment.
    """

    def __init__(self, location: str | Path = "mlflow", name: str = DEFAULT_NAME) -> None:
        self.name = name
        self.address = Address.parse(location)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; the first contact creates or migrates a SQLite database."""
        with self.lock(SETUP_LOCK), self.answering():
            if self.address.database is not None:
                private_file(self.address.database)
            client = MlflowClient(self.address.uri, self.address.uri)
            client.search_experiments(max_results=1)
        return client

    @cached_property
    def experiment_id(self) -> str:
        """Id of the experiment, which is created if needed."""
        client = self.client
        with self.lock(SETUP_LOCK), self.answering():
            experiment = client.get_experiment_by_name(self.name)
            return str(
                experiment.experiment_id if experiment else client.create_experiment(self.name, self.address.artifacts)
            )

    def registered_model(self, name: str) -> RegisteredModel | None:
        """Return MLflow's entry of a model, with its aliases and tags; None if nothing is registered by that name."""
        with self.answering():
            try:
                return self.client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code != MISSING:
                    raise
        return None

    def start(self, run_name: str, tags: Mapping[str, str] | None = None) -> str:
        """Start a run and return its id."""
        with self.answering():
            run = self.client.create_run(self.experiment_id, run_name=run_name, tags=dict(tags or {}) | code_tags())
        return str(run.info.run_id)

    def finished(self, tag: str, value: str) -> str | None:
        """Return the id of a finished run with this tag; None if there is none."""
        condition = f"tags.`{tag}` = '{value}' AND attributes.status = 'FINISHED'"
        with self.answering():
            found = self.client.search_runs([self.experiment_id], condition, max_results=1)
        return str(found[0].info.run_id) if found else None

    def log(
        self,
        run_id: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float] | None = None,
        model_id: str | None = None,
        data: DataSet | None = None,
    ) -> None:
        """Add parameters and metrics to a run.

        Parameters
        ----------
        model_id, data
            The logged model that the metrics belong to, and the images on which they were measured: MLflow compares
            models by the metrics that name the same data set.
        """
        entries = [Param(key, str(value)) for key, value in params.items()]
        now = int(time.time() * 1000)
        named = {"dataset_name": data.name, "dataset_digest": data.digest} if data else {}
        values = [
            Metric(key, float(value), now, 0, model_id, run_id=run_id, **named)
            for key, value in (metrics or {}).items()
        ]
        with self.answering():
            for at in range(0, len(entries), PARAMS_PER_REQUEST):
                self.client.log_batch(run_id, params=entries[at : at + PARAMS_PER_REQUEST])
            self.client.log_batch(run_id, metrics=values)

    def add_inputs(self, run_id: str, context: str, data: DataSet, model_id: str | None = None) -> None:
        """List a data set, and a logged model, among what a run used.

        Parameters
        ----------
        context
            What the data set was used for, such as "training".
        """
        listed = Dataset(data.name, data.digest, "local", json.dumps({"uri": data.uri}))
        models = [LoggedModelInput(model_id)] if model_id else []
        with self.answering():
            self.client.log_inputs(run_id, [DatasetInput(listed, [InputTag(MLFLOW_DATASET_CONTEXT, context)])], models)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to a run."""
        with self.answering():
            self.client.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def attach(self, run_id: str, path: str | Path, folder: str | None = None) -> None:
        """Add a file, or all files of a folder, to a run's artifacts, in `folder`."""
        with self.answering():
            if Path(path).is_dir():
                self.client.log_artifacts(run_id, str(path), folder)
            else:
                self.client.log_artifact(run_id, str(path), folder)

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """End a run."""
        with self.answering():
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def curves(self, run_id: str) -> dict[str, list[tuple[int, float]]]:
        """Return all metrics of a run as (step, value), in the order of the steps."""
        with self.answering():
            names = self.client.get_run(run_id).data.metrics
            logged = {name: self.client.get_metric_history(run_id, name) for name in names}
        return {name: sorted((one.step, one.value) for one in curve) for name, curve in logged.items()}

    def experiment_logger(self, run_id: str) -> "Logger":
        """Return a Lightning logger that writes curves into a run."""
        from lightning.pytorch.loggers import MLFlowLogger  # slow to import, and needed for training only

        logger = MLFlowLogger(self.name, tracking_uri=self.address.uri, run_id=run_id, log_model=False)
        with self.answering(), unchanged("MLFLOW_TRACKING_URI"):
            assert logger.experiment is not None
        return logger

    @contextmanager
    def run(self, run_id: str | None, name: str, tags: Mapping[str, str] | None = None) -> Iterator[str]:
        """Yield the id of an existing run, or of a new one that ends with the block."""
        if run_id is not None:
            yield run_id
            return
        new, failed = self.start(name, tags), True
        try:
            yield new
            failed = False
        finally:
            self.finish(new, failed=failed)

    def download(self, uri: str, folder: str) -> Path:
        """Copy an artifact, or a folder of artifacts, into a local folder.

        Raises
        ------
        StoreError
            If it is missing.
        """
        try:
            with self.answering():
                return Path(download_artifacts(uri, dst_path=folder, tracking_uri=self.address.uri))
        except ServiceError:
            raise
        except (MlflowException, OSError) as error:
            raise StoreError(f"{uri}: the registry points here, but it is missing ({error}); restore it") from error

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Lock the registry's folder against other processes, under a name."""
        return locked(self.address.folder / name)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Translate MLflow's errors into ours, with remedies; `MISSING` and `EXISTS` are left to the caller."""
        try:
            yield
        except MlflowException as error:
            if error.error_code in (MISSING, EXISTS):
                raise
            text = str(error).replace(self.address.uri, str(self.address))
            if error.get_http_status_code() in DENIED:
                raise ServiceError(
                    f"MLflow at {self.address} refuses access: set MLFLOW_TRACKING_USERNAME and "
                    "MLFLOW_TRACKING_PASSWORD to a user with the necessary rights"
                ) from None
            if error.error_code == INVALID:
                raise InputError(f"MLflow at {self.address} refuses: {text}") from error
            refusal = re.search(r"\[Errno -?[0-9]+\] [^\"')]+", text)
            raise self._no_answer(refusal[0] if refusal else text) from None
        except RequestException as error:
            raise self._no_answer(type(error).__name__) from None
        except SQLAlchemyError as error:
            raise self._no_answer(str(error).splitlines()[0]) from error

    def _no_answer(self, reason: str) -> ServiceError:
        return ServiceError(f"MLflow at {self.address} does not answer ({reason}): start it, or name another registry")


@contextmanager
def unchanged(variable: str) -> Iterator[None]:
    """Restore an environment variable after the block; MLflow's logger would set it for the whole process."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if value is not None:
            os.environ[variable] = value
