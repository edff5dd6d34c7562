"""Bands, as of sensors that are read out line by line: what lines have in common goes first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .windows import square_mean, square_variance

# The means of as many parts of a line, where the picture is flat, are compared, each without the
# mean of so many lines around; a part counts with as many flat pixels, a line with as many parts.
PARTS, AROUND, FEWEST_PIXELS, FEWEST_PARTS = 8, 15, 8, 3
# Flat is where what was taken away has at least a quarter of the variance of what was left: bands
# are left, and are texture as well. Nothing is made of pictures with less of it than that.
WINDOW, FLAT, LEAST_FLAT = 17, 4.0, 0.1
# Bands differ from line to line, while what a picture has in common along its lines lasts for
# some: photos under other noise show 0.25 and more where they show anything, bands 0.02 at most.
# And the variance in common, of that between the parts: the former show 0.14 at most, bands that
# are worth it 0.5 and more.
LEAST_ALIKE, MOST_ALIKE, LEAST_COMMON = -0.35, 0.15, 0.25
# Nor do they come again, as blinds, planks and bricks do: of the power of white noise the strongest
# of 256 frequencies has 12 times the mean in one of 600 pictures (Fisher's test). And they are in
# all lines: the kurtosis of normal noise is 3, of what is in every sixteenth line 15.
STRONGEST, SPARSEST = 12.0, 5.0


@torch.no_grad()
def along(network: Any, part: Tensor) -> int | None:
    """The axis along which the lines of `part` (N, C, Y, X) have noise in common; None if none.

    `network` makes of the picture what shows where it is flat.
    """
    denoised = _denoised(network, part)
    rows, columns = _Lines.of(part, denoised), _Lines.of(part.mT, denoised.mT)
    axis, lines = (-1, rows) if rows.common >= columns.common else (-2, columns)
    return axis if lines.are_banded else None


@torch.no_grad()
def without(network: Any, axis: int, pictures: Tensor) -> Tensor:
    """`pictures` (N, C, Y, X) without what the lines along `axis` have in common in the noise."""
    denoised = _denoised(network, pictures)
    if axis == -1:
        less = pictures - _Lines.of(pictures, denoised).offsets
    else:
        less = pictures - _Lines.of(pictures.mT, denoised.mT).offsets.mT
    return less.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class _Lines:
    """What the rows of pictures have in common in the noise.

    Attributes
    ----------
    offsets : Tensor (N, C, Y, 1)
        Of each row, as far as chance lets them be told; 0 if the rows are not banded.
    common, apart : float
        The variance that the parts of a row have in common, and that between them.
    alike : float
        The correlation of neighboring rows.
    periodic : float
        The power of the strongest frequency over the mean of all.
    sparse : float
        The kurtosis of the offsets.
    """

    offsets: Tensor
    common: float = 0.0
    apart: float = 0.0
    alike: float = 1.0
    periodic: float = 0.0
    sparse: float = 3.0

    @property
    def are_banded(self) -> bool:
        """Whether that is noise."""
        is_white = LEAST_ALIKE <= self.alike <= MOST_ALIKE and self.periodic <= STRONGEST
        is_plain = self.common > LEAST_COMMON * self.apart
        return is_white and self.sparse <= SPARSEST and is_plain

    @classmethod
    def of(cls, noisy: Tensor, denoised: Tensor) -> _Lines:
        """Of `noisy` (N, C, Y, X), where `denoised` is flat."""
        none = torch.zeros_like(noisy[..., :1], dtype=torch.float32)
        flat = _flat(noisy, denoised)
        if float(flat.mean()) < LEAST_FLAT:
            return cls(none)
        means, known = _of_parts(noisy.float(), flat)
        parts = known.sum(dim=0)
        mean = means.sum(dim=0) / parts.clamp(min=1)
        # Of rows with enough parts, what these differ by is what the mean is by chance.
        enough = (parts >= FEWEST_PARTS).float()
        many = enough.sum(dim=-1, keepdim=True).clamp(min=1)
        between = ((means - mean) * known).square().sum(dim=0) / (parts - 1).clamp(min=1)
        apart = (between * enough).sum(dim=-1, keepdim=True) / many
        by_chance = apart / parts.clamp(min=1)
        mean = mean * enough
        common = ((mean.square() - by_chance) * enough).sum(dim=-1, keepdim=True) / many
        beside = (mean[..., 1:] * mean[..., :-1]).sum() / mean.square().sum().clamp(min=1e-12)
        share = common.clamp(min=0) / (common.clamp(min=0) + by_chance).clamp(min=1e-12)
        power = torch.fft.rfft(mean).abs().square()[..., 1:].mean(dim=(0, 1))
        periodic = power.max() / power.mean().clamp(min=1e-12)
        squares = mean.square()
        sparse = squares.square().mean() * enough.mean() / squares.mean().square().clamp(min=1e-24)
        of_all = (float(v) for v in (common.mean(), apart.mean(), beside, periodic, sparse))
        found = cls((share * mean)[..., None], *of_all)
        return found if found.are_banded else replace(found, offsets=none)


def _flat(noisy: Tensor, denoised: Tensor) -> Tensor:
    """Where `denoised` (N, C, Y, X) is flat beside what was taken away: 1, elsewhere 0."""
    taken = square_mean((noisy - denoised).float().square(), WINDOW).mean(dim=1, keepdim=True)
    left = square_variance(denoised, WINDOW).mean(dim=1, keepdim=True)
    return (left < FLAT * taken).float()


def _of_parts(noisy: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
    """The means of parts of rows where `flat`, without those of rows around; and which are known.

    Both (PARTS, N, C, Y).
    """
    counts, sums = (
        torch.stack([part.sum(dim=-1) for part in each.tensor_split(PARTS, dim=-1)])
        for each in (flat.expand_as(noisy), noisy * flat)
    )
    known = (counts >= FEWEST_PIXELS).float()
    means = sums / counts.clamp(min=1) * known
    return (means - _around(means) / _around(known).clamp(min=1e-6)) * known, known


def _around(means: Tensor) -> Tensor:
    """The means of rows around each, of `means` (..., Y)."""
    rows = means.reshape(-1, 1, means.shape[-1])
    return F.avg_pool1d(rows, AROUND, 1, AROUND // 2).view_as(means)


def _denoised(network: Any, pictures: Tensor) -> Tensor:
    """What `network` makes of `pictures` (N, C, Y, X) with sides of any number of pixels."""
    rows, columns = pictures.shape[-2:]
    extra = (0, -columns % network.multiple_of, 0, -rows % network.multiple_of)
    whole = F.pad(pictures.float(), extra, mode="replicate")
    whole = whole.contiguous(memory_format=torch.channels_last)
    denoised: Tensor = network(whole).float()
    return denoised[..., :rows, :columns]
