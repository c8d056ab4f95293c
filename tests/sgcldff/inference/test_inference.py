"""Slides are painted so that a model of two colour thresholds segments them exactly."""

import hashlib
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgcldff.core.atomic import DRAFT
from sgcldff.core.errors import InputError, SlideError
from sgcldff.core.geometry import Box
from sgcldff.core.records import ATYPICAL, UNCERTAIN, UNIDENTIFIED, ModelRef
from sgcldff.core.settings import GateSpec, InferSpec, ModelSpec
from sgcldff.inference import (
    ShardTask,
    Step,
    Tally,
    committed_work,
    label_array,
    plan_slide,
    read_cells,
    run_plan,
    run_sample,
    sampled_work,
    serially,
)
from sgcldff.inference.instances import find_cells
from sgcldff.models.out_of_distribution import fit
from sgcldff.slides import ScaledSlide, open_slide
from tests.sgcldff.painted import (
    CENTRES,
    EVERYTHING,
    MPP,
    NUCLEI,
    PAPER,
    SHAPE,
    SPEC,
    ColourModel,
    classify,
    paint,
    saved,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = saved(tmp_path_factory.mktemp("slide"), paint(SHAPE, CENTRES))
    with_scale = open_slide(path)
    yield with_scale
    with_scale.close()


REFERENCE = ModelRef("stub", "7", "colours")


def inferred(slide, folder, spec=SPEC, model=None):
    model = model or ColourModel()
    known = "" if model.typicality is None else "known"
    plan = plan_slide(slide, model.spec, replace(REFERENCE, digest=model.digest), spec, folder, known)
    run_plan(plan, serially(model))
    return plan


def facts(cells, factor=1.0):
    """What is known of cells, in any order: place, size, border."""
    return sorted(
        (*(round(at / factor, 6) for at in c.centroid), round(c.area_um2 / MPP**2), np.round(c.outline, 6).tobytes())
        for c in cells
    )


def of_whole(image):
    """Cells of the whole image at once: the oracle."""
    cells = find_cells(classify(image), MPP)
    return sorted(
        (*(round(at, 6) for at in cell.centroid), cell.area_px, np.round(cell.outline, 6).tobytes()) for cell in cells
    )


def tree(folder):
    """Hash every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(("tile", "shard"), [(96, 96), (64, 128), (32, 192), (64, 448), (256, 1024)])
def test_each_cell_counts_once_whatever_the_shards(slide, tmp_path, tile, shard):
    image = slide.read(Box.of(SHAPE), 0)
    plan = inferred(slide, tmp_path, replace(SPEC, tile_px=tile, shard_px=shard))
    assert np.array_equal(label_array(plan)[:], classify(image))
    whole = of_whole(image)
    assert len(whole) > 18
    assert facts(read_cells(plan)) == whole


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), count=st.integers(5, 45), halo=st.sampled_from([0, 32]))
def test_each_cell_of_a_random_slide_counts_once(tmp_path_factory, seed, count, halo):
    folder = tmp_path_factory.mktemp("random")
    rng = np.random.default_rng(seed)
    shape = tuple(int(side) for side in rng.integers(150, 420, 2))
    image = paint(shape, rng.uniform(0, 1, (count, 2)) * shape, seed=seed)
    spec = replace(SPEC, shard_px=int(rng.choice([64, 128, 192])), halo_px=halo)
    assert facts(read_cells(inferred(open_slide(saved(folder, image)), folder / "out", spec))) == of_whole(image)


GATED = replace(SPEC, gate=GateSpec(margin_um=3.0, tile_px=64, smallest_um2=0), usable_only=False)


def gated(image, plan):
    """Cells of the whole image, of which only what the gate lets through is segmented: the oracle."""
    step, margin = round(plan.gate.mpp / MPP), plan.gate.reach_px
    box = Box(0, 0, *(-(-side // step) for side in image.shape[:2]))
    seen = ScaledSlide(open_slide(plan.slide.uri), plan.gate.mpp).read_mirrored(box.grow(margin))
    places = plan.gate.places(seen)[margin:-margin, margin:-margin].repeat(step, axis=0).repeat(step, axis=1)
    places = places[: image.shape[0], : image.shape[1]]
    cells = find_cells(classify(image) * places, MPP)
    return sorted(
        (*(round(at, 6) for at in cell.centroid), cell.area_px, np.round(cell.outline, 6).tobytes()) for cell in cells
    )


@pytest.mark.parametrize(("tile", "shard"), [(32, 64), (64, 128), (96, 192), (256, 1024)])
def test_behind_the_gate_each_cell_counts_once_whatever_the_tiles(slide, tmp_path, tile, shard):
    model = ColourModel()
    spec = replace(GATED, gate=replace(GATED.gate, tile_px=tile), shard_px=shard)
    plan = inferred(slide, tmp_path, spec, model)
    expected = gated(slide.read(Box.of(SHAPE), 0), plan)
    assert len(expected) > 18
    assert facts(read_cells(plan)) == expected


@pytest.mark.slow
@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), count=st.integers(1, 12), tile=st.sampled_from([32, 64, 128]))
def test_behind_the_gate_each_cell_of_a_random_slide_counts_once(tmp_path_factory, seed, count, tile):
    folder = tmp_path_factory.mktemp("gated")
    rng = np.random.default_rng(seed)
    shape = tuple(int(side) for side in rng.integers(150, 700, 2))
    image = paint(shape, rng.uniform(0, 1, (count, 2)) * shape, seed=seed)
    spec = replace(GATED, gate=replace(GATED.gate, tile_px=tile), shard_px=int(rng.choice([64, 128, 192, 704])))
    plan = inferred(open_slide(saved(folder, image)), folder / "out", spec)
    assert facts(read_cells(plan)) == gated(image, plan)


def test_the_gate_reads_little_where_there_is_little(tmp_path):
    image = paint((2048, 2048), [(300, 300), (1024, 1400)], reds=3000)
    model, everything = ColourModel(), ColourModel()
    plan = inferred(open_slide(saved(tmp_path, image)), tmp_path / "gated", InferSpec(usable_only=False), model)
    all_of_it = inferred(open_slide(saved(tmp_path, image)), tmp_path / "all", InferSpec(gate=EVERYTHING), everything)
    assert facts(read_cells(plan)) == facts(read_cells(all_of_it)) != []
    assert model.tiles <= 4
    assert committed_work(plan).skipped == (2048 // 128) ** 2 - model.tiles
    assert (committed_work(all_of_it).tiles, committed_work(all_of_it).skipped) == (everything.tiles, 0)


def test_a_sample_has_the_cells_of_its_shards(slide, tmp_path):
    """Random shards give what the whole slide gives there, and the same plan draws the same shards."""
    plan = inferred(slide, tmp_path / "all")
    cells = {cell.cell_id: facts([cell]) for cell in read_cells(plan)}
    looks = []

    def enough(found):
        looks.append({cell.cell_id: facts([cell]) for cell in found})
        return len(looks) == 2

    drawn, model = plan_slide(slide, ColourModel().spec, REFERENCE, SPEC, tmp_path / "sampled"), ColourModel()
    assert sorted(run_sample(drawn, serially(model), enough)) == list(range(16))
    assert (sampled_work(drawn).passes, sampled_work(drawn).tiles) == (32, model.tiles)
    assert np.array_equal(label_array(drawn)[:], label_array(plan)[:])
    first, both = looks
    assert 0 < len(first) < len(both)
    assert both == cells
    again = plan_slide(slide, ColourModel().spec, REFERENCE, SPEC, tmp_path / "again")
    half = run_sample(again, serially(ColourModel()), lambda found: {cell.cell_id for cell in found} == set(first))
    assert len(half) == 8


def test_cells_lie_where_they_were_painted_at_level_0(tmp_path):
    centres = [(100, 120), (300, 420), (610, 240)]
    plan = inferred(open_slide(saved(tmp_path, paint((700, 600), centres, factor=2), mpp=0.1)), tmp_path / "out")
    cells = sorted(read_cells(plan), key=lambda cell: cell.centroid)
    for cell, (y, x) in zip(cells, centres, strict=True):
        assert np.hypot(cell.centroid[0] - y, cell.centroid[1] - x) < 2
        assert np.allclose(cell.box, (y - 60, x - 60, y + 60, x + 60), atol=3)
        assert cell.area_um2 == pytest.approx(np.pi * 6**2, rel=0.05)
        assert 0 < cell.nucleus_area_um2 < cell.area_um2
        assert np.allclose(cell.outline.mean(axis=0), (x, y), atol=6)
        assert all(np.abs(part - (x, y)).max() < 60 for part in cell.nuclei)


def test_every_cell_is_typed_by_its_own_crop(slide, tmp_path):
    plan = inferred(slide, tmp_path)
    classes = plan.model.labels.classes
    seen = 0
    for cell in read_cells(plan):
        distance, kind = min(
            (np.hypot(cell.centroid[0] - y, cell.centroid[1] - x), k % 2) for k, (y, x) in enumerate(CENTRES)
        )
        if distance < 3:
            seen += 1
            assert (cell.label, cell.confidence) == (classes[kind], pytest.approx(0.8))
            assert cell.probabilities[kind] == pytest.approx(0.8)
            assert not cell.abstained
    assert seen >= 10


def test_cells_that_the_border_cuts_are_marked(slide, tmp_path):
    for cell in read_cells(inferred(slide, tmp_path)):
        (y, x), (height, width) = cell.centroid, SHAPE
        cut = min(y, x, height - y, width - x) < 28
        assert cell.at_edge == cut


def test_ids_and_lineage_name_the_origin(slide, tmp_path):
    plan = inferred(slide, tmp_path)
    cells = list(read_cells(plan))
    assert len({cell.cell_id for cell in cells}) == len(cells)
    assert {cell.slide_id for cell in cells} == {"slide"}
    assert (plan.lineage.slide_sha256, plan.lineage.model_version) == (slide.ref.sha256, "7")


def test_less_confidence_than_asked_for_is_no_type_and_costs_no_work(slide, tmp_path):
    inferred(slide, tmp_path)
    again = ColourModel()
    plan = inferred(slide, tmp_path, replace(SPEC, min_confidence=0.9, batch_size=5), again)
    cells = list(read_cells(plan))
    assert {cell.label for cell in cells} == {UNIDENTIFIED}
    assert all(cell.abstained and cell.confidence == pytest.approx(0.8) for cell in cells)
    assert (again.tiles, again.crops) == (0, 0)


def test_a_model_brings_its_own_limit_of_confidence_unless_another_is_asked_for(slide, tmp_path):
    careful = ColourModel(spec=ModelSpec(crop_px=96, min_confidence=0.9))
    own = list(read_cells(inferred(slide, tmp_path, SPEC, careful)))
    assert own
    assert {(cell.label, cell.abstained_for) for cell in own} == {(UNIDENTIFIED, UNCERTAIN)}
    for limit in (0, 0.5):
        named = list(read_cells(inferred(slide, tmp_path, replace(SPEC, min_confidence=limit), careful)))
        assert UNIDENTIFIED not in {cell.label for cell in named}


def test_cells_unlike_those_of_the_training_are_no_type_and_the_limit_costs_no_work(slide, tmp_path):
    """The embedding is the colour in the middle: cells of the second type's blue are far from the training's."""
    blue = np.array([NUCLEI[0]] * 3, np.float32)
    typicality = fit(blue + np.eye(3), [""] * 3, blue + np.arange(3, dtype=np.float32)[:, None] * 4)
    model = ColourModel(typicality=typicality)
    scores = {cell.cell_id: cell.typicality for cell in read_cells(inferred(slide, tmp_path, SPEC, model))}
    assert {round(4 * score) for score in scores.values()} == {1, 4}
    again = ColourModel(typicality=typicality)
    strict = replace(SPEC, min_typicality=0.3, min_confidence=0.9)
    for cell in read_cells(inferred(slide, tmp_path, strict, again)):
        assert cell.typicality == scores[cell.cell_id]
        assert (cell.label, cell.abstained) == (UNIDENTIFIED, True)
        assert cell.abstained_for == (ATYPICAL if cell.typicality < 0.3 else UNCERTAIN)
    assert (again.tiles, again.crops) == (0, 0)
    assert committed_work(inferred(slide, tmp_path, replace(strict, min_confidence=0), again)).cells[UNIDENTIFIED] > 0


def test_a_model_that_does_not_know_its_training_cells_cannot_refuse_any(slide, tmp_path):
    assert {cell.typicality for cell in read_cells(inferred(slide, tmp_path))} == {None}
    with pytest.raises(InputError, match=r"min_typicality is 0\.1, but the model has no reference"):
        inferred(slide, tmp_path, replace(SPEC, min_typicality=0.1))
    known = ColourModel(typicality=fit(np.eye(3, dtype=np.float32), [""] * 3, np.eye(3, dtype=np.float32)))
    assert None not in {cell.typicality for cell in read_cells(inferred(slide, tmp_path, SPEC, known))}
    assert (known.tiles, known.crops > 0) == (0, True), "cells are typed again, nothing is segmented again"


def test_only_what_a_change_touches_is_computed_again(slide, tmp_path):
    first = ColourModel()
    inferred(slide, tmp_path, SPEC, first)
    assert first.tiles == 8 * 7
    smaller = ColourModel()
    plan = inferred(slide, tmp_path, replace(SPEC, min_cell_um2=40), smaller)
    assert (smaller.tiles, smaller.crops) == (0, len(list(read_cells(plan))))
    other = ColourModel("other weights")
    inferred(slide, tmp_path, SPEC, other)
    assert (other.tiles, other.crops) == (first.tiles, first.crops)
    scaled = ColourModel("other weights")
    plan = plan_slide(open_slide(slide.ref.uri, mpp=0.25), scaled.spec, REFERENCE, SPEC, tmp_path)
    assert plan.missing(Step.SEGMENT)


def test_labels_that_were_removed_are_made_again(slide, tmp_path):
    before = tree(inferred(slide, tmp_path).labels)
    for file in (tmp_path / "labels.ome.zarr").rglob("*"):
        if file.is_file():
            file.unlink()
    (tmp_path / "labels.ome.zarr").rename(tmp_path / "gone")
    assert tree(inferred(slide, tmp_path).labels) == before


def test_order_and_repetition_change_no_byte(slide, tmp_path):
    model = ColourModel()
    inferred(slide, tmp_path / "a", SPEC, model)
    plan = plan_slide(slide, model.spec, REFERENCE, SPEC, tmp_path / "b")

    def shuffled(tasks):
        for task in [*reversed(tasks), *tasks[:3]]:
            yield task, pickle.loads(pickle.dumps(task))(model)

    run_plan(plan, shuffled)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_tasks_are_small_on_their_way(slide, tmp_path):
    plan = plan_slide(slide, ColourModel().spec, REFERENCE, SPEC, tmp_path)
    assert len(pickle.dumps(ShardTask(plan, Step.SEGMENT, 15))) < 3000


def test_progress_counts_every_shard_of_both_passes(slide, tmp_path):
    seen = []
    plan = plan_slide(slide, ColourModel().spec, REFERENCE, SPEC, tmp_path)
    run_plan(plan, serially(ColourModel()), seen.append)
    total = sum(seen, Tally())
    assert [tally.passes for tally in seen] == [1] * 2 * len(plan.grid)
    assert total.tiles == 8 * 7
    assert total.cells == Counter(cell.label for cell in read_cells(plan))
    assert set(total.seconds) <= {"gate", "read", "prior", "model", "stitch", "write", "cells"}
    assert replace(committed_work(plan), seconds={}) == replace(total, seconds={})


def test_a_damaged_shard_does_not_stop_the_others(slide, tmp_path):
    model, bad = ColourModel(), 5
    plan = plan_slide(slide, model.spec, REFERENCE, SPEC, tmp_path)

    def run(tasks):
        for task in tasks:
            if task.index == bad:
                yield task, SlideError("tile is damaged")
            else:
                yield task, task(model)

    with pytest.raises(SlideError, match="damaged"):
        run_plan(plan, run)
    assert plan.missing(Step.SEGMENT) == [bad]
    assert len(plan.missing(Step.TYPE)) == len(plan.grid)


def test_a_slide_smaller_than_a_tile_is_read(tmp_path):
    plan = inferred(open_slide(saved(tmp_path, paint((70, 75), [(35, 37)]))), tmp_path / "out", InferSpec())
    (cell,) = read_cells(plan)
    assert np.allclose(cell.centroid, (35.5, 37.5), atol=1)


def test_an_empty_slide_has_no_cells(tmp_path):
    blank = np.full((200, 210, 3), PAPER, np.uint8)
    assert list(read_cells(inferred(open_slide(saved(tmp_path, blank)), tmp_path / "out"))) == []


def test_crops_at_the_border_are_mirrored_as_in_training(tmp_path):
    """What the model sees beyond the border is the slide itself, folded."""
    image, seen = paint((200, 200), [(10, 100)]), []

    class Watching(ColourModel):
        def classify(self, rgb, prior):
            seen.extend(rgb)
            return super().classify(rgb, prior)

    (cell,) = read_cells(inferred(open_slide(saved(tmp_path, image)), tmp_path / "out", model=Watching()))
    y0, x0 = (round(at + 96 - 48) for at in cell.centroid)
    folded = np.pad(image, ((96, 96), (96, 96), (0, 0)), mode="reflect")
    assert np.array_equal(seen, [folded[y0 : y0 + 96, x0 : x0 + 96]])


def started(slide_path, out):
    command = [sys.executable, "-m", "tests.sgcldff.inference.test_inference", str(slide_path), str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def committed_below(folder):
    return {path.stem for path in (folder / "shards").rglob("*") if path.is_file() and DRAFT not in path.name}


def killed_after(lines, slide_path, out):
    """Start, kill -9 when so many shards were told of; give the names of all that this process told of."""
    process = started(slide_path, out)
    told = [process.stdout.readline() for _ in range(lines)]
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return set("".join([*told, rest]).split())


@pytest.mark.slow
def test_kill_9_loses_no_committed_shard_and_changes_no_byte(tmp_path):
    """Killed in the first pass and again in the second, then left to finish."""
    path, out = saved(tmp_path, paint(SHAPE, CENTRES)), tmp_path / "killed"
    total = 2 * len(inferred(open_slide(path), tmp_path / "undisturbed").grid)
    first = killed_after(5, path, out)
    after_first = committed_below(out)
    assert first <= after_first
    assert 5 <= len(after_first) < total / 2
    second = killed_after(total // 2 + 4 - len(after_first), path, out)
    after_second = committed_below(out)
    assert second.isdisjoint(after_first)
    assert total / 2 < len(after_second) < total
    last = started(path, out)
    third = set(last.communicate()[0].split())
    assert last.returncode == 0
    assert third.isdisjoint(after_second)
    assert len(third) == total - len(after_second)
    assert tree(out) == tree(tmp_path / "undisturbed")


def test_what_a_killed_run_left_half_written_is_removed(slide, tmp_path):
    plan = inferred(slide, tmp_path)
    before = tree(tmp_path)
    (plan.shards / ".segment-000001.json.partial").write_bytes(b"")
    (plan.labels / "labels" / "segmentation" / "0" / "c" / "0" / "1.1234.partial").write_bytes(b"torn")
    inferred(slide, tmp_path)
    assert tree(tmp_path) == before


def main(slide_path, out):
    """Infer a slide and tell of every shard when it is committed."""
    model = ColourModel()
    plan = plan_slide(open_slide(slide_path), model.spec, REFERENCE, SPEC, out)

    def told(tasks):
        for task in tasks:
            done = task(model)
            sys.stdout.write(plan.committed(task.step, task.index).stem + "\n")
            sys.stdout.flush()
            yield task, done

    run_plan(plan, told)


if __name__ == "__main__":
    main(*sys.argv[1:])
