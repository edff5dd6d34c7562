"""Specks among other noise: `auto` fills them in before anything else, and nothing but them."""

from __future__ import annotations

import numpy as np
import pytest
from test_method_contract import pictures

from denoise_cli import Denoiser, denoise
from denoise_cli.metrics import psnr

FAST = {"budget": "fast"}


def with_specks(noisy: np.ndarray, share: float) -> np.ndarray:
    """Of (Y, X) or (Y, X, C), the same in all colors."""
    drawn = np.random.default_rng(5).random(noisy.shape[:2])
    specked = np.clip(noisy, 0, 1)
    specked[drawn < share / 2] = 0
    specked[drawn > 1 - share / 2] = 1
    return specked


@pytest.mark.parametrize("share", [0.003, 0.02, 0.1])
@pytest.mark.parametrize(
    "spec", ["gaussian:15", "correlated:20,0.6,1", "poisson:40", "camera+jpeg:90"]
)
def test_specks_among_noise_are_filled_in(spec: str, share: float) -> None:
    clean, noisy = pictures(192, spec=spec)
    specked = with_specks(noisy, share)
    result = Denoiser("auto", options=FAST).run(specked)
    assert result.reason.startswith("impulses filled in")
    gain = psnr(clean, result.samples) - psnr(clean, Denoiser("none")(specked))
    assert gain > (0.5 if share < 0.01 else 3)
    without = psnr(clean, Denoiser("none")(np.clip(noisy, 0, 1).astype(np.float32)))
    assert psnr(clean, result.samples) > without - (0.5 if share < 0.01 else 4)


@pytest.mark.parametrize("axis", ["color", "gray"])
@pytest.mark.parametrize("spec", ["gaussian:5", "gaussian:50", "poisson:10", "correlated:40,1"])
def test_noise_without_specks_is_left_alone(spec: str, axis: str) -> None:
    _, noisy = pictures(192, spec=spec)
    noisy = np.clip(noisy if axis == "color" else noisy[..., 1], 0, 1)
    assert np.array_equal(denoise(noisy, "auto", options=FAST), denoise(noisy, "none"))


def test_a_frame_and_lines_are_no_specks() -> None:
    """Of one pixel, at the end of the range: as of pictures that were scaled or scanned."""
    _, noisy = pictures(192, spec="gaussian:5")
    noisy = np.clip(noisy, 0.05, 0.95)
    noisy[-1] = noisy[:, 0] = noisy[60, 20:150] = 0
    noisy[30:170, 100] = 1
    assert np.array_equal(denoise(noisy, "auto", options=FAST), denoise(noisy, "none"))


def test_lines_stay_where_specks_are_filled_in() -> None:
    _, noisy = pictures(192, spec="gaussian:5")
    noisy = with_specks(np.clip(0.4 + 0.2 * noisy, 0, 1), 0.005)
    noisy[60, 20:150] = 0
    noisy[-1] = 1
    result = Denoiser("auto", options=FAST).run(noisy)
    assert result.reason.startswith("impulses filled in")
    assert result.samples[60, 22:148].mean() < 0.1
    assert result.samples[-1, 2:-2].mean() > 0.9


def test_a_drawing_is_no_picture_with_specks() -> None:
    drawing = np.full((128, 128), 255, np.uint8)
    drawing[8::16, 8::16] = 0  # dots of one pixel
    drawing[40:80, 40:80] = 90
    assert np.array_equal(denoise(drawing, "auto", options=FAST), denoise(drawing, "none"))


def test_dead_and_stuck_pixels_of_a_stack() -> None:
    """At the black and the white level of a camera of 12 bits, whose black is not 0."""
    clean, noisy = pictures(128, gray=True, spec="gaussian:12")
    levels = np.stack([0.25 + 0.5 * np.clip(noisy, 0, 1)] * 3)
    drawn = np.random.default_rng(3).random(levels.shape)
    levels[drawn < 0.01], levels[drawn > 0.99] = 0.02, 1
    stack = np.rint(4095 * levels).astype(np.uint16)
    result = Denoiser("auto", options=FAST).run(stack, "ZYX")
    assert result.reason.startswith("impulses filled in")
    before = denoise(stack, "none", axes="ZYX")
    truth = np.stack([0.25 + 0.5 * clean] * 3)
    assert psnr(truth, result.samples / 4095) > psnr(truth, before / 4095) + 3


def dim(clean: np.ndarray, photons: float = 2000) -> tuple[np.ndarray, np.ndarray]:
    """A dim gray picture and photon and read noise in it, as of a camera for a microscope."""
    random, dark = np.random.default_rng(2), 0.05 + 0.2 * clean
    noisy = random.poisson(photons * dark) / photons + random.normal(0, 0.005, clean.shape)
    return dark, np.clip(noisy, 0, 1)


@pytest.mark.parametrize("are_clipped", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.01])
def test_hot_pixels_of_any_brightness_are_filled_in(share: float, are_clipped: bool) -> None:
    clean, noisy = dim(pictures(192, gray=True)[0])
    random = np.random.default_rng(4)
    hot = random.random(noisy.shape) < share
    light = random.uniform(0.2, 1.5 if are_clipped else 0.7, noisy.shape)
    noisy = np.minimum(np.where(hot, noisy + light, noisy), 1)
    stored = np.rint(4095 * noisy).astype(np.uint16)
    result = Denoiser("auto", options=FAST).run(stored)
    assert result.reason.startswith("impulses filled in")
    before = denoise(stored, "none") / 4095
    assert psnr(clean, result.samples / 4095) > psnr(clean, before) + 2


@pytest.mark.parametrize("width", [1.2, 2.0])
def test_stars_are_no_hot_pixels(width: float) -> None:
    """Nor are they cut at white, where what is beyond it would be a speck."""
    random, (rows, columns) = np.random.default_rng(0), np.mgrid[:192, :192]
    sky = np.full((192, 192), 300.0)
    for light in 2000 * np.minimum(random.pareto(1.0, 200) / 20, 1):
        y, x = random.uniform(2, 190, 2)
        near = (rows - y) ** 2 + (columns - x) ** 2
        sky += light * np.exp(-4 * np.log(2) * near / width**2)
    stored = random.poisson(sky).astype(np.uint16)
    assert np.array_equal(denoise(stored, "auto", options=FAST), denoise(stored, "none"))


@pytest.mark.parametrize("photons", [8, 20, 100])
def test_single_photons_are_no_hot_pixels(photons: int) -> None:
    _, noisy = dim(pictures(192, gray=True)[0] ** 2, photons)
    for picture in (noisy, np.rint(255 * noisy).astype(np.uint8)):
        assert np.array_equal(denoise(picture, "auto", options=FAST), denoise(picture, "none"))
