"""Gray pictures that are the mosaic of a color sensor, as industrial cameras write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .transforms import distinct_planes, is_gray

# The filters come again after two pixels. What samples that far apart have in common, and those
# between them have not, is the color around: over so many of them down and across.
PERIOD, SAMPLES = 2, 5
# Of 1072 photos and micrographs turned gray none has more than 1.9 times as much in common at two
# pixels as at three; mosaics have 15 times and more, down to 2 where there is next to no color.
OTHER_PERIOD, LEAST_TIMES, LEAST_COLOR = 3, 5.0, 1 / 255


def is_mosaic(pictures: Tensor) -> bool:
    """Whether `pictures` (N, C, Y, X) are mosaics: gray, with a color at every second pixel.

    Never demosaiced: the values of red, green and blue filters stand side by side.
    """
    if not is_gray(pictures) or min(pictures.shape[-2:]) <= OTHER_PERIOD * SAMPLES:
        return False
    planes = distinct_planes(pictures).float()
    color, other = (
        float(_in_common(planes, period).square().mean()) for period in (PERIOD, OTHER_PERIOD)
    )
    return color > max(LEAST_TIMES * other, LEAST_COLOR**2)


def colors(pictures: Tensor) -> Tensor:
    """How much brighter or darker the color around each sample of mosaics (N, C, Y, X) is.

    Without it they are gray pictures as finely resolved as the sensor, and white noise stays white.
    """
    return _in_common(distinct_planes(pictures).float(), PERIOD).expand_as(pictures)


def _in_common(planes: Tensor, period: int) -> Tensor:
    """What samples of `planes` (N, 1, Y, X) so far apart have in common beside all around them."""
    reach, share = period * (SAMPLES // 2), SAMPLES**-2
    # A mean in which each place of the pattern counts alike.
    side = torch.ones(period + 1 - period % 2, device=planes.device)
    if period % 2 == 0:
        side[0] = side[-1] = 0.5
    weights = (side[:, None] * side / period**2)[None, None]
    with torch.autocast(planes.device.type, enabled=False):
        around = F.pad(planes, (reach,) * 4, mode="reflect")
        own = F.conv2d(around, planes.new_full((1, 1, SAMPLES, SAMPLES), share), dilation=period)
        return own - F.conv2d(F.pad(own, (period // 2,) * 4, mode="reflect"), weights)
