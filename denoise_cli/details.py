"""Details that a denoiser took away with the noise, given back.

An ideal denoiser f of y = x + n, with noise n of variance v, removes less than all the noise, so
that the energy R of what it removed, y - f(y), is below v. Where R is above v, details are in it.
If a share k of it is given back, the error is (1 - k)^2 |f - x|^2 + k^2 v + 2 k (1 - k) <n, f - x>,
and R = |f - x|^2 + v - 2 <n, f - x>: the error is least at k = 1 - (v - <n, f - x>) / R. The last
product, the noise that is left, is not known; without it too little is given back, not too much.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import noise_level
from .noise_level import NoiseLevel
from .windows import square_mean

WINDOW = 17
# Chosen on training photos under white noise, where next to nothing is to be given back: what the
# energy of a window is off by chance.
MARGIN = 0.15
ALONE, STANDS_OUT = 6.0, 2.0  # an impulse: in deviations of the noise, and in what is beside it


def give_back(noisy: Tensor, denoised: Tensor, variance: float) -> Tensor:
    """`denoised` with the details that are in `noisy` alone; all of them (N, C, Y, X).

    `variance` is that of the noise of `noisy`, which is white. Where samples are clipped, and where
    an impulse was removed, nothing is given back.
    """
    removed = noisy - denoised
    removed = removed * ~_impulses(removed, variance)
    energy = square_mean(removed.square(), WINDOW).clamp(min=1e-12)
    share = (1 - (1 + MARGIN) * variance / energy).clamp(min=0)
    return denoised + share * noise_level.trusted(noisy, NoiseLevel(read=variance)) * removed


def _impulses(removed: Tensor, variance: float) -> Tensor:
    """Where a single sample that stands out of its neighbors was removed."""
    size = removed.abs()
    wide = F.pad(size, (1, 1, 1, 1))
    beside = torch.maximum(wide[..., 1:-1, :-2], wide[..., 1:-1, 2:])
    rows = F.max_pool2d(wide, (1, 3), 1)
    around = torch.maximum(beside, torch.maximum(rows[..., :-2, :], rows[..., 2:, :]))
    return (size > ALONE * variance**0.5) & (size > STANDS_OUT * around)
