"""Promotion through the flow and the command line: refusals with their records, approval, leaks, a changed test set."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from typer.testing import CliRunner

from flows.cli import app
from flows.infer import infer
from flows.promote import promote, reject, rollback
from sgcldff.core.errors import InputError, PromotionRefusedError
from sgcldff.core.labels import FIVE_TYPES, LabelSpace
from sgcldff.core.records import ArrayRef, ModelRef, Sample, Split
from sgcldff.core.settings import ModelSpec, NetSpec, PriorSpec, TrainSpec
from sgcldff.data.catalog import Catalog
from sgcldff.promotion import Attribution, FrozenTest, Outcome, judgement
from sgcldff.registry import CHAMPION, Registry
from tasks.compute import Compute
from tasks.data import Prepared
from tasks.slides import read_slide
from tasks.training import TrainJob, training_record
from tasks.workspace import Workspace

SECOND = "models:/sgcldff/2"
ADA = Attribution("ada", "2026-11-24T06:00:00+00:00")


@pytest.fixture(scope="module")
def decided(contest, tmp_path_factory) -> Path:
    """Copy the workspace in which version 1 is champion and version 2 was refused, for this module to change."""
    return shutil.copytree(contest.lab.workspace, tmp_path_factory.mktemp("decided") / "workspace")


@pytest.fixture
def workspace(contest, tmp_path) -> str:
    """Copy the workspace in which version 1 is champion and version 2 was refused, for one test to change."""
    return str(shutil.copytree(contest.lab.workspace, tmp_path / "workspace"))


@pytest.fixture
def sgcldff():
    """Give the function that runs the command line; a failure is raised."""
    before = dict(os.environ)

    def run(*arguments: object) -> str:
        return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False).output

    yield run
    os.environ.clear()
    os.environ.update(before)


def registry_of(workspace: str | Path) -> Registry:
    return Registry(Workspace(str(workspace)).tracking_uri)


def second(workspace: str | Path) -> ModelRef:
    return registry_of(workspace).resolve(SECOND)[0]


def test_the_first_promotion_freezes_the_test_split_and_keeps_its_record(contest):
    registry = registry_of(contest.lab.workspace)
    catalog = Catalog.open(Workspace(contest.lab.workspace).catalog)
    frozen = registry.test_set()
    assert frozen == FrozenTest.of(catalog.select(Split.TEST))
    first, *_ = registry.decisions(contest.lab.first.challenger.model)
    assert (first.outcome, first.champion, first.approved_by) == (Outcome.PROMOTED, None, "")
    assert [finding.rule for finding in first.findings] == ["test set", "leakage", "champion"]
    assert (first.evidence.test_set, first.evidence.training) == (frozen.digest, catalog.digest)


def test_a_refusal_is_kept_with_all_that_was_found(contest):
    registry = registry_of(contest.lab.workspace)
    refused, *_ = registry.decisions(contest.second.challenger.model)
    assert refused.outcome is Outcome.REFUSED
    assert refused.challenger == contest.second.challenger.model
    assert refused.champion == contest.lab.first.challenger.model
    rules = [finding.rule for finding in refused.findings]
    assert rules[:3] == ["test set", "leakage", "score"]
    assert {"calibration", "score under noise", "speed", "memory"} <= set(rules)
    assert [finding.rule for finding in refused.findings if not finding.passed] == ["score"]
    assert refused.evidence.rules["margin"] == -0.9
    assert refused.reasons[0] in contest.second.outcome
    (version, *_) = registry.versions()
    assert version.outcome in {"refused", "promoted", "withdrawn"}


def test_the_decision_is_an_artifact_on_prefects_page(contest):
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["verdict"])))
    pages = [item.data for item in found]
    assert any("# Refused: version 2" in page and "| score |" in page for page in pages)


def test_show_lists_versions_and_tells_on_what_one_was_decided(contest, sgcldff, decided):
    listed = sgcldff("registry", "show", "-w", decided)
    assert "challenger" in listed
    assert "refused" in listed
    assert "Frozen test set:" in listed
    told = sgcldff("registry", "show", SECOND, "-w", decided)
    for part in ("Refused", "sgcldff version 2", "mean score", "test set:", "leakage", "speed", "interval"):
        assert part in told, part
    versions = json.loads(sgcldff("registry", "show", "--json", "-w", decided))
    assert versions["test_set"] == registry_of(decided).test_set().digest
    assert [item["outcome"] for item in versions["versions"]] == ["refused", "promoted"]
    one = json.loads(sgcldff("registry", "show", SECOND, "--json", "-w", decided))
    assert one["decisions"][-1]["outcome"] == "refused"
    assert one["decisions"][-1]["findings"][0]["rule"] == "test set"
    assert one["decisions"][-1]["reasons"]


def test_a_person_approves_and_a_rollback_holds_until_it_is_overruled(workspace, sgcldff, quick):
    registry = registry_of(workspace)
    waiting = promote(workspace, SECOND, quick(approval=True), by="nightly")
    assert waiting.outcome is Outcome.WAITING
    assert "waits for approval" in str(waiting)
    assert registry.aliases()[CHAMPION] == "1"
    assert "Champion is sgcldff version 2." in sgcldff("registry", "approve", SECOND, "--by", "ada", "-w", workspace)
    assert registry.aliases()[CHAMPION] == "2"
    _, asked, approved = registry.decisions(second(workspace))
    assert (asked.outcome, asked.signed.by) == (Outcome.WAITING, "nightly")
    assert (approved.outcome, approved.approved_by, approved.findings) == (Outcome.PROMOTED, "ada", asked.findings)

    assert rollback(workspace, "eve").version == "1"
    assert registry.decision(second(workspace)).outcome is Outcome.WITHDRAWN
    restored = registry.decision(registry.resolve("models:/sgcldff@champion")[0])
    assert (restored.outcome, restored.signed.by, restored.champion.version) == (Outcome.RESTORED, "eve", "2")
    with pytest.raises(PromotionRefusedError, match="withdrawn by eve"):
        promote(workspace, SECOND, quick())
    assert registry.aliases()[CHAMPION] == "1"
    assert promote(workspace, SECOND, quick(), overrule=True).outcome is Outcome.PROMOTED
    assert registry.aliases()[CHAMPION] == "2"


def test_a_person_rejects_with_a_reason(workspace, sgcldff, quick):
    registry = registry_of(workspace)
    promote(workspace, SECOND, quick(approval=True))
    out = sgcldff("registry", "reject", SECOND, "--by", "ada", "--because", "stains look odd", "-w", workspace)
    assert "Rejected sgcldff version 2." in out
    told = sgcldff("registry", "show", SECOND, "-w", workspace)
    assert "stains look odd" in told
    assert "before: waiting for approval" in told
    with pytest.raises(PromotionRefusedError, match=r"rejected by ada at .*stains look odd"):
        promote(workspace, SECOND, quick())
    assert registry.aliases()[CHAMPION] == "1"
    with pytest.raises(InputError, match="is champion"):
        reject(workspace, "models:/sgcldff@champion", "no")
    with pytest.raises(InputError, match="no reason"):
        reject(workspace, SECOND, " ")


def test_an_approval_that_comes_too_late_is_refused(workspace, sgcldff, quick):
    registry = registry_of(workspace)
    with pytest.raises(PromotionRefusedError, match=r"only a version that waits for approval.*is refused"):
        sgcldff("registry", "approve", SECOND, "-w", workspace)
    promote(workspace, SECOND, quick(approval=True))
    registry.freeze(FrozenTest(registry.test_set().samples[1:]), ADA)
    with pytest.raises(PromotionRefusedError, match="no longer valid: another test set is frozen"):
        sgcldff("registry", "approve", SECOND, "-w", workspace)
    assert registry.aliases()[CHAMPION] == "1"


def test_a_test_set_that_was_learned_from_refuses(workspace, quick):
    registry, catalog = registry_of(workspace), Catalog.open(Workspace(workspace).catalog)
    learned = catalog.select(Split.TRAIN)[0]
    registry.freeze(FrozenTest.of([*catalog.select(Split.TEST), learned]), ADA)
    with pytest.raises(PromotionRefusedError, match=f"challenger saw 1 of the test images: trained on {learned.id}"):
        promote(workspace, SECOND, quick())
    record = registry.decision(second(workspace))
    assert record.outcome is Outcome.REFUSED
    assert [finding.rule for finding in record.findings] == ["test set", "leakage", "leakage of the champion"]
    assert registry.aliases()[CHAMPION] == "1"


def test_who_begins_with_a_models_weights_or_outlines_learned_from_its_images_too(tmp_path):
    given = NetSpec(), PriorSpec(), TrainSpec()
    prepared = Prepared("", "catalog", 1, 0, ArrayRef("", "", ""))
    own = [Sample("s/a", "s", "g", "a.png", 0.2, "none", sha256="own", split=Split.TRAIN)]
    own += [replace(own[0], id="s/b", sha256="kept", split=Split.TEST)]
    assert training_record(own, TrainJob(prepared, *given))["sha256"] == ["own"]
    unknown = training_record(own, TrainJob(prepared, *given, str(tmp_path)))
    assert (unknown["sha256"], unknown["complete"]) == (["own"], False)
    (tmp_path / "trained_on.json").write_text('{"sha256": ["kept"], "data": "former"}')
    heir = training_record(own, TrainJob(prepared, *given, str(tmp_path)))
    assert heir == {"sha256": ["kept", "own"], "data": "catalog", "complete": True}
    assert training_record(own, TrainJob(prepared, *given, teacher=str(tmp_path))) == heir


def test_a_test_set_that_changed_refuses_until_it_is_frozen_anew(workspace, sgcldff, quick, tmp_path):
    registry, test = registry_of(workspace), Catalog.open(Workspace(workspace).catalog).select(Split.TEST)
    lost = replace(test[0], id="lost/one", image=str(tmp_path / "lost.png"), sha256="0" * 64)
    registry.freeze(FrozenTest.of([*test, lost]), ADA)
    with pytest.raises(PromotionRefusedError, match=r"lost/one no longer has its image .*sgcldff registry freeze"):
        promote(workspace, SECOND, quick())
    assert registry.decision(second(workspace)).outcome is Outcome.REFUSED
    assert f"{len(test)} images" in sgcldff("registry", "freeze", "--by", "ada", "-w", workspace)
    assert promote(workspace, SECOND, quick()).outcome is Outcome.PROMOTED


def test_both_are_compared_on_images_whose_labels_the_champion_can_tell(workspace, quick, monkeypatch):
    test = Catalog.open(Workspace(workspace).catalog).select(Split.TEST)
    lacking = next(sample.label for sample in test if sample.label)
    told = LabelSpace(tuple(name for name in FIVE_TYPES if name != lacking))
    monkeypatch.setattr(judgement, "read_spec", lambda path: ModelSpec(labels=told))
    assert promote(workspace, SECOND, quick()).outcome is Outcome.PROMOTED
    found = {finding.rule: finding for finding in registry_of(workspace).decision(second(workspace)).findings}
    without = sum(sample.label == lacking for sample in test)
    assert found["shared labels"].figure == without > 0
    assert f"compared on {len(test) - without} images" in found["shared labels"].text


def test_who_comes_second_is_told_and_so_is_the_record(workspace, quick, monkeypatch):
    """Another promotion is done while this one still measures."""
    registry, costs = registry_of(workspace), judgement.costs

    def meanwhile(*given):
        registry.client.set_registered_model_alias("sgcldff", CHAMPION, "2")
        third = registry.client.get_model_version("sgcldff", "2")
        made = registry.client.create_model_version("sgcldff", third.source, tags=third.tags)
        registry.client.set_registered_model_alias("sgcldff", CHAMPION, str(made.version))
        return costs(*given)

    monkeypatch.setattr(judgement, "costs", meanwhile)
    with pytest.raises(PromotionRefusedError, match="another promotion came first, and the champion is now version 3"):
        promote(workspace, SECOND, quick())
    record = registry.decision(second(workspace))
    assert (record.outcome, record.findings[-1].rule) == (Outcome.REFUSED, "turn")
    assert registry.aliases()[CHAMPION] == "3"


def test_a_batch_keeps_the_version_with_which_it_began(workspace, slide, tmp_path, quick, monkeypatch):
    """The alias moves between two slides of a batch."""
    (tmp_path / "slides").mkdir()
    for name in ("a", "b"):
        shutil.copy(slide.slide, tmp_path / "slides" / f"{name}.tiff")
    registry, read = registry_of(workspace), read_slide.function

    def then_promoted(*given, **how):
        done = read(*given, **how)
        registry.promote(second(workspace))
        return done

    monkeypatch.setattr(read_slide, "function", then_promoted)
    champion = registry.resolve("models:/sgcldff@champion")[0]
    where = [str(tmp_path / "slides")], str(tmp_path / "out"), workspace, "models:/sgcldff@champion"
    folders = infer(*where, compute=Compute(workers=0), settings=quick())
    assert registry.resolve("models:/sgcldff@champion")[0].version == "2"
    for folder in folders:
        table = pq.read_table(Path(folder) / "cells.parquet", columns=["model_version", "model_digest"])
        assert {tuple(row.values()) for row in table.to_pylist()} <= {(champion.version, champion.digest)}
    batch = pq.read_table(tmp_path / "out" / "batch.parquet").to_pylist()
    assert [(row["model_version"], row["model_digest"]) for row in batch] == [(champion.version, champion.digest)] * 2
