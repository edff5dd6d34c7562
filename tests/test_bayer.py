"""Gray pictures that are the mosaic of a color sensor keep it."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from test_stripes import quick

from denoise_cli import Denoiser
from denoise_cli.metrics import psnr

SAID = "colors of a mosaic set aside"


def mosaic(pattern: str = "RGGB", sigma: float = 8) -> tuple[np.ndarray, np.ndarray]:
    """A clean mosaic (Y, X) on 0..1, and a noisy one."""
    color = skimage.data.astronaut()[:256, 100:356].astype(np.float32) / 255
    clean = np.empty(color.shape[:2], np.float32)
    for place, letter in enumerate(pattern):
        y, x = divmod(place, 2)
        clean[y::2, x::2] = color[y::2, x::2, "RGB".index(letter)]
    noise = np.random.default_rng(0).normal(0, sigma / 255, clean.shape)
    return clean, (clean + noise).astype(np.float32)


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_a_mosaic_is_denoised_and_stays_one(pattern: str) -> None:
    clean, noisy = mosaic(pattern)
    result = quick().run(noisy)
    assert SAID in result.reason
    assert psnr(clean, result.samples) > psnr(clean, noisy) + 3
    # A network alone takes it for texture.
    assert psnr(clean, result.samples) > psnr(clean, Denoiser("none")(noisy)) + 5
    # The color of each filter stays.
    for y, x in np.ndindex(2, 2):
        assert abs(result.samples[y::2, x::2].mean() - noisy[y::2, x::2].mean()) < 1e-3


def test_stacks_tiles_and_sides_of_any_number_of_pixels() -> None:
    clean, noisy = (each[:243, :251] for each in mosaic())
    counts = (np.clip(np.stack([noisy, noisy]), 0, 1) * 4095).round().astype(np.uint16)
    denoiser = Denoiser("auto", options={"budget": "fast"}, tile=161, overlap=33)
    result = denoiser.run(counts, "ZYX")
    assert SAID in result.reason
    assert result.samples.dtype == np.uint16
    assert psnr(clean, result.samples[1] / 4095) > psnr(clean, noisy) + 3


def test_adapted_it_is_better_still() -> None:
    clean, noisy = mosaic()
    result = Denoiser("auto", options={"steps": 20}).run(noisy)
    assert SAID in result.reason
    assert psnr(clean, result.samples) > psnr(clean, quick()(noisy))


@pytest.mark.parametrize("name", ["brick", "grass", "gravel", "camera", "page", "checkerboard"])
@pytest.mark.parametrize("sigma", [0, 20])
def test_other_gray_pictures_are_none(name: str, sigma: int) -> None:
    clean = getattr(skimage.data, name)()[:191, :200] / 255
    noisy = clean + np.random.default_rng(0).normal(0, sigma / 255, clean.shape)
    assert SAID not in quick().run(noisy.astype(np.float32)).reason


def test_color_pictures_are_none() -> None:
    noisy = np.stack([mosaic()[1]] * 2 + [mosaic()[0]], axis=-1)
    assert SAID not in quick().run(noisy).reason
