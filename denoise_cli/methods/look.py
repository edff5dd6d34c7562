"""A part of a picture, and what networks make of it: what `auto` decides by."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import noise_kind, noise_level, stripes, texture, views
from ..neighbors import WHITE, Neighbors, of_level
from ..noise_level import NoiseLevel
from ..validation import noise_left
from ..views import View
from .base import SMALLEST_SIDE, Predictor, random_crop

LOOKED_AT = 256  # pixels along each side


def looked_at(noisy: Tensor) -> int:
    """The side of the part that is looked at; 0 if the picture is too small for one."""
    return min(LOOKED_AT, *noisy.shape[-2:]) // SMALLEST_SIDE * SMALLEST_SIDE


class Look:
    """A part of the picture, and what networks make of it.

    Attributes
    ----------
    part : Tensor (1, C, Y, X)
    left : dict of float
        The variance that the flattest places of each result hold.
    noise : float
        The variance that they hold in the picture itself.
    """

    def __init__(self, noisy: Tensor, generator: torch.Generator) -> None:
        self.part = random_crop(noisy, looked_at(noisy), generator)
        self._results: dict[str, Tensor] = {}
        self.left: dict[str, float] = {}
        self.noise = max(noise_left(self.part, self.part), 1e-12)

    def even(
        self,
        predict: Predictor,
        level: NoiseLevel,
        neighbors: Neighbors,
        generator: torch.Generator,
    ) -> View | None:
        """The view in which noise that grows with the light is even, if that is no worse."""
        trust = noise_level.trusted(self.part, level)
        if float(trust.mean()) < noise_level.LEAST_TRUSTED:
            return None
        return views.best(predict, self.part, level, trust, generator, 0.0, neighbors)[0]

    @torch.no_grad()
    def __call__(self, name: str, predict: Predictor) -> float:
        """The variance that the result of a network holds, which is kept under its `name`."""
        self._results[name] = predict(self.part).float()
        self.left[name] = noise_left(self.part, self._results[name])
        return self.left[name]

    def holds_noise(self, name: str, predict: Predictor, generator: torch.Generator) -> bool:
        """Whether it is noise that flat places hold, to the network of this `name`."""
        return texture.holds_noise(predict, self.part, self._results[name], generator)

    def is_texture(
        self, name: str, predict: Predictor, level: NoiseLevel, generator: torch.Generator
    ) -> bool:
        """Whether texture passed for noise of `level`, to the network of this `name`."""
        variance, denoised = float(level.variance(self.part).mean()), self._results[name]
        return texture.passes_for_noise(predict, self.part, denoised, variance, generator)

    def mean(self, names: list[str]) -> Tensor:
        """Of these results."""
        return torch.stack([self._results[name] for name in names]).mean(dim=0)

    def removed(self, names: list[str]) -> float:
        """The energy of what the mean of these results took away."""
        return float((self.part - self.mean(names)).square().mean())

    def level(self, noisy: Tensor, names: list[str]) -> tuple[NoiseLevel | None, Neighbors]:
        """That of the noise of the whole picture `noisy`, by what these results took away.

        And what that noise has in common with its neighbors.
        """
        denoised = self.mean(names)
        level = noise_kind.removed_level(noisy, self.part, denoised)
        return (None, WHITE) if level is None else of_level(self.part, denoised, level)

    def is_white(self, names: list[str], level: NoiseLevel) -> bool:
        """Whether noise of this level is as strong in all directions, colors and frequencies."""
        return noise_kind.is_white(self.part, self.mean(names), level)

    def is_striped(self, names: list[str]) -> bool:
        """Whether rows or columns have noise in common, by what these results took away."""
        return stripes.has_stripes(self.part, self.mean(names))

    def shares_left(self) -> dict[str, float]:
        """The standard deviation that each result leaves over that of the picture."""
        return {name: math.sqrt(left / self.noise) for name, left in self.left.items()}
