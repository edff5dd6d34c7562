"""Bands, as of sensors that are read out line by line: what lines have in common goes first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .transforms import of_any_size
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
# Of the variance of the noise, what the quarters of a row have in common in the picture and in what
# was removed. In the picture 0.09 at most under noise that is not banded, but for two of 55 photos,
# of which what was removed has nothing in common; 0.06 to 0.13 with row noise of a fifth of the
# deviation of the other noise, by which next to nothing is lost, and 0.26 and more with two fifths.
MOST_STRIPED, MOST_STRIPED_REMOVED = 0.18, 0.01
QUARTERS, NEAR, FEWEST_ROWS = 4, 9, 0.25  # as above; the share of the rows that are known


def along(part: Tensor, denoised: Tensor) -> int | None:
    """The axis along which the lines of `part` (N, C, Y, X) have noise in common; None if none.

    What a network made of it, `denoised`, shows where it is flat.
    """
    rows, columns = _Lines.of(part, denoised), _Lines.of(part.mT, denoised.mT)
    axis, lines = (-1, rows) if rows.common >= columns.common else (-2, columns)
    return axis if lines.are_banded else None


@torch.no_grad()
def without(network: Any, axes: tuple[int, ...], pictures: Tensor) -> Tensor:
    """`pictures` (N, C, Y, X) without what lines have in common in the noise.

    Along one of the `axes` after the other, by what `network` makes of the picture each time.
    """
    less = pictures
    for axis in axes:
        denoised = of_any_size(network, less)
        if axis == -1:
            less = less - _Lines.of(less, denoised).offsets
        else:
            less = less - _Lines.of(less.mT, denoised.mT).offsets.mT
    return less.contiguous(memory_format=torch.channels_last)


def has_stripes(noisy: Tensor, denoised: Tensor) -> bool:
    """Whether the noise of `noisy` (N, C, Y, X) has rows or columns in common, bands or not.

    As of sensors that are read out row by row. Where `denoised` is flat, the means of the quarters
    of a row then vary together from row to row, which of texture only some do.
    """
    flat = _flat(noisy, denoised)[:, 0]
    noisy, removed = (each.float().mean(dim=1) for each in (noisy, noisy - denoised))
    energy = (removed.square() * flat).sum() / flat.sum().clamp(min=1)
    return any(
        _in_common(one, where) > MOST_STRIPED * energy
        and _in_common(other, where) > MOST_STRIPED_REMOVED * energy
        for one, other, where in ((noisy, removed, flat), (noisy.mT, removed.mT, flat.mT))
    )


def _in_common(pictures: Tensor, flat: Tensor) -> float:
    """The variance that quarters of rows of `pictures` (N, Y, X) have in common where `flat`."""
    means, known = _of_parts(pictures, flat, QUARTERS, NEAR)
    common = []
    for one, other in combinations(range(QUARTERS), 2):
        both = known[one] * known[other]
        if float(both.mean()) >= FEWEST_ROWS:
            common.append(float((means[one] * means[other]).sum() / both.sum()))
    return sorted(common)[len(common) // 2] if common else 0.0


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
        means, known = _of_parts(noisy.float(), flat, PARTS, AROUND)
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


def _of_parts(pictures: Tensor, flat: Tensor, parts: int, around: int) -> tuple[Tensor, Tensor]:
    """The means of `parts` of rows of `pictures` (..., Y, X) where `flat`, and which are known.

    Both (parts, ..., Y), the means without that of so many rows `around`: its slow changes.
    """
    counts, sums = (
        torch.stack([part.sum(dim=-1) for part in each.tensor_split(parts, dim=-1)])
        for each in (flat.expand_as(pictures), pictures * flat)
    )
    known = (counts >= FEWEST_PIXELS).float()
    means = sums / counts.clamp(min=1) * known

    def slow(rows: Tensor) -> Tensor:
        lines = rows.reshape(-1, 1, rows.shape[-1])
        return F.avg_pool1d(lines, around, 1, around // 2).view_as(rows)

    return (means - slow(means) / slow(known).clamp(min=1e-6)) * known, known
