"""Is what a network leaves in flat places noise, or texture?"""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from denoise_cli import checkpoints, noise_kind
from denoise_cli.texture import passes_for_noise, share_of_noise

PICTURE = torch.linspace(0.2, 0.8, 128).expand(1, 3, 128, 128) + 0.05 * torch.randn(
    1, 3, 128, 128, generator=torch.Generator().manual_seed(0)
)


def smooth(picture: Tensor) -> Tensor:
    """Takes away whatever is fine."""
    return F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="reflect"), 3, 1)


def keep(picture: Tensor) -> Tensor:
    """Takes the fine part of `PICTURE` for texture, and all that is added to it for noise."""
    return PICTURE - 0.1 * (PICTURE - smooth(PICTURE)) + smooth(picture - PICTURE)


def share(predict: object) -> float:
    generator = torch.Generator().manual_seed(0)
    return share_of_noise(predict, PICTURE, predict(PICTURE), generator)  # type: ignore


def test_what_is_taken_away_as_it_would_be_where_it_is_added_is_noise():
    assert share(smooth) > 0.7


def test_what_is_left_but_would_be_taken_away_where_it_is_added_is_texture():
    assert share(keep) < 0.1


def test_what_a_network_passes_over_wherever_it_is_may_be_noise():
    assert share(lambda picture: picture) > 0.9


@pytest.mark.parametrize(("name", "sigma", "passes"), [
    ("grass", 2, True), ("gravel", 2, True), ("moon", 2, False), ("grass", 12, False),
])  # fmt: skip
@torch.no_grad()
def test_texture_that_is_stronger_in_the_light_passes_for_noise(
    name: str, sigma: int, passes: bool
) -> None:
    texture = getattr(skimage.data, name)()[:256, :256] / 255
    light = np.linspace(0.05, 0.6, 256)
    clean = light * (1 + 1.2 * (texture - texture.mean()))
    noisy = clean + np.random.default_rng(0).normal(0, sigma / 255, clean.shape)
    picture = torch.from_numpy(noisy.clip(0, 1).astype(np.float32)).expand(1, 3, 256, 256)
    picture = picture.contiguous(memory_format=torch.channels_last)
    network = checkpoints.load("ttt-mim").network.eval()
    denoised = network(picture)
    level = noise_kind.removed_level(picture, picture, denoised)
    assert level is not None
    variance = float(level.variance(picture).mean())
    if passes:  # it is taken to be far too strong
        assert variance > 1.5 * (sigma / 255) ** 2
    generator = torch.Generator().manual_seed(0)
    assert passes_for_noise(network, picture, denoised, variance, generator) == passes
