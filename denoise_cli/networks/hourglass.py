"""The hourglass of masked pre-training (MPI): it fills in hidden pixels from the visible ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Hourglass(nn.Module):
    """Encoder-decoder with a skip branch at each scale (747,395 parameters by default).

    Source: Ma et al., "Masked Pre-training Enables Universal Zero-shot Denoiser", NeurIPS 2024,
    whose network is that of Ulyanov et al., "Deep Image Prior", CVPR 2018, at 64 channels.

    The input is the masked picture and its mask along the channels: 3 + 3 with a mask for each
    channel, 3 + 1 with one for all (746,115 parameters). The authors always run it in training
    mode, where batch normalization uses the statistics of the picture at hand.
    """

    multiple_of = 1

    def __init__(
        self, inputs: int = 6, channels: int = 3, width: int = 64, scales: int = 5
    ) -> None:
        super().__init__()
        self.config = {"inputs": inputs, "channels": channels, "width": width, "scales": scales}
        # Below, the deepest map has one pixel, which can be neither mirrored nor normalized.
        self.minimum = 2**scales + 1
        levels = [_Scale(width if level else inputs, width) for level in range(scales)]
        self.scales = nn.ModuleList(levels)
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, masked: Tensor) -> Tensor:
        """Fill in `masked` (N, inputs, Y, X); the result is (N, channels, Y, X) on 0..1."""
        x, skips = masked, []
        scales: list[_Scale] = list(self.scales)  # type: ignore[arg-type]
        for scale in scales:
            skips.append(scale.skip(x))
            x = scale.down(x)
        for scale in reversed(scales):
            skip = skips.pop()
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            # Of odd sides the way down rounds up, so the way up may be a row or column longer.
            x = x[..., : skip.shape[-2], : skip.shape[-1]]
            x = scale.join(torch.cat([skip, x], dim=1))
        return torch.sigmoid(self.last(x))


class _Scale(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.skip = _block(inputs, width, 1)
        self.down = nn.Sequential(*_block(inputs, width, 3, stride=2), *_block(width, width, 3))
        self.join = nn.Sequential(
            nn.BatchNorm2d(2 * width), *_block(2 * width, width, 3), *_block(width, width, 1)
        )


def _block(i: int, o: int, size: int, stride: int = 1) -> nn.Sequential:
    padding = size // 2
    return nn.Sequential(
        nn.Conv2d(i, o, size, stride, padding, padding_mode="reflect" if padding else "zeros"),
        nn.BatchNorm2d(o),
        nn.LeakyReLU(0.2),
    )
