import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from sgcldff.core.settings import IngestSpec
from sgcldff.data.catalog.measurements import perceptual_hash
from sgcldff.data.catalog.near_duplicates import close_pairs, hash_bits, near_duplicates
from sgcldff.data.catalog.overlap import alike, details, fingerprints, oriented, overlap_correlation, thumbnail

SPEC = IngestSpec()


def field(seed, size=400):
    """A field of random blobs: red cells with a paler middle on a bright ground, uint8 RGB."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), 225.0)
    for y, x in rng.integers(0, size, (45, 2)):
        cv2.circle(image, (int(x), int(y)), int(rng.integers(14, 24)), (200, 140, 140), -1)
        cv2.circle(image, (int(x), int(y)), int(rng.integers(5, 9)), (215, 170, 170), -1)
    image += gaussian_filter(rng.normal(0, 12, image.shape), (1, 1, 0))
    return np.clip(image, 0, 255).astype(np.uint8)


def found(images):
    hashes = hash_bits([perceptual_hash(image) for image in images])
    return {tuple(pair) for pair in near_duplicates(hashes, np.array([thumbnail(i) for i in images]), SPEC).tolist()}


def changed(image):
    """Typical ways in which duplicates enter data sets."""
    small = cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    stained = np.clip(image * [0.8, 0.7, 0.9] + 10, 0, 255).astype(np.uint8)
    return {
        "compressed": jpeg,
        "smaller": small,
        "darker": (image * 0.6).astype(np.uint8),
        "other stain": stained,
        "mirrored": image[:, ::-1],
        "upside down": image[::-1],
        "turned": np.rot90(image),
        "transposed": image.transpose(1, 0, 2),
        "half turned": np.rot90(image, 2),
        "blurred": cv2.GaussianBlur(image, (0, 0), 2),
    }


@pytest.mark.parametrize("change", changed(field(0)))
def test_a_changed_copy_is_found_and_others_are_not(change):
    originals = [field(seed) for seed in range(4)]
    copy = np.ascontiguousarray(changed(originals[1])[change])
    assert found([*originals, copy]) == {(1, 4)}


@pytest.mark.parametrize("shift", [(20, 0), (0, 45), (-35, 40), (60, -60)])
def test_a_field_photographed_again_with_a_shift_is_found(shift):
    scene = field(7, 600)
    first = scene[100:500, 100:500]
    second = scene[100 + shift[0] : 500 + shift[0], 100 + shift[1] : 500 + shift[1]]
    relit = np.clip(second * 0.85, 0, 255).astype(np.uint8)
    assert found([field(1), first, field(2), relit]) == {(1, 3)}


def test_unrelated_fields_are_not_joined():
    assert found([field(seed) for seed in range(40)]) == set()


def test_nothing_and_a_single_image_have_no_pairs():
    assert found([field(0)]) == set()
    assert near_duplicates(hash_bits([]), np.empty((0, 64, 64), np.uint8), SPEC).shape == (0, 2)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 16), st.randoms(use_true_random=False))
def test_no_close_hash_is_missed(base, distance, random):
    hashes = [*base, *(value ^ sum(1 << b for b in random.sample(range(64), random.randint(0, 18))) for value in base)]
    pairs = {tuple(pair) for pair in close_pairs(np.array(hashes, np.uint64), distance).tolist()}
    n = len(hashes)
    assert pairs == {
        (i, j) for i in range(n) for j in range(i + 1, n) if (hashes[i] ^ hashes[j]).bit_count() <= distance
    }


def test_fingerprints_do_not_change_under_a_circular_shift_without_window():
    image = details(np.array([thumbnail(field(3))]))
    moved = np.roll(image, (3, -4), axis=(1, 2))
    assert fingerprints(image)[0] @ fingerprints(moved)[0] > 0.85
    other = details(np.array([thumbnail(field(4))]))
    assert abs(fingerprints(image)[0] @ fingerprints(other)[0]) < 0.25


def test_the_correlation_is_that_of_the_overlap():
    rng = np.random.default_rng(0)
    scene = rng.normal(size=(90, 90)).astype(np.float32)
    first, second = scene[:64, :64][None], scene[15:79, 20:84][None]
    assert overlap_correlation(first, second)[0] == pytest.approx(1, abs=1e-3)
    assert overlap_correlation(first, -first)[0] < 0.3
    alone = rng.normal(size=(1, 64, 64)).astype(np.float32)
    best = overlap_correlation(first, alone)[0]
    assert 0 < best < 0.2


@given(st.integers(0, 7))
def test_orientations_are_the_eight_of_the_square(orientation):
    image = np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64)
    results = {oriented(image, k).tobytes() for k in range(8)}
    assert len(results) == 8
    assert oriented(image, orientation).tobytes() in results


def test_pairs_come_ordered_whatever_the_block(monkeypatch):
    monkeypatch.setattr("sgcldff.data.catalog.overlap.BLOCK", 3)
    images = details(np.array([thumbnail(field(seed % 5)) for seed in range(10)]))
    pairs = {tuple(pair) for block, turn in alike(images, 0.9) for pair in block.tolist() if turn == 0}
    assert pairs == {(i, i + 5) for i in range(5)}


@pytest.mark.real
def test_the_known_pairs_of_real_smears_are_found():
    from sgcldff.slides.images import read_rgb

    crops = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets")) / "all_idb2" / "img"
    if not crops.is_dir():
        pytest.skip("no real smears here")
    names = ["Im028_1", "Im135_0", "Im170_0", "Im031_1", "Im244_0", "Im209_0", "Im001_1", "Im015_1", "Im156_0"]
    images = [read_rgb(crops / f"{name}.tif") for name in names]
    assert found(images) == {(0, 3), (1, 4), (2, 5)}
