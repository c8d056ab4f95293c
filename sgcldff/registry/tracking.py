"""Runs in MLflow: parameters, figures, files and curves of one experiment, and the connection that all of it needs."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from sgcldff.core.errors import InputError, ServiceError, StoreError
from sgcldff.core.locations import Address
from sgcldff.core.locks import locked
from sgcldff.registry.packaging import code_tags

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

DEFAULT_NAME = "sgcldff"
SETUP_LOCK = "setup.lock"
BATCH = 100
"""Parameters or tags that MLflow takes in one request."""
MISSING, EXISTS, INVALID = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE"
DENIED = (401, 403)
"""HTTP status without a login, and with one that does not suffice."""


class Runs:
    """Runs of one experiment.

    Parameters
    ----------
    location
        A folder (made if needed; holds a SQLite database and the artifacts), `sqlite:///` and a path, or the address
        of an MLflow server.
    name
        Of the experiment.
    """

    def __init__(self, location: str | Path = "mlflow", name: str = DEFAULT_NAME) -> None:
        self.name = name
        self.address = Address.parse(location)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; the first contact makes a SQLite database ready."""
        with self._lock(SETUP_LOCK), self._answering():
            client = MlflowClient(self.address.uri, self.address.uri)
            client.search_experiments(max_results=1)
        return client

    @cached_property
    def experiment_id(self) -> str:
        """The experiment that holds the runs; made if needed."""
        client = self.client
        with self._lock(SETUP_LOCK), self._answering():
            known = client.get_experiment_by_name(self.name)
            return str(known.experiment_id if known else client.create_experiment(self.name, self.address.artifacts))

    def start(self, run_name: str, tags: Mapping[str, str] | None = None) -> str:
        """Begin a run and give its id."""
        with self._answering():
            run = self.client.create_run(self.experiment_id, run_name=run_name, tags=dict(tags or {}) | code_tags())
        return str(run.info.run_id)

    def log(self, run_id: str, params: Mapping[str, object], metrics: Mapping[str, float] | None = None) -> None:
        """Add parameters and figures to a run."""
        written = [Param(key, str(value)) for key, value in params.items()]
        now = int(time.time() * 1000)
        figures = [Metric(key, float(value), now, 0) for key, value in (metrics or {}).items()]
        with self._answering():
            for at in range(0, len(written), BATCH):
                self.client.log_batch(run_id, params=written[at : at + BATCH])
            self.client.log_batch(run_id, metrics=figures)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to a run."""
        with self._answering():
            self.client.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def attach(self, run_id: str, path: str | Path, place: str | None = None) -> None:
        """Add a file, or all files of a folder, to a run's artifacts, under `place`."""
        with self._answering():
            if Path(path).is_dir():
                self.client.log_artifacts(run_id, str(path), place)
            else:
                self.client.log_artifact(run_id, str(path), place)

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """End a run."""
        with self._answering():
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def curves(self, run_id: str) -> dict[str, list[tuple[int, float]]]:
        """Give the (step, value) of all figures that were logged into a run, in the order of the steps."""
        with self._answering():
            names = self.client.get_run(run_id).data.metrics
            logged = {name: self.client.get_metric_history(run_id, name) for name in names}
        return {name: sorted((one.step, one.value) for one in curve) for name, curve in logged.items()}

    def experiment_logger(self, run_id: str) -> "Logger":
        """Give a Lightning logger that writes curves into a run."""
        from lightning.pytorch.loggers import MLFlowLogger  # takes seconds, which only training needs to spend

        logger = MLFlowLogger(self.name, tracking_uri=self.address.uri, run_id=run_id, log_model=False)
        with self._answering(), unchanged("MLFLOW_TRACKING_URI"):
            assert logger.experiment is not None
        return logger

    @contextmanager
    def _run(self, run_id: str | None, name: str, tags: Mapping[str, str] | None = None) -> Iterator[str]:
        """Give the run with that id, or a new one that ends with the block."""
        if run_id is not None:
            yield run_id
            return
        made, failed = self.start(name, tags), True
        try:
            yield made
            failed = False
        finally:
            self.finish(made, failed=failed)

    def _copy(self, uri: str, folder: str) -> Path:
        """Copy an artifact, or a folder of them, into a folder of this machine.

        Raises
        ------
        StoreError
            If it is gone.
        """
        try:
            with self._answering():
                return Path(download_artifacts(uri, dst_path=folder, tracking_uri=self.address.uri))
        except ServiceError:
            raise
        except (MlflowException, OSError) as error:
            raise StoreError(f"{uri}: the registry points here, but it is gone ({error}); restore it") from error

    def _lock(self, name: str) -> AbstractContextManager[None]:
        return locked(self.address.folder / name)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what MLflow raises into errors that say what to do; what is missing or exists is for the caller."""
        try:
            yield
        except MlflowException as error:
            if error.error_code in (MISSING, EXISTS):
                raise
            text = str(error).replace(self.address.uri, str(self.address))
            if error.get_http_status_code() in DENIED:
                raise ServiceError(
                    f"MLflow at {self.address} refuses access: set MLFLOW_TRACKING_USERNAME and "
                    "MLFLOW_TRACKING_PASSWORD to a user who may do this"
                ) from None
            if error.error_code == INVALID:
                raise InputError(f"MLflow at {self.address} refuses: {text}") from error
            refusal = re.search(r"\[Errno -?[0-9]+\] [^\"')]+", text)
            raise ServiceError(self._unanswered(refusal[0] if refusal else text)) from None
        except RequestException as error:
            raise ServiceError(self._unanswered(type(error).__name__)) from None
        except SQLAlchemyError as error:
            raise ServiceError(self._unanswered(str(error).splitlines()[0])) from error

    def _unanswered(self, why: str) -> str:
        return f"MLflow at {self.address} does not answer ({why}): start it, or name another registry"


@contextmanager
def unchanged(variable: str) -> Iterator[None]:
    """Undo what a block does to an environment variable: a logger would leave its own server to the whole process."""
    given = os.environ.pop(variable, None)
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if given is not None:
            os.environ[variable] = given
