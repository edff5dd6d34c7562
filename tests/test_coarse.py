"""Noise that spreads over several pixels, which networks know at half the size."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from test_method_contract import pictures

from denoise_cli import Denoiser, noise
from denoise_cli.metrics import psnr

SAID = "coarse noise taken away at 1/"
GRAIN = "ttt-mim-grain"  # knows some of it, too: that all colors share


def enlarged(
    rows: int = 256, columns: int = 256, sigma: float = 15.0, color: float = 0.0
) -> list[np.ndarray]:
    """A photo on 0..1, and the same from a quarter of the size, where gray noise was added.

    Or noise of more `color` than the grain of a film has.
    """
    astronaut = Image.fromarray(skimage.data.astronaut()[:256, 100:356])
    small = astronaut.resize((columns // 4, rows // 4), Image.Resampling.LANCZOS)
    clean = np.asarray(small, np.float32) / 255
    draws = np.random.default_rng(0)
    grain, colored = (
        draws.normal(0, sigma / 255, (rows // 4, columns // 4, planes)) for planes in (1, 3)
    )
    grain = np.sqrt(1 - color**2) * grain + color * colored

    def large(picture: np.ndarray) -> np.ndarray:
        planes = [Image.fromarray(picture[..., k]) for k in range(3)]
        sides = (columns, rows)
        return np.stack([np.asarray(p.resize(sides, Image.Resampling.BICUBIC)) for p in planes], -1)

    return [large(clean), large((clean + grain).astype(np.float32))]


@pytest.mark.parametrize(("rows", "columns"), [(256, 256), (203, 301)])
def test_noise_of_an_enlarged_picture_is_taken_away(rows: int, columns: int) -> None:
    clean, noisy = enlarged(rows, columns)
    result = Denoiser("auto", options={"steps": 0}).run(noisy)
    assert (SAID if rows == 203 else GRAIN) in result.reason
    assert result.samples.shape == noisy.shape
    assert psnr(clean, result.samples) > psnr(clean, Denoiser("none")(noisy)) + 2


def test_finer_noise_and_texture_are_no_coarse_noise() -> None:
    quick = Denoiser("auto", options={"budget": "fast"})
    for spec in ("gaussian:25", "camera:0.005", "poisson:20", "defocus:1+gaussian:10"):
        assert SAID not in quick.run(pictures(192, spec=spec)[1]).reason
    for texture in (skimage.data.grass(), skimage.data.brick(), skimage.data.gravel()):
        assert SAID not in quick.run(texture[:256, :256].astype(np.float32) / 255).reason
    assert SAID not in quick.run(enlarged()[0]).reason


def test_impulses_are_left_to_the_network_that_knows_them() -> None:
    """They are as plain at half the size, and what is beneath them is known at full size alone."""
    clean = np.stack([skimage.data.moon()[:192, :192].astype(np.float32) / 255] * 3, axis=-1)
    planes = torch.from_numpy(clean).permute(2, 0, 1)[None]
    drawn = noise.parse("salt-pepper:0.05").sample(planes, torch.Generator().manual_seed(0))
    noisy = drawn[0].permute(1, 2, 0).numpy()
    result = Denoiser("auto", options={"budget": "fast"}).run(noisy)
    assert SAID not in result.reason
    assert psnr(clean, result.samples) > 40


@pytest.mark.slow
def test_a_large_picture_is_judged_and_learned_from_by_a_part_of_it() -> None:
    clean, noisy = (np.tile(each, (5, 4, 1))[:1090, :1000] for each in enlarged(color=0.53))
    result = Denoiser("auto", options={"budget": "fast"}).run(noisy)
    assert SAID in result.reason
    assert psnr(clean, result.samples) > psnr(clean, noisy) + 3


def test_one_frame_of_a_stack_and_a_gray_picture_will_do() -> None:
    clean, noisy = (each.mean(axis=-1) for each in enlarged(203, 301))
    quick = Denoiser("auto", options={"budget": "fast"})
    result = quick.run(noisy)
    assert SAID in result.reason
    assert psnr(clean, result.samples) > psnr(clean, noisy) + 2
    stack = quick.run(np.stack([noisy, noisy]), "ZYX")
    assert SAID in stack.reason
    assert stack.samples.shape == (2, 203, 301)
