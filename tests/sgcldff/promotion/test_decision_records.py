"""Decision records and the frozen test set in a real registry, and promotions that race on a real MLflow server."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sgcldff.core.errors import PromotionRefusedError, StoreError
from sgcldff.core.records import ModelRef, Sample
from sgcldff.core.settings import ModelSpec
from sgcldff.models.model import save_model
from sgcldff.models.nets import build
from sgcldff.promotion import Attribution, Basis, Decision, Finding, FrozenTest, Outcome
from sgcldff.registry import Registry
from tests.servers import mlflow_server
from tests.shared import RACE
from tests.small import SMALL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SPEC = ModelSpec(net=SMALL)
ADA = Attribution("ada", "2026-11-24T06:00:00.000001+00:00", "lab")
BASIS = Basis("testset", 9, 8, "catalog", {"margin": 0.01}, "0.1.0", "code")
FROZEN = FrozenTest((Sample("s/a", "s", "g", "/a.png", 0.2, "none", label="monocyte", sha256="ab" * 32),))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("trained"), SPEC, build(SPEC))


@pytest.fixture(scope="module")
def empty(mlflow_tables: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("empty")
    assert Registry(home).client
    return home


def filled(registry: Registry, model: Path) -> Registry:
    """Register three versions, the first of which is champion."""
    first = registry.register(model)
    version = registry.client.get_model_version(registry.name, first.version)
    given = {"run_id": version.run_id, "tags": version.tags, "model_id": version.source.split("/")[-2]}
    for _ in range(2):
        registry.client.create_model_version(registry.name, version.source, **given)
    registry.promote(first)
    return registry


@pytest.fixture(scope="module")
def seed(empty: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = shutil.copytree(empty, tmp_path_factory.mktemp("seed") / "registry")
    return filled(Registry(home), model).address.folder


@pytest.fixture
def registry(seed: Path, tmp_path: Path) -> Registry:
    return Registry(shutil.copytree(seed, tmp_path / "registry"))


def ref(number: int, registry: Registry) -> ModelRef:
    return registry.resolve(f"models:/sgcldff/{number}")[0]


def decision(registry: Registry, number: int, outcome: Outcome = Outcome.PROMOTED, at: str = ADA.at) -> Decision:
    findings = (Finding("score", True, "as good", 0.9, 0.91, 0.01, -0.005, 0.02, -0.01),)
    signed = replace(ADA, at=at)
    return Decision(outcome, signed, ref(number, registry), ref(1, registry), BASIS, findings)


def test_records_are_kept_with_the_version_oldest_first(registry: Registry) -> None:
    waiting = decision(registry, 2, Outcome.WAITING)
    approved = replace(waiting, outcome=Outcome.PROMOTED, signed=replace(ADA, at="2026-11-24T06:00:00.000002+00:00"))
    for one in (approved, waiting):
        registry.keep(one.challenger, one)
    assert registry.decisions(waiting.challenger) == (waiting, approved)
    assert registry.decision(waiting.challenger) == approved
    assert registry.decision(ref(1, registry)) is None
    assert {found.ref.version: found.outcome for found in registry.versions()} == {"1": "", "2": "promoted", "3": ""}


def test_a_record_that_is_gone_is_said_so(registry: Registry) -> None:
    one = decision(registry, 3, at="2026-11-24T07:00:00.000000+00:00")
    registry.keep(one.challenger, one)
    source = registry.client.get_model_version("sgcldff", "3").source
    for path in (Path(source.removeprefix("file://")) / "decisions").glob("20261124T07*.json"):
        path.unlink()
    with pytest.raises(StoreError, match="it is missing"):
        registry.decision(one.challenger)


def test_no_champion_is_without_a_record(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion that dies while the record is written moves nothing."""

    def die(*given: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(registry, "keep", die)
    with pytest.raises(OSError, match="disk full"):
        registry.promote(ref(2, registry), registry.aliases(), decision(registry, 2))
    assert registry.aliases()["champion"] == "1"
    monkeypatch.undo()
    registry.promote(ref(2, registry), registry.aliases(), decision(registry, 2))
    assert registry.decision(ref(2, registry)) == decision(registry, 2)


def test_a_promotion_that_is_refused_leaves_no_record_of_a_promotion(registry: Registry) -> None:
    registry.promote(ref(3, registry), registry.aliases())
    with pytest.raises(PromotionRefusedError):
        registry.promote(ref(2, registry), {"champion": "1"}, decision(registry, 2))
    assert registry.decision(ref(2, registry)) is None


def test_a_record_with_whole_numbers_is_not_taken_for_damaged(registry: Registry) -> None:
    counted = Finding("leakage", True, "no image is known", figure=0, limit=0)
    kept = Decision(Outcome.REFUSED, Attribution.now("ada"), ref(1, registry), None, findings=(counted,))
    registry.keep(ref(1, registry), kept)
    assert registry.decision(ref(1, registry)) == kept


def test_a_rollback_is_recorded_with_both_versions(registry: Registry) -> None:
    promoted = decision(registry, 2)
    registry.promote(promoted.challenger, registry.aliases(), promoted)
    later = Attribution("eve", "2026-11-24T08:00:00.000000+00:00")
    assert registry.rollback(later, "missed blasts") == ref(1, registry)
    withdrawn, restored = (registry.decision(ref(number, registry)) for number in (2, 1))
    assert withdrawn == promoted.withdrawn(later, "missed blasts", ref(1, registry))
    assert restored is not None
    assert (restored.outcome, restored.because, restored.signed) == (Outcome.RESTORED, "missed blasts", later)


def test_the_frozen_test_set_stays_until_it_is_frozen_anew(registry: Registry) -> None:
    assert registry.test_set() is None
    assert registry.freeze(FROZEN, ADA, replace=False) == FROZEN
    other = FrozenTest((replace(FROZEN.samples[0], label="lymphocyte"),))
    assert registry.freeze(other, ADA, replace=False) == FROZEN
    assert Registry(registry.address.folder).test_set() == FROZEN
    assert registry.freeze(other, ADA) == other
    assert registry.test_set() == other
    run = registry.client.get_registered_model("sgcldff").tags["sgcldff.test_set"]
    assert registry.client.get_run(run).data.tags["sgcldff.by"] == "ada"


def test_a_frozen_test_set_that_was_touched_is_refused(registry: Registry) -> None:
    registry.freeze(FROZEN, ADA)
    run = registry.client.get_registered_model("sgcldff").tags["sgcldff.test_set"]
    place = registry.client.get_run(run).info.artifact_uri.removeprefix("file://")
    FrozenTest((replace(FROZEN.samples[0], label="basophil"),)).save(Path(place) / "test_set.parquet")
    with pytest.raises(StoreError, match="not the one that was frozen"):
        registry.test_set()
    (Path(place) / "test_set.parquet").unlink()
    with pytest.raises(StoreError, match="it is missing"):
        registry.test_set()


def test_what_is_done_to_records_in_the_registry_is_found(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, outcome in ((2, Outcome.WAITING), (3, Outcome.REFUSED), (2, Outcome.PROMOTED)):
        one = decision(registry, number, outcome, f"2026-11-24T0{number}:00:00.000000+00:00")
        registry.keep(one.challenger, one)
    client, chain = registry.client, registry.verify_decisions()
    assert (chain.records, chain.faults) == (3, ())
    assert chain.newest.startswith("2/20261124T02")
    tag = next(tag for tag in client.get_model_version("sgcldff", "3").tags if tag.startswith("sgcldff.decision."))
    client.delete_model_version_tag("sgcldff", "3", tag)
    (fault,) = registry.verify_decisions().faults
    assert fault.startswith(f"3/{tag.removeprefix('sgcldff.decision.')}: removed, although 2/2026")
    client.set_model_version_tag("sgcldff", "3", tag, "refused")
    assert registry.verify_decisions().faults == ()

    set_tag, withdrawn = (
        client.set_registered_model_tag,
        decision(registry, 2, Outcome.WITHDRAWN, "2026-11-25T02:00:00"),
    )

    def set_tag_and_die(*given: str) -> None:
        set_tag(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "set_registered_model_tag", set_tag_and_die)
    with pytest.raises(KeyboardInterrupt):
        registry.keep(withdrawn.challenger, withdrawn)
    monkeypatch.undo()
    assert "20261125T020000" in registry.verify_decisions().faults[0]
    rejected = decision(registry, 3, Outcome.REJECTED, "2026-11-25T03:00:00")
    registry.keep(rejected.challenger, rejected)
    assert registry.verify_decisions().faults == ()
    assert registry.decision(withdrawn.challenger) == withdrawn


@pytest.fixture
def server(empty: Path, model: Path, tmp_path: Path) -> Iterator[str]:
    """Start MLflow on loopback, with three versions."""
    with mlflow_server(shutil.copytree(empty, tmp_path / "server")) as variables:
        yield filled(Registry(variables["MLFLOW_TRACKING_URI"]), model).address.uri


RIVALS = """
import multiprocessing, sys
from sgcldff.core.errors import PromotionRefusedError
from sgcldff.promotion import Attribution, Decision, Outcome
from sgcldff.registry import Registry

def promote(address, number, barrier, ends):
    registry = Registry(address)
    mine, champion = (registry.resolve(f"models:/sgcldff/{one}")[0] for one in (number, "1"))
    seen = registry.aliases()
    barrier.wait(120)
    try:
        registry.promote(mine, seen, Decision(Outcome.PROMOTED, Attribution.now(f"rival {number}"), mine, champion))
        ends.put((number, "won"))
    except PromotionRefusedError as error:
        ends.put((number, "lost: " + str(error)))

"""


def test_of_two_processes_that_promote_on_a_server_one_wins_and_the_other_is_told(server: str, tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-c", RIVALS + RACE, server],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    ends = dict(line.split(" ", 1) for line in run.stdout.splitlines() if line[:2] in ("2 ", "3 "))
    (winner,) = [number for number, end in ends.items() if end == "won"]
    (loser,) = {"2", "3"} - {winner}
    assert f"the champion is now version {winner}" in ends[loser]
    registry = Registry(server)
    assert registry.aliases() == {"challenger": "1", "champion": winner, "previous": "1"}
    kept = registry.decision(ref(int(winner), registry))
    assert kept is not None
    assert kept.signed.by == f"rival {winner}"
    assert registry.versions()[0].outcome == ("promoted" if winner == "3" else "")
    registry.freeze(FROZEN, ADA)
    assert registry.test_set() == FROZEN
