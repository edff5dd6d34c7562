"""Metrics against their formulas."""

import math

import numpy as np
import pytest

from denoise_cli.errors import UsageError
from denoise_cli.metrics import psnr, ssim, unit


def test_psnr_of_a_known_error():
    clean = np.full((8, 8, 3), 0.5)
    assert psnr(clean, clean + 0.1) == pytest.approx(20)
    assert psnr(clean, clean + 0.01) == pytest.approx(40)
    assert psnr(clean, clean) == math.inf


def test_psnr_clips_both_pictures():
    assert psnr(np.full((8, 8), 1.5), np.full((8, 8), 1.2)) == math.inf
    assert psnr(np.zeros((8, 8)), np.full((8, 8), -3.0)) == math.inf


def test_psnr_counts_in_double_precision():
    clean = np.zeros((300, 300), np.float32)
    assert psnr(clean, clean + np.float32(1e-4)) == pytest.approx(80, abs=1e-3)


@pytest.mark.parametrize("shape", [(32, 40), (32, 40, 3)])
def test_ssim_falls_with_noise(shape):
    rng = np.random.default_rng(0)
    clean = np.broadcast_to(np.linspace(0, 1, 40)[:, None], (32, 40, 3))[:, :, : shape[-1]]
    clean = clean if len(shape) == 3 else clean[..., 0]
    little, much = (clean + rng.normal(0, s, shape) for s in (0.01, 0.2))
    assert ssim(clean, clean) == pytest.approx(1)
    assert 1 > ssim(clean, little) > ssim(clean, much)


def test_ssim_says_that_a_picture_is_too_small():
    with pytest.raises(UsageError, match="7 x 7"):
        ssim(np.zeros((6, 20)), np.zeros((6, 20)))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_pictures_of_other_sizes_are_refused(metric):
    with pytest.raises(UsageError, match="same size"):
        metric(np.zeros((8, 8)), np.zeros((8, 9)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32])
def test_unit_scales_integers_by_their_maximum(dtype):
    top = np.iinfo(dtype).max
    np.testing.assert_allclose(unit(np.array([0, top // 2, top], dtype)), [0, 0.5, 1], atol=0.01)


def test_unit_leaves_floats():
    samples = np.array([-1, 7], np.float32)
    assert unit(samples) is samples
    np.testing.assert_array_equal(unit(np.array([False, True])), [0, 1])
