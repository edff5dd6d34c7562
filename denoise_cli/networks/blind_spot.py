"""A network that sees all but the pixel it predicts, and so can be judged by the noisy picture."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BlindSpot(nn.Module):
    """Four half-plane U-Nets in one, joined by 1x1 convolutions (1,118,832 parameters for gray).

    Source: Laine et al., "High-quality self-supervised deep image denoising", NeurIPS 2019, section
    3, in the bias-free form of the authors of GainTuning (Sheth et al., "Unsupervised deep video
    denoising", ICCV 2021). Every layer looks upward only, the last shift leaves out the row itself,
    and the same weights see the picture from its four sides: together they see all but the pixel
    in the middle. Differs from those: sides need not be equal, since upright and turned pictures
    are two batches, nor multiples of 4, since zeros are added, which do not reveal a pixel as
    mirrored ones would.
    """

    multiple_of = 1
    minimum = 8  # less shows too little but the pixel itself
    # The squared error against the noisy picture itself is a fair loss, without masks.
    blind_spot = True
    tile_bytes = 7400  # a pixel; see `denoise_cli.memory`

    def __init__(self, channels: int = 1, width: int = 48) -> None:
        super().__init__()
        self.config = {"channels": channels, "width": width}
        wide = 2 * width
        self.first = _convolutions(channels, width, width, width)
        self.second = _convolutions(width, width, width, width)
        self.bottom = _convolutions(width, wide, wide, width)
        self.up_second = _convolutions(2 * width, wide, wide, wide, wide)
        self.up_first = _convolutions(wide + channels, wide, wide, wide, wide)
        self.join = nn.Sequential(
            nn.Conv2d(4 * wide, 4 * wide, 1, bias=False),
            nn.LeakyReLU(0.1),
            nn.Conv2d(4 * wide, wide, 1, bias=False),
            nn.LeakyReLU(0.1),
        )
        self.last = nn.Conv2d(wide, channels, 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise `noisy` (N, C, Y, X) of any size; the result has the same shape."""
        rows, columns = noisy.shape[-2:]
        picture = F.pad(noisy, (0, -columns % 4, 0, -rows % 4))
        sides: list[Tensor] = []
        for turn in (0, 1):
            pair = [torch.rot90(picture, turns, dims=(2, 3)) for turns in (turn, turn + 2)]
            seen = self._above(torch.cat(pair)).chunk(2)
            sides += [
                torch.rot90(part, -turns, dims=(2, 3))
                for part, turns in zip(seen, (turn, turn + 2), strict=True)
            ]
        denoised: Tensor = self.last(self.join(torch.cat(sides, dim=1)))
        return denoised[..., :rows, :columns]

    def _above(self, pictures: Tensor) -> Tensor:
        """Features of `pictures` (N, C, Y, X) that depend, at each pixel, on the rows above it."""
        half = _pool(self.first(pictures))
        x = self.bottom(_pool(self.second(half)))
        x = self.up_second(torch.cat([_enlarge(x), half], dim=1))
        x = self.up_first(torch.cat([_enlarge(x), pictures], dim=1))
        return _down(x)


class _UpwardConv(nn.Conv2d):
    """A 3x3 convolution of a pixel's own row and the two above it."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Nothing is above the first row; beside the others their last pixels go on.
        x = F.pad(F.pad(x, (0, 0, 2, 0)), (1, 1, 0, 0), mode="replicate")
        return super().forward(x)


def _convolutions(*channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in pairwise(channels):
        layers += [_UpwardConv(i, o), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


def _down(x: Tensor) -> Tensor:
    """`x` one row further down, zeros above it."""
    return F.pad(x, (0, 0, 1, -1))


def _pool(x: Tensor) -> Tensor:
    """Half the size; unshifted, a pair of rows would tell its first about its second."""
    return F.max_pool2d(_down(x), 2)


def _enlarge(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
