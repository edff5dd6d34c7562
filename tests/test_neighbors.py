"""What noise has in common with its neighbors is told from the picture alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from denoise_cli.neighbors import WHITE, Neighbors
from denoise_cli.noise_level import NoiseLevel

LEVEL = NoiseLevel(shot=0.02, read=0.001)


def scene(channels: int) -> Tensor:
    """A slope, two thirds of it covered with fine texture; (1, channels, 192, 192) on 0..1."""
    slope = torch.linspace(0.2, 0.7, 192).expand(1, 1, 192, 192).clone()
    texture = F.avg_pool2d(torch.randn(1, 1, 192, 192, generator=generator(5)), 3, 1, 1)
    slope[..., :128, :] += 0.3 * texture[..., :128, :]
    return torch.cat([slope * (1 - 0.1 * k) for k in range(channels)], dim=1).clamp(0, 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(clean: Tensor, across: float, down: float) -> Tensor:
    """Of `LEVEL`, each pixel of which has shares of the one before it and of the one above."""
    drawn = LEVEL.sample(clean, generator(1)) - clean
    for share, axis in ((across, -1), (down, -2)):
        drawn = (drawn + share * drawn.roll(1, axis)) / (1 + share**2) ** 0.5
    return drawn


def found(clean: Tensor, noise: Tensor, level: NoiseLevel = LEVEL) -> Neighbors:
    return Neighbors.of(clean + noise, clean, level, torch.ones_like(clean[:, :1]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("across", "down"), [(0, 0), (0.25, 0), (0, 0.25), (0.1, 0.1)])
def test_the_correlations_are_those_of_the_noise(channels: int, across: float, down: float) -> None:
    clean = scene(channels)
    neighbors = found(clean, noise(clean, across, down))
    assert neighbors.across == pytest.approx(across / (1 + across**2), abs=0.04)
    assert neighbors.down == pytest.approx(down / (1 + down**2), abs=0.04)


def test_a_gray_picture_of_three_channels_is_looked_at_once() -> None:
    clean = scene(1)
    drawn = noise(clean, 0.2, 0)
    three = [each.expand(-1, 3, -1, -1) for each in (clean, drawn)]
    assert found(*three) == found(clean, drawn)


def test_a_level_that_is_too_low_is_raised_for_correlated_noise_alone() -> None:
    clean = scene(1)
    low = NoiseLevel(LEVEL.shot / 1.3, LEVEL.read / 1.3)
    assert found(clean, noise(clean, 0.25, 0), low).times == pytest.approx(1.3, abs=0.08)
    # By a share of the correlation at least: part of the noise may not show in flat places.
    assert found(clean, noise(clean, 0.25, 0)).times == pytest.approx(1.14, abs=0.03)
    for level in (low, LEVEL):
        assert found(clean, noise(clean, 0, 0), level).times < 1.12


def test_places_that_are_not_trusted_are_not_looked_at() -> None:
    clean, trust = scene(1), torch.ones(1, 1, 192, 192)
    clipped = noise(clean, 0.25, 0)
    clipped[..., :96], trust[..., :96] = 0, 0
    neighbors = Neighbors.of(clean + clipped, clean, LEVEL, trust)
    assert neighbors.across == pytest.approx(0.25 / 1.0625, abs=0.05)
    assert Neighbors.of(clean + clipped, clean, LEVEL, torch.zeros_like(trust)) == WHITE
