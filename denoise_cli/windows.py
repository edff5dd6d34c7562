"""Means of the windows around each pixel, at the edges of what there is of them; blank places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def window_mean(pictures: Tensor, rows: int, columns: int) -> Tensor:
    """Means of windows of `rows` x `columns` pixels, odd numbers, in `pictures` (N, C, Y, X)."""
    around = (rows // 2, columns // 2)
    return F.avg_pool2d(pictures, (rows, columns), 1, around, count_include_pad=False)


def square_mean(pictures: Tensor, side: int) -> Tensor:
    """The same of squares: rows first, then columns, which is quicker for large ones."""
    return window_mean(window_mean(pictures, 1, side), side, 1)


def square_variance(pictures: Tensor, side: int) -> Tensor:
    """The variances of squares around each pixel of `pictures` (N, C, Y, X)."""
    return square_mean(pictures.square(), side) - square_mean(pictures, side) ** 2


def blank(pictures: Tensor) -> Tensor:
    """Where `pictures` (N, C, Y, X) are as their neighbors, in all channels (N, Y, X).

    As the two above and before them, at the upper and left edge as those that there are.
    """
    alike = torch.ones_like(pictures[:, 0], dtype=torch.bool)
    for dim in (-2, -1):
        count = pictures.shape[dim] - 1
        same = pictures.narrow(dim, 1, count) == pictures.narrow(dim, 0, count)
        alike.narrow(dim, 1, count).logical_and_(same.all(dim=1))
    return alike
