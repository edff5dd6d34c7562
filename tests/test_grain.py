"""Grain of film: correlated noise that all colors share, for which `auto` has a network."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from test_stripes import quick

from denoise_cli import Denoiser, noise
from denoise_cli.metrics import psnr

NAME = "ttt-mim-grain"


def under(spec: str, clean: np.ndarray) -> np.ndarray:
    """`clean` (Y, X[, 3]) on 0..1 with noise, as floats; gray pictures get one plane of it."""
    planes = torch.from_numpy(np.atleast_3d(clean)).permute(2, 0, 1)[None]
    drawn = noise.parse(spec).sample(planes, torch.Generator().manual_seed(0)).clamp(0, 1)
    return drawn[0].permute(1, 2, 0).numpy().reshape(clean.shape)


def photo(name: str = "astronaut", size: int = 256) -> np.ndarray:
    """A photo on 0..1, of which a part is taken."""
    return getattr(skimage.data, name)()[:size, 100 : 100 + size].astype(np.float32) / 255


@pytest.mark.parametrize("spec", ["correlated:10,1.2,0.95", "correlated:20,1.7,0.95"])
def test_grain_is_taken_away_by_the_network_that_knows_it(spec: str) -> None:
    clean = photo()
    noisy = under(spec, clean)
    result = quick().run(noisy)
    assert NAME in result.reason
    assert psnr(clean, result.samples) > psnr(clean, Denoiser("none")(noisy)) + 0.5


def test_a_picture_with_grain_gains_by_the_tuning_as_well() -> None:
    clean = photo()
    noisy = under("correlated:15,1.3,0.95", clean)
    result = Denoiser("auto", options={"steps": 40}).run(noisy)
    assert f"{NAME}, tuned" in {candidate.name for candidate in result.candidates}
    assert psnr(clean, result.samples) > psnr(clean, quick()(noisy))


@pytest.mark.parametrize(
    "spec", ["gaussian:25", "poisson:20", "camera:0.005", "correlated:20,1", "gaussian:15+jpeg:85"]
)
def test_other_noise_is_no_grain(spec: str) -> None:
    reason = quick().run(under(spec, photo())).reason
    assert NAME not in reason


@pytest.mark.parametrize("name", ["grass", "gravel", "brick", "astronaut", "coffee"])
@pytest.mark.parametrize("sigma", [0, 3])
def test_texture_is_no_grain(name: str, sigma: int) -> None:
    noisy = under(f"gaussian:{sigma}", photo(name))
    assert NAME not in quick().run(noisy).reason


def test_all_of_a_large_picture_must_have_grain() -> None:
    """Texture that is like grain covers a part of it."""
    large = np.tile(photo(), (2, 5, 1))
    noisy = under("correlated:15,1.3,0.95", large)
    assert NAME in quick().run(noisy).reason
    noisy[:, 400:] = large[:, 400:]
    assert NAME not in quick().run(noisy).reason
