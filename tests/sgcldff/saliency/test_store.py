"""The prior store: contents survive, damage is detected, and killed runs resume."""

import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgcldff.core.errors import InputError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.settings import PriorSpec, digest
from sgcldff.saliency import store as store_module
from sgcldff.saliency.store import PriorStore, Shard, quantise, write_shard

SPEC = PriorSpec(("ramf", "mbplus"))


def priors_of(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return {f"key{n}": rng.random((2, *size), np.float32) for n, size in enumerate(sizes)}


def put(store, priors):
    shards = store.reserve({key: values.shape[1:] for key, values in priors.items()})
    stored = {key: quantise(values) for key, values in priors.items()}
    entries = [entry for shard in shards for entry in write_shard(store.path, shard, stored)]
    return store.commit(entries)


def assert_holds(store, priors):
    for key, values in priors.items():
        read = store.read(key)
        assert read.dtype == np.float32
        assert read.shape == values.shape
        np.testing.assert_allclose(read, values, atol=0.5 / 255 + 1e-6)


def shard_files(path):
    return sorted(file for file in path.glob("buckets/*.zarr/saliency/c/**/*") if file.is_file())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), max_size=5), max_size=3),
    shard_images=st.integers(1, 4),
)
def test_priors_survive_storage(tmp_path_factory, monkeypatch, batches, shard_images):
    monkeypatch.setattr(store_module, "SHARD_IMAGES", shard_images)
    store = PriorStore.create_or_open(tmp_path_factory.mktemp("store"), SPEC)
    everything = {}
    for number, sizes in enumerate(batches):
        batch = {f"{number}-{key}": values for key, values in priors_of(sizes, number).items()}
        store = put(store, batch)
        everything |= batch

    for seen in (store, PriorStore.open(store.path), PriorStore.open(store.ref)):
        assert_holds(seen, everything)
        assert len(seen) == len(everything)
        assert all(key in seen for key in everything)
        assert seen.ref == store.ref


def test_extremes_are_exact(tmp_path):
    values = np.array([0, 1, 0.2], np.float32)[None, None].repeat(2, 0)
    store = put(PriorStore.create_or_open(tmp_path, SPEC), {"a": values})
    np.testing.assert_array_equal(store.read("a"), values)


def test_a_later_batch_rewrites_no_committed_shard(tmp_path):
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors_of([(10, 10)] * 3))
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in shard_files(store.path)}

    later = put(store, {f"later-{key}": values for key, values in priors_of([(9, 9)] * 3, 1).items()})

    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in before} == before
    assert_holds(later, priors_of([(10, 10)] * 3))
    assert len(later) == 6


def test_images_of_many_sizes_are_stored_without_waste(tmp_path):
    rng = np.random.default_rng(0)
    sizes = [tuple(rng.integers(65, 129, 2)) for _ in range(60)]
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors_of(sizes))

    files = [file for file in store.path.rglob("*") if file.is_file()]
    useful = sum(2 * height * width for height, width in sizes)
    assert sum(file.stat().st_size for file in files) < 1.1 * useful
    assert len(files) < 20


def test_xarray_reads_a_bucket_without_this_package(tmp_path):
    priors = priors_of([(20, 30)])
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors)
    [bucket] = (store.path / "buckets").iterdir()

    saliency = xr.open_zarr(bucket, consolidated=False)["saliency"]

    assert saliency.dims == ("image", "prior", "y", "x")
    assert saliency.attrs["names"] == ["ramf", "mbplus"]
    np.testing.assert_allclose(saliency[0, :, :20, :30], priors["key0"], atol=0.5 / 255 + 1e-6)


def test_missing_names_each_absent_image_once_in_order(tmp_path):
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors_of([(4, 4)]))
    assert store.missing(["z", "key0", "a", "z"]) == ("z", "a")
    with pytest.raises(InputError, match="image z: compute them first"):
        store.read("z")


def test_the_digest_depends_on_content_and_spec_not_on_order_or_path(tmp_path):
    first, second = priors_of([(4, 4), (5, 5)]), dict(reversed(priors_of([(4, 4), (5, 5)]).items()))
    one = put(PriorStore.create_or_open(tmp_path / "one", SPEC), first)
    two = put(PriorStore.create_or_open(tmp_path / "two", SPEC), second)
    more = put(two, {"more": first["key0"]})
    other = PriorStore.create_or_open(tmp_path / "one", replace(SPEC, mpp=0.3))

    assert one.ref.digest == two.ref.digest
    assert len({one.ref.digest, more.ref.digest, other.ref.digest}) == 3
    assert other.path != one.path


def flips(content):
    """Every byte's position, and the content with one bit of it flipped."""
    for position, byte in enumerate(content):
        yield position, content[:position] + bytes([byte ^ 1 << position % 8]) + content[position + 1 :]


@pytest.mark.slow
def test_every_flipped_byte_of_a_shard_is_detected(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_IMAGES", 3)
    priors = priors_of([(3, 4), (2, 2), (3, 3)])
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors)
    [file] = shard_files(store.path)

    silent = []
    for position, content in flips(file.read_bytes()):
        file.write_bytes(content)
        damaged = PriorStore.open(store.path)
        try:
            silent.append((position, [damaged.read(key) for key in priors]))
        except StoreError:
            continue
    assert silent == []


def test_damage_names_store_bucket_and_image(tmp_path):
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors_of([(3, 4)]))
    [file] = shard_files(store.path)
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(StoreError, match=f"{store.path}.*32x32.*key0.*compute the priors again"):
        PriorStore.open(store.path).read("key0")


@pytest.mark.parametrize("size", [0, 10, 200, -1])
def test_a_truncated_shard_is_detected(tmp_path, size):
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors_of([(30, 30)]))
    [file] = shard_files(store.path)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(StoreError, match="key0"):
        PriorStore.open(store.path).read("key0")


def test_a_missing_shard_or_bucket_is_no_field_of_zeros(tmp_path):
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors_of([(3, 4)]))
    shard_files(store.path)[0].unlink()
    with pytest.raises(StoreError, match="key0"):
        PriorStore.open(store.path).read("key0")
    shutil.rmtree(store.path / "buckets")
    with pytest.raises(StoreError, match="key0"):
        PriorStore.open(store.path).read("key0")


@pytest.mark.parametrize("name", ["index.parquet", "spec.json", "buckets/32x32.zarr/saliency/zarr.json"])
def test_flipped_bytes_of_tables_and_metadata_never_give_other_values(tmp_path, name):
    priors = priors_of([(3, 4), (2, 2)])
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors)
    file = store.path / name
    detected = 0
    for _, content in islice(flips(file.read_bytes()), 0, None, 13):
        file.write_bytes(content)
        try:
            damaged = PriorStore.open(store.path)
            assert_holds(damaged, {key: values for key, values in priors.items() if key in damaged})
        except StoreError:
            detected += 1
    assert detected > 0


def test_another_layout_is_refused(tmp_path):
    store = PriorStore.create_or_open(tmp_path, SPEC)
    write_json(store.path / "spec.json", read_json(store.path / "spec.json", "") | {"layout": "priors/2"})
    for opened in (lambda: PriorStore.open(store.path), lambda: PriorStore.create_or_open(tmp_path, SPEC)):
        with pytest.raises(StoreError, match="'priors/2', but this version reads 'priors/1'"):
            opened()


def test_a_folder_without_a_store_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="no prior store here"):
        PriorStore.open(tmp_path / digest(SPEC))


@pytest.mark.parametrize("bad", [np.nan, -0.01, 1.01, np.inf])
def test_values_outside_0_to_1_are_refused(bad):
    with pytest.raises(InputError, match=r"not in \[0, 1\]"):
        quantise(np.array([[[0.5, bad]]], np.float32))


def test_shards_that_were_not_reserved_are_refused(tmp_path):
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors_of([(3, 4)]))
    values = {"a": np.zeros((2, 3, 4), np.uint8)}
    length = store_module.SHARD_IMAGES
    for shard in (Shard("32x32", 1, ("a",)), Shard("32x32", length, ("a",)), Shard("32x32", 0, ("a",) * (length + 1))):
        with pytest.raises(StoreError, match="not a reserved shard"):
            write_shard(store.path, shard, values)
    with pytest.raises(StoreError, match="do not fit"):
        write_shard(store.path, Shard("32x32", 0, ("b",)), {"b": np.zeros((2, 33, 4), np.uint8)})
    assert_holds(PriorStore.open(store.path), priors_of([(3, 4)]))


def test_a_store_that_was_read_survives_fork_and_pickle(tmp_path):
    priors = priors_of([(3, 4), (50, 60)])
    store = put(PriorStore.create_or_open(tmp_path, SPEC), priors)
    assert_holds(store, priors)
    assert_holds(pickle.loads(pickle.dumps(store)), priors)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert_holds_remotely = list(pool.map(store.read, priors))
    for key, values in zip(priors, assert_holds_remotely, strict=True):
        np.testing.assert_array_equal(values, store.read(key))


def _put_alone(folder, number):
    put(PriorStore.create_or_open(folder, SPEC), {f"{number}": np.full((2, 5, 5), number / 10, np.float32)})


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    context = get_context("fork")
    writers = [context.Process(target=_put_alone, args=(tmp_path, number)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    store = PriorStore.create_or_open(tmp_path, SPEC)
    assert_holds(store, {f"{number}": np.full((2, 5, 5), number / 10, np.float32) for number in range(6)})
