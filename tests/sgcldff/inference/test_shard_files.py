"""Shard files of label images, beside those that zarr writes."""

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.errors import StoreError
from sgcldff.core.geometry import Box, lattice, lattice_box
from sgcldff.inference.outputs import ShardFiles
from sgcldff.inference.outputs.ome_zarr import _new_array, halved, halved_by_majority

SHAPE = (150, 190)


def spotted(rng, dtype=np.uint8):
    labels = np.zeros(SHAPE, dtype)
    for y, x, value in rng.integers((0, 0, 1), (*SHAPE, 200), (rng.integers(6), 3)):
        labels[y : y + 9, x : x + 30] = value
    return labels


def stored(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(seed=st.integers(0, 2**32), inner=st.integers(1, 5), dtype=st.sampled_from([np.uint8, np.uint32]))
def test_files_are_those_that_zarr_writes(tmp_path_factory, seed, inner, dtype):
    root, labels = tmp_path_factory.mktemp("shards"), spotted(np.random.default_rng(seed), dtype)
    ours, theirs = (_new_array(root / name, SHAPE, 16, 16 * inner, dtype) for name in ("ours", "theirs"))
    theirs[:] = labels
    files = ShardFiles.of(root / "ours")
    for row, column in lattice(Box.of(SHAPE), 16 * inner):
        shard = lattice_box(row, column, 16 * inner).clip(SHAPE)
        files.write(row, column, files.chunks_in(labels[shard.slices], shard, [shard]))
    assert stored(root / "ours") == stored(root / "theirs")
    np.testing.assert_array_equal(ours[:], labels)
    box = Box(20, 33, 131, 187)
    seen = np.zeros_like(labels)
    for chunk, part in files.read(box):
        assert part.any()
        assert chunk.intersects(box)
        seen[chunk.slices] = part
    np.testing.assert_array_equal(seen[box.slices], labels[box.slices])


@given(seed=st.integers(0, 2**32))
def test_background_changes_nothing_about_halving(seed):
    labels = spotted(np.random.default_rng(seed))[:149, :187]
    np.testing.assert_array_equal(halved(labels), halved_by_majority(labels))


def test_a_shard_that_becomes_empty_is_removed(tmp_path):
    labels = np.ones((64, 64), np.uint8)
    array = _new_array(tmp_path, (64, 64), 32, 64)
    array[:] = labels
    ShardFiles.of(tmp_path).write(0, 0, [])
    assert not ShardFiles.of(tmp_path).exists(Box.of((64, 64)))
    assert not zarr.open_array(tmp_path, mode="r")[:].any()


def test_damage_is_named(tmp_path):
    _new_array(tmp_path, (64, 64), 32, 64)[:] = 1
    (file,) = (path for path in (tmp_path / "c").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        list(ShardFiles.of(tmp_path).read(Box.of((64, 64))))
