"""Bands, as of sensors that are read out line by line, are taken away before anything else."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from denoise_cli import Denoiser
from denoise_cli.metrics import psnr

SAID = "bands taken away"


def quick() -> Denoiser:
    return Denoiser("auto", options={"budget": "fast"})


def banded(
    shared: int = 0, size: int = 256, axes: tuple[int, ...] = (1,)
) -> tuple[np.ndarray, np.ndarray]:
    """A clean picture (Y, X, 3) on 0..1, and with white noise and bands along these axes."""
    clean = skimage.data.astronaut()[:size, 100 : 100 + size].astype(np.float32) / 255
    draws = np.random.default_rng(0)
    noisy = clean + draws.normal(0, 12 / 255, clean.shape)
    for axis in axes:
        shape = [1 if k == axis else side for k, side in enumerate(clean.shape)]
        shape[-1] = 1 if shared else 3
        noisy = noisy + draws.normal(0, 9 / 255, shape)
    return clean, noisy.astype(np.float32)


@pytest.mark.parametrize("shared", [0, 1])
@pytest.mark.parametrize("down", [False, True])
def test_lines_are_evened_out(down: bool, shared: int) -> None:
    clean, noisy = banded(shared)
    if down:
        clean, noisy = (np.ascontiguousarray(each.swapaxes(0, 1)) for each in (clean, noisy))
    result = quick().run(noisy)
    assert SAID in result.reason
    assert psnr(clean, result.samples) > psnr(clean, Denoiser("none")(noisy)) + 1


def test_lines_in_both_directions_are() -> None:
    clean, noisy = banded(1, axes=(0, 1))
    once = Denoiser("none")(noisy)
    result = quick().run(noisy)
    assert SAID in result.reason
    assert psnr(clean, result.samples) > psnr(clean, once) + 2
    # As well as where they run one way.
    assert psnr(clean, result.samples) > psnr(clean, quick()(banded(1)[1])) - 1


def test_gray_pictures_and_stacks_too() -> None:
    clean, noisy = (each.mean(axis=-1) for each in banded(1))
    result = quick().run(np.stack([noisy, noisy[:, ::-1]]), "ZYX")
    assert SAID in result.reason
    assert psnr(clean, result.samples[0]) > psnr(clean, Denoiser("none")(noisy)) + 1


def test_sides_of_any_number_of_pixels_and_tiles() -> None:
    clean, noisy = (each[:243, :251] for each in banded())
    plain = psnr(clean, Denoiser("none")(noisy))
    tiled = Denoiser("auto", options={"budget": "fast"}, tile=160, overlap=32).run(noisy)
    assert SAID in tiled.reason
    assert psnr(clean, tiled.samples) > plain + 0.5


@pytest.mark.parametrize("period", [2, 3, 4, 6, 12])
@pytest.mark.parametrize("sigma", [10, 30])
def test_blinds_and_planks_are_no_bands(period: int, sigma: int) -> None:
    """Though whole rows of the picture have them in common, and noise is as strong."""
    rows = np.arange(256)[:, None]
    clean = np.broadcast_to(0.6 - 0.2 * (rows % period == 0), (256, 256))
    drawn = np.random.default_rng(0).normal(0, sigma / 255, clean.shape)
    result = quick().run((clean + drawn).astype(np.float32))
    assert SAID not in result.reason


@pytest.mark.parametrize("name", ["brick", "grass", "camera", "page"])
def test_other_pictures_have_no_bands(name: str) -> None:
    clean = getattr(skimage.data, name)()[:191, :256] / 255
    drawn = np.random.default_rng(0).normal(0, 15 / 255, clean.shape)
    assert SAID not in quick().run((clean + drawn).astype(np.float32)).reason
