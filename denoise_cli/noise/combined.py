"""Several noise models one after another, or one of several."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Noise, sample_and_mean


@dataclass(frozen=True)
class Chain:
    """Several models one after another, as in ``camera+jpeg:70-95``."""

    models: tuple[Noise, ...]

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return self.sample_and_mean(clean, clean, generator)[0]

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        for model in self.models:
            picture, mean = sample_and_mean(model, picture, mean, generator)
        return picture, mean


@dataclass(frozen=True)
class Mix:
    """One of several models for each picture, drawn by weight."""

    models: tuple[Noise, ...]
    weights: tuple[float, ...]

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return self.sample_and_mean(clean, clean, generator)[0]

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        weights = torch.tensor(self.weights, device=picture.device)
        chosen = torch.multinomial(weights, len(picture), replacement=True, generator=generator)
        noisy, expected = torch.empty_like(picture), torch.empty_like(mean)
        for index, model in enumerate(self.models):
            members = chosen == index
            if members.any():
                noisy[members], expected[members] = sample_and_mean(
                    model, picture[members], mean[members], generator
                )
        return noisy, expected
