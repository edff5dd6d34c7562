"""Scales are inverted exactly and never clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoise_cli.errors import UsageError
from denoise_cli.normalize import Scale, Standardization


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32"])
def test_round_trip_is_exact(dtype: str) -> None:
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        samples = rng.normal(0.5, 0.4, (40, 40)).astype(kind)
    else:
        limits = np.iinfo(kind)
        samples = rng.integers(max(limits.min, -2000), min(limits.max, 70000), (40, 40)).astype(
            kind
        )
    scale = Scale.of(samples)
    back = scale.inverse(scale.forward(samples), kind)
    if kind.kind == "f":
        np.testing.assert_allclose(back, samples, rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(back, samples)


def test_full_range_integers_are_scaled_by_their_type() -> None:
    assert Scale.of(np.array([0, 255], np.uint8)) == Scale(0.0, 255.0)
    assert Scale.of(np.array([3, 9], np.uint8)).gain == 255
    assert Scale.of(np.array([0, 65535], np.uint16)).gain == 65535


def test_twelve_bits_in_sixteen_use_the_whole_range() -> None:
    samples = np.array([10, 4000], np.uint16)
    assert Scale.of(samples).gain == 4095
    assert Scale.of(samples).forward(samples).max() > 0.9


@pytest.mark.parametrize("brightest", [4095, 65535])
def test_a_few_bright_samples_do_not_set_the_scale(brightest: int) -> None:
    samples = np.random.default_rng(0).integers(0, 400, (64, 64)).astype(np.uint16)
    samples[::16, ::16] = brightest
    scale = Scale.of(samples)
    values = scale.forward(samples)
    assert scale.gain == 511
    assert 0.7 < np.quantile(values, 0.99) < 1
    assert 2 < values.max() < 5
    np.testing.assert_array_equal(scale.inverse(values, samples.dtype), samples)
    samples[::2, ::2] = brightest  # no longer few
    assert Scale.of(samples).gain == brightest


@pytest.mark.parametrize(
    ("dtype", "pedestal"), [("uint16", 32768), ("uint16", 500), ("int16", -20000), ("float32", 1e4)]
)
def test_what_is_below_all_samples_is_taken_off(dtype: str, pedestal: float) -> None:
    samples = (pedestal + np.random.default_rng(0).integers(0, 200, (64, 64))).astype(dtype)
    samples[5, 5] = 0 if dtype == "uint16" else -32768  # a dead pixel
    scale = Scale.of(samples)
    values = scale.forward(samples)
    assert -0.1 < np.quantile(values, 0.01) < 0.1
    assert 0.7 < np.quantile(values, 0.99) < 1.1
    np.testing.assert_allclose(scale.inverse(values, samples.dtype), samples, atol=0.5)
    assert Scale.of(samples, whole=True).gain >= pedestal


@pytest.mark.parametrize("blank", [0.0, 7.0])
def test_spots_on_a_blank_picture_are_on_its_scale(blank: float) -> None:
    spots = np.full((64, 64), blank, np.float32)
    spots[::16, ::16] = np.linspace(8, 40, 16).reshape(4, 4)
    assert Scale.of(spots).forward(spots).max() < 4


def test_little_contrast_is_no_pedestal() -> None:
    fog = np.random.default_rng(0).integers(20000, 40000, (64, 64)).astype(np.uint16)
    assert Scale.of(fog) == Scale(0.0, 65535.0)
    assert Scale.of((fog >> 8).astype(np.uint8)) == Scale(0.0, 255.0)


def test_stars_far_brighter_than_the_rest_are_scaled_back_exactly() -> None:
    sky = np.random.default_rng(0).normal(0.5, 0.1, (64, 64)).astype(np.float32)
    sky[::16, ::16] = np.geomspace(2.1, 1e5, 16).reshape(4, 4)
    sky[1, 1] = -50
    scale = Scale.of(sky)
    values = scale.forward(sky)
    assert -4 < values.min() < -1
    assert 2 < values.max() < 9
    assert (np.diff(values[::16, ::16].ravel()) > 0).all()
    np.testing.assert_allclose(scale.inverse(values, sky.dtype), sky, rtol=1e-5, atol=1e-5)


def test_floats_on_unit_range_keep_their_scale_even_with_noise() -> None:
    noisy = np.random.default_rng(0).normal(0.5, 0.3, (64, 64)).astype(np.float32)
    assert Scale.of(noisy) == Scale(0.0, 1.0)


def test_other_float_ranges_are_mapped() -> None:
    hounsfield = np.random.default_rng(0).normal(0, 400, (64, 64)).astype(np.float32)
    values = Scale.of(hounsfield).forward(hounsfield)
    assert -0.5 < np.quantile(values, 0.01) < 0.1
    assert 0.9 < np.quantile(values, 0.99) < 1.1
    constant = np.zeros((8, 8), np.float32)
    assert np.isfinite(Scale.of(constant).forward(constant)).all()


def test_rounding_and_clipping_happen_once_at_the_end() -> None:
    values = np.array([[-0.9, 0.006, 0.01, 300.0]], np.float32)
    scale = Scale(0.0, 255.0)
    np.testing.assert_array_equal(scale.inverse(values, np.dtype("uint8")), [[0, 2, 3, 255]])
    exact = scale.inverse(values[:, :3], np.dtype("float32"))
    np.testing.assert_allclose(exact, values[:, :3] * 255, rtol=1e-6)
    assert np.isfinite(scale.inverse(values, np.dtype("float32"))).all()


def test_complex_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="complex64"):
        Scale.of(np.zeros(3, np.complex64))


def test_standardization_is_inverted() -> None:
    standardization = Standardization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pictures = torch.rand(2, 3, 8, 8)
    back = standardization.inverse(standardization.forward(pictures))
    assert torch.allclose(back, pictures, atol=1e-6)
