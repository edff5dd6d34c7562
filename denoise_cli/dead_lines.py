"""Dead lines: rows or columns of a sensor that have the same value from edge to edge."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .transforms import distinct_planes

# Nearly all samples of a dead line are the same, as nearly none of a noisy one are, and it is no
# wider than two. What has more such lines, or neighbors that are like the next sample in as many
# places, is drawn.
SAME, WIDEST, MOST_LINES, MOST_ALIKE = 0.97, 2, 0.05, 0.6
EDGE = 8  # lines, of which scans have such as a frame


def are_in(pictures: Tensor) -> bool:
    """Whether `pictures` (N, C, Y, X) have rows or columns that are dead."""
    both = (pictures, pictures.transpose(-2, -1))
    return any(bool(_dead(each)[:, EDGE:-EDGE].any()) for each in both)


def filled(pictures: Tensor) -> Tensor:
    """`pictures` (N, C, Y, X) with the mean of the lines beside them in place of dead ones."""
    for _ in range(2):
        pictures = _filled_rows(pictures.float()).transpose(-2, -1)
    return pictures.contiguous(memory_format=torch.channels_last)


def _dead(pictures: Tensor) -> Tensor:
    """Which rows of `pictures` are dead (N, Y)."""
    planes = distinct_planes(pictures)
    rows, columns = planes.shape[-2:]
    if min(rows, columns) <= 2 * EDGE:
        return torch.zeros(len(planes), rows, dtype=torch.bool, device=planes.device)
    alike = (planes[..., 1:] == planes[..., :-1]).float().mean(dim=-1).amax(dim=1)
    drawn = alike > MOST_ALIKE
    if not drawn.any():
        return drawn
    lines = planes.transpose(1, 2)[drawn]
    middle = lines.median(dim=-1, keepdim=True).values
    same = torch.zeros_like(drawn)
    same[drawn] = ((lines == middle).float().mean(dim=-1) > SAME).all(dim=1)
    # Of more than so many lines together each belongs to an area.
    wide = F.avg_pool1d(drawn[:, None].float(), WIDEST + 1, stride=1) == 1
    wide = F.max_pool1d(F.pad(wide.float(), (WIDEST, WIDEST)), WIDEST + 1, stride=1)[:, 0] > 0
    dead = same & ~wide
    few = dead.sum(dim=1, keepdim=True) <= MOST_LINES * rows
    return dead & few


def _filled_rows(pictures: Tensor) -> Tensor:
    dead = _dead(pictures)
    if not dead.any():
        return pictures
    result = pictures.clone()
    for picture, which in zip(result, dead, strict=True):
        good, rows = (~which).nonzero().flatten(), which.nonzero().flatten()
        after = torch.searchsorted(good, rows)
        # Those at the edge of a part have a line on one side alone.
        above, below = (good[k.clamp(0, len(good) - 1)] for k in (after - 1, after))
        share = ((rows - above) / (below - above).clamp(min=1)).clamp(0, 1).to(picture)[:, None]
        picture[:, rows] = picture[:, above] * (1 - share) + picture[:, below] * share
    return result
