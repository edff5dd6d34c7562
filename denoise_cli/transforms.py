"""Orthonormal transforms, as matrices: noise that is white before them is white after them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def cosines(size: int) -> Tensor:
    """The discrete cosine transform of `size` samples: (frequencies, samples)."""
    from scipy.fft import dct

    return torch.from_numpy(dct(np.eye(size), norm="ortho", axis=0)).float()


def block_energies(pictures: Tensor, size: int, stride: int) -> Tensor:
    """The energy of each frequency in blocks of `pictures` (N, C, Y, X): (N, C, K, size, size)."""
    with torch.autocast(pictures.device.type, enabled=False):
        blocks = pictures.float().unfold(-2, size, stride).unfold(-2, size, stride)
        cosine = cosines(size).to(blocks)
        return (cosine @ blocks @ cosine.T).square().flatten(2, 3)


def opponent(channels: int) -> Tensor:
    """Colors to brightness and two differences of colors; other `channels` stay as they are."""
    if channels != 3:
        return torch.eye(channels)
    matrix = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [0.5, -1.0, 0.5]])
    return matrix / matrix.norm(dim=1, keepdim=True)


def beside_and_below(windows: Tensor) -> tuple[Tensor, Tensor]:
    """The mean products of neighbors in `windows` (..., Y, X), along the rows and the columns."""
    beside = (windows[..., 1:] * windows[..., :-1]).mean()
    return beside, (windows[..., 1:, :] * windows[..., :-1, :]).mean()


def is_gray(pictures: Tensor) -> bool:
    """Whether all channels of `pictures` (N, C, Y, X) are the same."""
    return all(torch.equal(pictures[:, 0], other) for other in pictures.unbind(1)[1:])


def distinct_planes(pictures: Tensor) -> Tensor:
    """The channels of `pictures` (N, C, Y, X) that differ: of gray ones the first alone."""
    return pictures[:, :1] if is_gray(pictures) else pictures


def as_gray_as(pictures: Tensor, others: Tensor) -> Tensor:
    """`pictures` (N, C, Y, X), their channels averaged where those of `others` are the same."""
    return pictures.mean(dim=1, keepdim=True).expand_as(pictures) if is_gray(others) else pictures


def filled_up(pictures: Tensor, multiple: int) -> Tensor:
    """`pictures` (N, C, Y, X) with the last line again, up to sides of that `multiple`."""
    rows, columns = pictures.shape[-2:]
    whole = F.pad(pictures, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")
    return whole.contiguous(memory_format=torch.channels_last)


def of_any_size(network: Any, pictures: Tensor) -> Tensor:
    """What `network` makes of `pictures` (N, C, Y, X) with sides of any number of pixels."""
    rows, columns = pictures.shape[-2:]
    denoised: Tensor = network(filled_up(pictures.float(), network.multiple_of)).float()
    return denoised[..., :rows, :columns]
