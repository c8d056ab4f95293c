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
from sgcldff.core.errors import SlideError
from sgcldff.core.geometry import Box
from sgcldff.core.settings import GateSpec, InferSpec
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
from sgcldff.slides import ScaledSlide, open_slide
from tests.sgcldff.inference.reading import REFERENCE, inferred
from tests.sgcldff.painted import (
    CENTRES,
    EVERYTHING,
    MPP,
    PAPER,
    SHAPE,
    SPEC,
    ColourModel,
    classify,
    paint,
    saved,
)

ROOT = Path(__file__).parents[3]


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_labels_that_were_removed_are_made_again(slide, tmp_path):
    before = tree(inferred(slide, tmp_path).labels)
    for file in (tmp_path / "labels.ome.zarr").rglob("*"):
        if file.is_file():
            file.unlink()
    (tmp_path / "labels.ome.zarr").rename(tmp_path / "gone")
    assert tree(inferred(slide, tmp_path).labels) == before


@pytest.mark.slow
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
    assert set(total.seconds) <= {"gate", "read", "prior", "network", "stitch", "write", "cells"}
    assert len(total.workers) == 1
    assert replace(committed_work(plan), seconds={}) == replace(total, seconds={}, busy=0.0, workers=frozenset())


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


@pytest.mark.slow
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
