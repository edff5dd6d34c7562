"""Details that were taken away with the noise are given back, and noise is not."""

from __future__ import annotations

import numpy as np
import torch

from denoise_cli import details, noise

SIGMA = 10 / 255


def weave() -> tuple[torch.Tensor, torch.Tensor]:
    """A picture (1, 3, 128, 256) whose right half is a fine weave, and what a blur leaves of it."""
    smooth = torch.linspace(0.3, 0.6, 256).expand(1, 3, 128, 256).contiguous()
    clean = smooth.clone()
    checks = torch.tensor([1.0, -1.0]).repeat(64)
    clean[..., 128:] += 0.08 * checks * checks[:, None]
    return clean, smooth


def sample(spec: str, clean: torch.Tensor) -> torch.Tensor:
    return noise.parse(spec).sample(clean, torch.Generator().manual_seed(0))


def error(found: torch.Tensor, clean: torch.Tensor) -> float:
    return float((found - clean).square().mean() ** 0.5)


def test_a_texture_that_was_removed_comes_back_and_noise_does_not() -> None:
    clean, smooth = weave()
    noisy = sample("gaussian:10", clean)
    found = details.give_back(noisy, smooth, SIGMA**2)
    left, right = np.s_[..., :112], np.s_[..., 144:]
    assert error(found[right], clean[right]) < 0.5 * error(smooth[right], clean[right])
    assert error(found[right], clean[right]) < SIGMA
    assert error(found[left], clean[left]) < 0.05 * SIGMA


def test_neither_impulses_nor_clipped_places_come_back() -> None:
    clean = torch.full((1, 3, 96, 96), 0.5)
    clean[..., :32] = 0.0
    clipped = sample("gaussian:10", clean).clamp(0, 1)
    clipped[..., 10::24, 44::20] = 1.0
    found = details.give_back(clipped, clean, SIGMA**2)
    # As much of a fifth of the noise as of an impulse would show: 0.5 against 0.04.
    assert (found - clean).abs().max() < 0.3 * 4 * SIGMA
    assert torch.equal(found[..., :28], clean[..., :28])
