"""Noise that is independent between pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Range, normal


@dataclass(frozen=True)
class Gaussian:
    """White Gaussian noise; SIGMA on the 0..255 scale."""

    sigma: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        sigma = self.sigma.draw(clean, generator) / 255
        return clean + sigma * normal(clean, generator)


@dataclass(frozen=True)
class Poisson:
    """Photon counting; PEAK is the mean count at white."""

    peak: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        peak = self.peak.draw(clean, generator)
        return torch.poisson(clean.clamp(min=0) * peak, generator=generator) / peak


@dataclass(frozen=True)
class PoissonGaussian:
    """Shot and read noise: variance SHOT * x + READ with x on 0..1.

    Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting", TIP 2008.
    """

    shot: Range
    read: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        shot, read = self.shot.draw(clean, generator), self.read.draw(clean, generator)
        return clean + (shot * clean.clamp(min=0) + read).sqrt() * normal(clean, generator)


@dataclass(frozen=True)
class Speckle:
    """Multiplicative noise: x + x * n, n of variance VARIANCE."""

    variance: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        scale = self.variance.draw(clean, generator).sqrt()
        return clean + clean * scale * normal(clean, generator)


@dataclass(frozen=True)
class SaltPepper:
    """A fraction AMOUNT of the samples set to 0 or 1, half of them each.

    At the share SHARED of the pixels the same is done in all channels, as with dust.
    """

    amount: Range
    shared: Range = Range(0.0, 0.0)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        amount = self.amount.draw(clean, generator)
        u = torch.rand(clean.shape, generator=generator, device=clean.device)
        if self.shared.high:
            shared = self.shared.draw(clean, generator)
            drawn = torch.rand(clean[:, :1].shape, generator=generator, device=clean.device)
            u = torch.where(drawn < shared, u[:, :1], u)
        noisy = torch.where(u < amount / 2, torch.zeros_like(clean), clean)
        return torch.where(u > 1 - amount / 2, torch.ones_like(clean), noisy)
