"""The eight orientations of a picture: turned by quarters, and mirrored."""

from __future__ import annotations

import torch
from torch import Tensor

ORIENTATIONS = 8


def turned(pictures: Tensor, orientation: int) -> Tensor:
    """`pictures` (..., Y, X) in one of the eight orientations, 0 to 7; 0 is as they are."""
    turns, mirrored = divmod(orientation, 2)
    pictures = torch.rot90(pictures, turns, (-2, -1))
    return pictures.flip(-1) if mirrored else pictures


def turned_back(pictures: Tensor, orientation: int) -> Tensor:
    """The inverse of `turned`."""
    turns, mirrored = divmod(orientation, 2)
    pictures = pictures.flip(-1) if mirrored else pictures
    return torch.rot90(pictures, -turns, (-2, -1))
