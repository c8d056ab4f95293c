"""Changes of images: the same for all models, worse with every strength, and at 3 what promotion always used."""

import pickle
from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import hsv2rgb, rgb2hsv

from sgcldff.core.errors import InputError
from sgcldff.core.records import Sample
from sgcldff.core.settings import Perturbation
from sgcldff.data.synthetic import write_dataset
from sgcldff.evaluation.corruptions import AMOUNTS, corruption
from sgcldff.slides.images import read_rgb

ONE = Sample("s/a", "s", "g", "a.png", 0.2, "none", sha256="ab" * 32)
STRENGTHS = range(1, 6)


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    data = write_dataset(tmp_path_factory.mktemp("one") / "data", 1, 0, seed=5)
    return read_rgb(next((data / "images").iterdir()))


def damage(changed: np.ndarray, smear: np.ndarray) -> float:
    """Root mean square difference, grey values."""
    return float(np.sqrt(np.square(changed.astype(float) - smear).mean()))


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", Perturbation)
def test_a_change_is_the_same_for_all_models_and_leaves_the_input(
    kind: Perturbation, strength: int, smear: np.ndarray
) -> None:
    before = smear.copy()
    changed = corruption(kind, strength)(smear, ONE)
    assert (changed.dtype, changed.shape) == (np.uint8, smear.shape)
    assert (changed == corruption(kind, strength)(smear, replace(ONE, image="elsewhere.png"))).all()
    assert (changed == pickle.loads(pickle.dumps(corruption(kind, strength)))(smear, ONE)).all()
    assert (smear == before).all()


@pytest.mark.parametrize("mpp", [0.1, 0.2])
@pytest.mark.parametrize("kind", Perturbation)
def test_the_stronger_the_worse(kind: Perturbation, mpp: float, smear: np.ndarray) -> None:
    done = [damage(corruption(kind, strength)(smear, replace(ONE, mpp=mpp)), smear) for strength in STRENGTHS]
    assert done[0] > 0
    assert all(weaker < stronger for weaker, stronger in pairwise(done))


@pytest.mark.parametrize("kind", Perturbation)
def test_promotion_sees_a_mild_change_of_the_middle_strength(kind: Perturbation, smear: np.ndarray) -> None:
    changed = corruption(kind)(smear, ONE)
    assert (changed == corruption(kind, 3)(smear, ONE)).all()
    assert 0.5 < np.abs(changed.astype(float) - smear).mean() < 45


def test_the_middle_strength_is_what_it_was(smear: np.ndarray) -> None:
    """Each against another library, or NumPy alone, with the numbers that promotion began with."""
    changed = {kind: corruption(kind)(smear, ONE).astype(float) for kind in Perturbation}
    hsv = rgb2hsv(smear)
    hsv[..., 0] = (hsv[..., 0] + 12 / 360) % 1
    blurred = gaussian_filter(smear.astype(float), (0.25 / 0.2, 0.25 / 0.2, 0), mode="mirror")
    coded = BytesIO()
    Image.fromarray(smear).save(coded, "jpeg", quality=40)
    grain = np.random.default_rng(int("ab" * 32, 16)).standard_normal(smear.shape, dtype=np.float32)
    np.testing.assert_allclose(changed[Perturbation.HUE], 255 * hsv2rgb(hsv), atol=1)
    np.testing.assert_allclose(changed[Perturbation.BRIGHTNESS], 0.85 * smear, atol=0.51)
    np.testing.assert_allclose(changed[Perturbation.BLUR], blurred, atol=2)
    np.testing.assert_allclose(changed[Perturbation.JPEG], np.asarray(Image.open(coded)).astype(float), atol=12)
    np.testing.assert_allclose(changed[Perturbation.NOISE], np.clip(smear + 8 * grain, 0, 255), atol=0.51)


def test_the_blur_is_as_wide_in_um_whatever_the_scale(smear: np.ndarray) -> None:
    flat = np.full((40, 40, 3), 200, np.uint8)
    assert corruption(Perturbation.BLUR)(flat, ONE) == pytest.approx(flat)
    fine, coarse = (
        np.abs(np.diff(corruption(Perturbation.BLUR)(smear, replace(ONE, mpp=mpp)).astype(float), axis=0)).sum()
        for mpp in (0.1, 0.4)
    )
    assert fine < coarse


def test_every_image_has_a_noise_of_its_own(smear: np.ndarray) -> None:
    other = corruption(Perturbation.NOISE)(smear, replace(ONE, sha256="cd" * 32))
    assert (other != corruption(Perturbation.NOISE)(smear, ONE)).any()


@pytest.mark.parametrize("strength", [0, 6, -1])
def test_other_strengths_are_refused(strength: int) -> None:
    assert list(AMOUNTS) == list(STRENGTHS)
    with pytest.raises(InputError, match=rf"strength {strength} of blur.*1 to 5"):
        corruption(Perturbation.BLUR, strength)
