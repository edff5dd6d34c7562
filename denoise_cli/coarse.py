"""Noise that is coarser than a network knows: at half the size it knows it, and takes it away."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .transforms import filled_up
from .validation import WINDOW, noise_left

# Of the variance that flat places hold at half the size, a network must leave this share where it
# has seen the whole picture, and at most this part of that where it has seen the small one. Chosen
# on 224 parts of training photos under fourteen kinds of noise; of 126 others, eleven have coarse
# noise by that, and all gain.
LEFT, LESS = 0.01, 0.25
SMALLEST_SIDE = 192  # of less, a few stars are much of the flat places at half the size


@torch.no_grad()
def halvings(network: Any, part: Tensor, denoised: Tensor) -> int:
    """How often `part` (N, C, Y, X) must be halved until `network` knows its noise; 0 if it does.

    `denoised` is what it makes of that part. Noise that spreads over several pixels, as of pictures
    that were made larger, is a part of the picture to a network that knows finer noise. Texture is
    that at half the size, too.
    """
    if min(part.shape[-2:]) < SMALLEST_SIDE:
        return 0
    rows, columns = (side - side % (2 * network.multiple_of) for side in part.shape[-2:])
    small, left = (_half(each[..., :rows, :columns].float()) for each in (part, denoised))
    known = network(small).float()
    before, after = (noise_left(small, each, WINDOW) for each in (left, known))
    is_coarse = before > LEFT * noise_left(small, small, WINDOW) and after < LESS * before
    return 1 + halvings(network, small, known) if is_coarse else 0


def without(network: Any, times: int, pictures: Tensor) -> Tensor:
    """`pictures` (N, C, Y, X), halved so many `times`, without what `network` then takes away.

    What is finer stays as it was, and so does its noise. Sides of any number of pixels.
    """
    if not times:
        return pictures
    rows, columns = pictures.shape[-2:]
    whole = filled_up(pictures.float(), 2 * network.multiple_of)
    small = _half(whole)
    removed = small - network(without(network, times - 1, small)).float()
    removed = F.interpolate(removed, scale_factor=2, mode="bicubic", align_corners=False)
    less = (whole - removed)[..., :rows, :columns]
    return less.contiguous(memory_format=torch.channels_last)


def _half(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, 2).contiguous(memory_format=torch.channels_last)
