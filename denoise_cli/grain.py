"""Grain: noise that is correlated between pixels and the same in all colors, as films have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .flat import FlatPlaces, energy, usable
from .transforms import beside_and_below, is_gray, of_any_size
from .validation import WINDOW, noise_left

# Chosen on 400 parts of training photos under grain and many other kinds of noise, and on textured
# ones with little or none. A network that knows grain is 0.7 dB better on average where the first
# knows the noise and these hold, and loses 0.4 at most.
LEVEL, SHARED, CORRELATION = 3 / 255, 0.85, 0.5
# The first network knows noise of which it leaves less than this share. Of other noise, the network
# that knows it leaves this part of what the first one does, and most places hold about as much of
# it as flat ones do: some texture of a picture is like grain, but seldom all.
KNOWN, LESS, EVERYWHERE = 0.05, 0.35, 0.33
# In gray pictures all noise is the same in all colors, that of micrographs too: there the other
# network must leave less of noise that the first one knows.
LESS_IN_GRAY = 0.7


@dataclass(frozen=True)
class Removed:
    """What was taken away of a picture.

    Attributes
    ----------
    level : float
        The standard deviation of that in flat places.
    shared : float
        The share of it that all colors have in common.
    correlation : float
        That of neighbors in what they have in common.
    everywhere : float
        The variance in the median place, as a share of that in flat places.
    """

    level: float
    shared: float
    correlation: float
    everywhere: float

    @classmethod
    def of(cls, noisy: Tensor, denoised: Tensor) -> Removed:
        """By both pictures (N, C, Y, X), in windows without what is coarser."""
        places = FlatPlaces.of(noisy, denoised, WINDOW)
        flat = places.removed[places.donors]
        common = flat.mean(dim=1)
        variance = max(float(flat.square().mean()), 1e-12)
        shared = max(float(common.square().mean()), 1e-12)
        beside, below = map(float, beside_and_below(common))
        held = energy(places.removed)[usable(energy(places.samples))]
        return cls(
            level=variance**0.5,
            shared=shared / variance,
            correlation=(beside + below) / 2 / shared,
            everywhere=float(held.median()) / variance if len(held) else 0.0,
        )

    @property
    def is_grain(self) -> bool:
        """Whether it is plainly grain."""
        return self.level > LEVEL and self.shared > SHARED and self.correlation > CORRELATION


@torch.no_grad()
def is_known_to(other: Any, part: Tensor, denoised: Tensor) -> bool:
    """Whether `part` (N, C, Y, X) has grain, which the network `other` knows better.

    `denoised` is what the first network makes of it.
    """
    left = noise_left(part, denoised)
    if left < KNOWN * noise_left(part, part):
        if not Removed.of(part, denoised).is_grain:
            return False
        return not is_gray(part) or noise_left(part, of_any_size(other, part)) < LESS_IN_GRAY * left
    better = of_any_size(other, part)
    if noise_left(part, better) > LESS * left:
        return False
    removed = Removed.of(part, better)
    return removed.is_grain and removed.everywhere > EVERYWHERE
