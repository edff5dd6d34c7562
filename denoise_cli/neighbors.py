"""How much noise has in common with its neighbors, by the high frequencies of flat places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import noise_level
from .noise_level import NoiseLevel
from .transforms import block_energies, cosines, distinct_planes

SIDE, STRIDE = 8, 4  # of the blocks, in pixels
# Blocks are flat by the sum of both frequencies up to TEXTURE, and the noise is looked at from HIGH
# on: what is left of it where the picture is told to be flat does not choose among the blocks.
TEXTURE, HIGH = 4, 5
FLATTEST, FEWEST = 0.25, 40
# The energies that count, without the highest of details, and the mean of as many of the squares of
# a normal variable: surer than the median.
KEPT, MEAN_OF_KEPT = 0.9, 0.6230
HIGHEST, LOWEST, STEPS = 0.45, -0.2, 66
# For each of the correlations the level is too low by as much at least: measured on dark synthetic
# micrographs. Where a network leaves noise, blocks that seem flat hold too little.
LEAST_LOWER = 0.6


@dataclass(frozen=True)
class Neighbors:
    """What noise has in common with its neighbors.

    Attributes
    ----------
    across, down : float
        The correlation of neighbors along the rows, and down the columns; of diagonal ones it is
        the product.
    times : float
        How much stronger than its level the noise is for that: methods that find the level by the
        weakest direction find too little of such noise.
    """

    across: float = 0.0
    down: float = 0.0
    times: float = 1.0

    @classmethod
    def of(cls, noisy: Tensor, denoised: Tensor, level: NoiseLevel, trust: Tensor) -> Neighbors:
        """Of the noise of `noisy` (N, C, Y, X) about `level`, where `trust` (N, 1, Y, X) is 1.

        By the spectrum of the flattest blocks in `denoised`. White if they are too few.
        """
        noisy = distinct_planes(noisy)
        denoised = denoised[:, : noisy.shape[1]]
        deviation = level.variance(denoised).sqrt()
        known = F.avg_pool2d(trust, SIDE, STRIDE).flatten() > 0.99
        count = round(FLATTEST * int(known.sum()))
        if count < FEWEST:
            return cls()
        spectra = []
        for noise, picture in zip(
            *(
                block_energies(each / deviation, SIDE, STRIDE).transpose(0, 1).flatten(1, 2)
                for each in (noisy, denoised)
            ),
            strict=True,
        ):
            texture = picture[known][:, _frequencies(1, TEXTURE)].mean(dim=1)
            flat = noise[known][texture.argsort()[:count]]
            kept = flat.sort(dim=0).values[: round(KEPT * count)]
            spectra.append(kept.mean(dim=0) / MEAN_OF_KEPT)
        across, down, variance = _fitted(torch.stack(spectra).mean(dim=0))
        least = 1 + LEAST_LOWER * (abs(across) + abs(down))
        # All of it that the weakest direction may lack.
        most = 1 / ((1 - 2 * abs(across)) * (1 - 2 * abs(down)))
        return cls(across, down, min(max(variance, least), most))


WHITE = Neighbors()


def of_level(noisy: Tensor, denoised: Tensor, level: NoiseLevel) -> tuple[NoiseLevel, Neighbors]:
    """The `level` of the noise of `noisy` (N, C, Y, X) as it is for what neighbors have in common.

    And what that is; noise that does not grow with the light is taken for white.
    """
    if not level.shot:
        return level, WHITE
    neighbors = Neighbors.of(noisy, denoised, level, noise_level.trusted(noisy, level))
    return level.stronger(neighbors.times), neighbors


def _fitted(spectrum: Tensor) -> tuple[float, float, float]:
    """The correlations along both axes and the variance of noise of such a `spectrum` (W, W)."""
    cosine = cosines(SIDE)
    beside = 2 * (cosine[:, 1:] * cosine[:, :-1]).sum(dim=1)
    correlations = torch.linspace(LOWEST, HIGHEST, STEPS)
    one = (1 + correlations[:, None] * beside).clamp(min=1e-3).log()
    high = _frequencies(HIGH, 2 * SIDE)
    both = (one[:, None, :, None] + one[None, :, None, :])[..., high]
    off = spectrum.cpu()[high].clamp(min=1e-12).log() - both
    down, across = divmod(int(off.var(dim=-1).argmin()), STEPS)
    variance = float(off[down, across].mean().exp())
    return float(correlations[across]), float(correlations[down]), variance


def _frequencies(first: int, last: int) -> Tensor:
    """Those (W, W) whose sum is from `first` to `last`."""
    order = torch.arange(SIDE)
    order = order[:, None] + order
    return (order >= first) & (order <= last)
