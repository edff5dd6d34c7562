"""Hot pixels of color sensors, which were spread to small spots of one color by demosaicing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .impulses import MAD_TO_DEVIATION, Places
from .transforms import is_gray
from .windows import window_mean

# A spot is of 3 x 3 pixels, as between two samples of a color linear demosaicing goes: at two
# pixels there is nothing of it left, and what is at three is what it stands out of, by so many of
# its deviations and on 0..1. Once there are some, so are the fainter ones.
SIDE, AROUND = 3, 3
SURE, LEAST_SURE, FAINT, LEAST_FAINT = 8.0, 0.08, 5.0, 0.06
LEAST_DEVIATION = 0.3 / 255
# What the other colors, and what is at two pixels, show of it at most; what the four beside it show
# at least, of a green one the quarter (impulses that were not demosaiced show nothing there); and
# the samples at three pixels that may be a third as bright, as of a line.
PURE, SHARP, SPREAD, LINE = 0.4, 0.15, 0.12, 1 / 3
# There must be more than of spots of one color that are larger or of one sample, and of sharp ones
# that are of more than one, as of flowers, stars and lamps: of 919 photos none has as many.
LEAST_SHARE, SURENESS = 1e-4, 3.0
# Of a spot, what is filled in beside the color it has.
SPILLED, SPILLED_DEVIATIONS = 0.1, 3.0
ROUNDS = 2
DIRECT = [1, 3, 4, 6]  # of the eight samples around one


def are_in(pictures: Tensor) -> bool:
    """Whether `pictures` (N, 3, Y, X) on 0..1 have hot pixels that were spread by demosaicing."""
    if pictures.shape[1] != 3 or min(pictures.shape[-2:]) <= 2 * AROUND or is_gray(pictures):
        return False
    found = _Spots.of(pictures.float(), SURE, LEAST_SURE)
    hot = int(found.are_hot.sum())
    others = int((found.are_pure ^ found.are_sharp).sum())
    enough = hot >= LEAST_SHARE * pictures[:, 0].numel()
    return enough and hot - others > SURENESS * (hot + others) ** 0.5


def filled(pictures: Tensor) -> Tensor:
    """`pictures` (N, 3, Y, X) with what is around in place of the spots."""
    if min(pictures.shape[-2:]) <= 2 * AROUND:
        return pictures
    result = pictures.float()
    for _ in range(ROUNDS):
        found = _Spots.of(result, FAINT, LEAST_FAINT)
        if not found.are_hot.any():
            break
        result = _inpainted(result, found.covered(result))
    return result.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class _Spots:
    """Places that stand out of pictures, and what they are like; all (K,).

    Attributes
    ----------
    where : tuple of Tensor
        The color is that which stands out the most.
    excess : Tensor
        By how much.
    are_pure, are_sharp : Tensor of bool
        Whether the other colors show little of it, and of what is around only the next pixels some.
    """

    where: Places
    excess: Tensor
    are_pure: Tensor
    are_sharp: Tensor

    @property
    def are_hot(self) -> Tensor:
        """Which are hot pixels."""
        return self.are_pure & self.are_sharp

    @classmethod
    def of(cls, pictures: Tensor, deviations: float, least: float) -> _Spots:
        """Those of `pictures` (N, 3, Y, X) that stand out by so much."""
        above = pictures - window_mean(pictures, 2 * AROUND + 1, 2 * AROUND + 1)
        highest = F.max_pool2d(above, 5, stride=1, padding=2)
        tops = (above == highest) & (above == above.amax(dim=1, keepdim=True))
        where = (tops & (above > least / 2)).nonzero().unbind(dim=1)
        median, deviation, around = _surroundings(pictures, where)
        excess = pictures[where] - median
        far = (excess > (deviations * deviation).clamp(min=least)) & (deviation > LEAST_DEVIATION)
        far &= ((around - median[:, None]) > LINE * excess[:, None]).sum(dim=1) <= 1
        where, excess, median = tuple(each[far] for each in where), excess[far], median[far]
        direct, beside = (
            (samples.mean(dim=1) - median) / excess
            for samples in (
                _ring(pictures, where, 1)[:, DIRECT],
                _ring(pictures, where, SIDE // 2 + 1),
            )
        )
        others = [
            (pictures[other] - _surroundings(pictures, other)[0]).abs() / excess
            for other in _other_colors(where)
        ]
        are_pure = torch.stack(others).amax(dim=0) < PURE
        return cls(where, excess, are_pure, (beside.abs() < SHARP) & (direct > SPREAD))

    def covered(self, pictures: Tensor) -> Tensor:
        """The samples of `pictures` (N, 3, Y, X) that hot pixels cover: a mask of that shape."""
        mask = torch.zeros_like(pictures, dtype=torch.bool)
        hot, excess = tuple(each[self.are_hot] for each in self.where), self.excess[self.are_hot]
        n, _, y, x = hot
        rows, columns = pictures.shape[-2:]
        for color in (hot, *_other_colors(hot)):
            median, deviation, _ = _surroundings(pictures, color)
            least = torch.maximum(SPILLED_DEVIATIONS * deviation, SPILLED * excess)
            for v, u in _square(SIDE // 2 + 1):
                place = (n, color[1], (y + v).clamp(0, rows - 1), (x + u).clamp(0, columns - 1))
                covered = (pictures[place] - median).abs() > least
                if color is hot and max(abs(v), abs(u)) <= SIDE // 2:
                    covered = torch.ones_like(covered)
                mask[tuple(each[covered] for each in place)] = True
        return mask


def _other_colors(where: Places) -> list[Places]:
    n, c, y, x = where
    return [(n, (c + step) % 3, y, x) for step in (1, 2)]


def _surroundings(pictures: Tensor, where: Places) -> tuple[Tensor, Tensor, Tensor]:
    """The median and the deviation of what is `AROUND` places, and that itself (K, samples)."""
    around = _ring(pictures, where, AROUND)
    median = around.median(dim=1).values
    deviation = MAD_TO_DEVIATION * (around - median[:, None]).abs().median(dim=1).values
    return median, deviation, around


def _ring(pictures: Tensor, where: Places, reach: int) -> Tensor:
    """The samples so far from places, of the same color: (K, 8 * reach)."""
    n, c, y, x = where
    rows, columns = pictures.shape[-2:]
    return torch.stack(
        [
            pictures[n, c, (y + v).clamp(0, rows - 1), (x + u).clamp(0, columns - 1)]
            for v, u in _square(reach)
            if max(abs(v), abs(u)) == reach
        ],
        dim=1,
    )


def _square(reach: int) -> list[tuple[int, int]]:
    side = range(-reach, reach + 1)
    return [(v, u) for v in side for u in side]


def _inpainted(pictures: Tensor, mask: Tensor) -> Tensor:
    """`pictures` (N, C, Y, X) with the mean of what is around where `mask` is, margin first."""
    known = ~mask
    while not known.all():
        weight = window_mean(known.float(), 3, 3)
        mean = window_mean(pictures * known, 3, 3) / weight.clamp(min=1e-6)
        reached = ~known & (weight > 1e-6)
        if not reached.any():
            break
        pictures = torch.where(reached, mean, pictures)
        known = known | reached
    return pictures
