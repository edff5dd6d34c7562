"""Noise that is correlated between pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Range, blurred, normal


@dataclass(frozen=True)
class Correlated:
    """Gaussian noise of SIGMA (0..255 scale), blurred to a correlation of WIDTH pixels.

    The share SHARED of its variance is the same in all channels, as in the grain of a film.
    """

    sigma: Range
    width: Range = Range(0.5, 1.5)
    shared: Range = Range(0.0, 0.0)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        width = self.width.draw(clean, generator)
        noise = normal(clean, generator)
        if self.shared.high:
            shared = self.shared.draw(clean, generator)
            common = normal(clean[:, :1], generator)
            noise = shared.sqrt() * common + (1 - shared).clamp(min=0).sqrt() * noise
        noise = blurred(noise, width)
        noise = noise / noise.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        return clean + self.sigma.draw(clean, generator) / 255 * noise


@dataclass(frozen=True)
class Stripes:
    """Each row brighter or darker by Gaussian noise of SIGMA (0..255 scale), or each column.

    As sensors have it that are read out row by row: banding, row noise. Half of the pictures have
    rows, the others columns. The share SHARED of its variance is the same in all channels.
    """

    sigma: Range
    shared: Range = Range(0.0, 1.0)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        count = len(clean)
        down = torch.rand(count, 1, 1, 1, generator=generator, device=clean.device) < 0.5
        shared = self.shared.draw(clean, generator)
        rows, columns = (
            shared.sqrt() * normal(line[:, :1], generator)
            + (1 - shared).clamp(min=0).sqrt() * normal(line, generator)
            for line in (clean[..., :1], clean[..., :1, :])
        )
        return clean + self.sigma.draw(clean, generator) / 255 * torch.where(down, rows, columns)
