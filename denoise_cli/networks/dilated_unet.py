"""A U-Net of one level with dilated convolutions, for gray pictures; the base of GainTuning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DilatedUNet(nn.Module):
    """Nine convolutions around one skip, without normalization (233,440 parameters by default).

    Source: the UNet of Mohan et al., "Robust and interpretable blind image denoising via bias-free
    CNNs", ICLR 2020. The published ones predict the picture; with ``residual`` it is the noise.
    Odd sides get a row or column of zeros, as in the authors' code.
    """

    multiple_of = 2
    minimum = 2

    def __init__(self, channels: int = 1, bias: bool = True, residual: bool = False) -> None:
        super().__init__()
        self.config = {"channels": channels, "bias": bias, "residual": residual}
        self.residual = residual
        self.first = nn.Conv2d(channels, 32, 5, padding=2, bias=bias)
        self.skip = nn.Conv2d(32, 32, 3, padding=1, bias=bias)
        self.down = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=bias)
        self.middle = nn.ModuleList(
            nn.Conv2d(64, 64, 3, padding=dilation, dilation=dilation, bias=bias)
            for dilation in (1, 2, 4)
        )
        self.up = nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1, bias=bias)
        self.join = nn.Conv2d(96, 32, 3, padding=1, bias=bias)
        self.last = nn.Conv2d(32, channels, 5, padding=2, bias=False)

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise `noisy` (N, C, Y, X) of any size; the result has the same shape."""
        rows, columns = noisy.shape[-2:]
        noisy = F.pad(noisy, (0, columns % 2, 0, rows % 2))
        skip = F.relu(self.skip(F.relu(self.first(noisy))))
        x = F.relu(self.down(skip))
        for conv in self.middle:
            x = F.relu(conv(x))
        x = F.relu(self.join(torch.cat([F.relu(self.up(x)), skip], dim=1)))
        x = self.last(x)
        return (noisy - x if self.residual else x)[..., :rows, :columns]
