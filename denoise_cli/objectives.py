"""Losses of a picture against itself: shared by training and by adaptation."""

from __future__ import annotations

from torch import Tensor


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over the pixels that `mask` (N, 1, Y, X; 1 = visible) hides.

    TTT-MIM, eq. 3 (`target` = noisy picture) and eq. 5 (`target` = pseudo-clean picture).
    """
    hidden = 1 - mask
    total = ((prediction - target).abs() * hidden).sum()
    return total / (hidden.sum() * prediction.shape[1]).clamp(min=1)
